/* SPDX-License-Identifier: GPL-2.0 */
/* Calls that are not over: an iterator over all tasks looks for them. */
#ifndef TELEPIPE_SYSCALL_STUCK_H
#define TELEPIPE_SYSCALL_STUCK_H

#include "../files.h"
#include "../regs.h"
#include "call.h"

/* Set before loading. */
const volatile __u64 stuck_ns;

/* Shared with user space while running. */
volatile __u64 watched_since; /* no call that began later has escaped us */

/* As src/bpf/syscall/layout.rs reads it. */
struct stuck {
	__u64 begin_ns; /* 0: before watched_since */
	__u64 now_ns;
	__u64 args[CALL_ARGS];
	__s32 nr;
	__u32 state; /* of the task */
	__u8 compat;
	__u8 fd_type;
	__u8 pad[6];
	struct task_id task;
};

#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)

struct seq_file;

struct bpf_iter_meta {
	struct seq_file *seq;
};

struct bpf_iter__task {
	struct bpf_iter_meta *meta;
	struct task_struct *task;
};

struct task_struct___state {
	__s64 state; /* until 5.13 */
	__u32 __state;
	__u32 flags;
	__s32 exit_state;
};

#pragma clang attribute pop

#define TASK_SLEEPS 3 /* interruptible or not, and neither stopped nor traced */
#define TASK_STOPPED 12
#define NO_USER_SIDE 0x204010 /* PF_KTHREAD, PF_USER_WORKER, PF_IO_WORKER */

static __always_inline __u32 state_of(struct task_struct *task)
{
	struct task_struct___state *holder = (void *)task;

	if (bpf_core_field_exists(holder->__state))
		return READ(false, holder, __state);
	return READ(false, holder, state);
}

/* Fills in a call that began before we looked; false if the task is in none. */
static __always_inline bool begun_before(struct stuck *stuck, struct task_struct *task,
					 struct pt_regs *regs)
{
	struct task_struct___state *holder = (void *)task;
	long nr;

	/* A task that runs has left in its registers whatever it did last. */
	if (!(stuck->state & TASK_SLEEPS) || stuck->state & TASK_STOPPED ||
	    READ(false, holder, flags) & NO_USER_SIDE)
		return false;
	nr = call_number(regs);
	if (nr < 0)
		return false;
	stuck->begin_ns = 0;
	stuck->nr = nr;
	stuck->compat = is_compat(task, false);
	return task_asked_for(task, false) && stuck->now_ns - watched_since >= stuck_ns;
}

static __always_inline bool begun_since(struct stuck *stuck, struct call *call, struct pt_regs *regs)
{
	stuck->begin_ns = call->begin_ns;
	stuck->nr = call->nr;
	stuck->compat = call->compat;
	barrier();
	/* Another call, if it returned just now; and none, if its exit escaped us. */
	if (!stuck->begin_ns || stuck->begin_ns != *(volatile __u64 *)&call->begin_ns ||
	    call_number(regs) != stuck->nr)
		return false;
	return stuck->begin_ns < stuck->now_ns && stuck->now_ns - stuck->begin_ns >= stuck_ns;
}

static __always_inline int look(struct bpf_iter__task *ctx, struct task_struct *task, struct call *call)
{
	struct task_struct___state *holder = (void *)task;
	struct stuck stuck = { .now_ns = bpf_ktime_get_ns() };
	struct pt_regs *regs = regs_of(task);
	__u8 kind;

	if (READ(false, holder, exit_state))
		return 0;
	stuck.state = state_of(task);
	if (!(call ? begun_since(&stuck, call, regs) : begun_before(&stuck, task, regs)))
		return 0;
	kind = choice[index_of(stuck.nr, stuck.compat)];
	if (!(kind & CHOSEN) || (!waits && kind & WAITS))
		return 0;
	if (call && kind & EXEC)
		recall(stuck.args, call);
	else
		call_args(stuck.args, regs, stuck.compat, false);
	if (kind & BY_FILE)
		stuck.fd_type = fd_type_of(task, stuck.args[0]);
	if (!waits && (stuck.fd_type || shared_waits(kind, stuck.args[0])))
		return 0;
	task_describe(&stuck.task, task, false);
	bpf_seq_write(ctx->meta->seq, &stuck, sizeof(stuck));
	return 0;
}

SEC("iter/task")
int each_task(struct bpf_iter__task *ctx)
{
	struct task_struct *task = ctx->task;

	return task ? look(ctx, task, call_of(task, READ(false, task, pid))) : 0;
}

#endif
