// SPDX-License-Identifier: GPL-2.0
/*
 * System calls: an event for each slow call, counters for all calls, and the calls that do not
 * return.
 *
 * Two hooks, at the entry and the exit of every call. The entry stores the time with the task and
 * the exit clears it, so that times of different calls are never paired: an exit without an entry
 * (a child that returns from clone, a call that began before the tracer) counts nothing. An
 * iterator over all tasks finds the calls in progress.
 */
#include "kernel.h"
#include "hist.h"
#include "map.h"
#include "regs.h"
#include "syscall.h"

#define SCALE 3

/* Set before loading. The verifier removes the code of what is off. */
const volatile bool summary;    /* count all calls */
const volatile __u32 shards;    /* a CPU counts in shard cpu % shards */
const volatile __u64 stuck_ns;  /* calls in progress for at least this long are stuck */

/* Shared with user space while running. */
volatile __u64 watched_since; /* the entries of all later calls were seen */

/* All calls with one number. */
struct call_counters {
	__u64 sum_ns;
	__u64 errors;
	__u32 buckets[HIST_BUCKETS(SCALE)];
};

/* halves x shards x NUMBERS native, then halves x NUMBERS 32-bit */
ARRAY_MAP(counters, 1, struct call_counters);

/* The longest call of each number, per CPU. */
ARRAY_MAP(longest, 1, __u64); /* halves x CPUs x 2 NUMBERS */

struct event {
	__u64 end_ns;
	__u64 duration_ns;
	__u64 args[CALL_ARGS];
	__s64 ret;
	__s32 nr;
	__u32 cpu;
	__u32 compat;
	enum fd_type fd_type;
	struct task_id task;
};

RING_EVENT(struct event);

/* A call in progress, as the iterator writes it. */
struct stuck {
	__u64 begin_ns; /* 0: before watched_since */
	__u64 now_ns;
	__u64 args[CALL_ARGS];
	__s32 nr;
	__u32 state; /* of the task */
	__u32 compat;
	enum fd_type fd_type;
	struct task_id task;
};

const struct stuck *iterator_output; /* unused: puts the type into BTF, for src/bpf/syscall */

static __always_inline void count(struct call *call, __u64 ns, long ret)
{
	__u32 index = index_of(call->nr, call->compat), half = active_half & 1, at;
	__u32 cpu = bpf_get_smp_processor_id(), bucket = HIST_COARSEN(hist_index(ns), SCALE);
	struct call_counters *counter;
	__u64 *max;

	/* Always true, but the verifier cannot see it. */
	barrier_var(bucket);
	bucket = bucket < HIST_BUCKETS(SCALE) ? bucket : 0;
	if (index < NUMBERS)
		at = (half * shards + (shards < cpus ? cpu % shards : cpu)) * NUMBERS + index;
	else
		at = (2 * shards + half) * NUMBERS + (index - NUMBERS);
	counter = bpf_map_lookup_elem(&counters, &at);
	if (!counter)
		return;
	COUNT(&counter->sum_ns, ns);
	COUNT(&counter->buckets[bucket], 1);
	if (ret < 0 && ret >= -4095)
		COUNT(&counter->errors, 1);
	at = (half * cpus + cpu) * 2 * NUMBERS + index;
	max = bpf_map_lookup_elem(&longest, &at);
	if (max && ns > *max)
		*max = ns;
}

/* Writes an event, unless the call waits by design. */
static __always_inline void submit_event(struct call *call, __u64 end, __u64 ns, struct task_struct *task,
					 struct pt_regs *regs, long ret, bool direct)
{
	__u8 flags = flags_of_calls[index_of(call->nr, call->compat)];
	enum fd_type fd_type = FD_OTHER;
	__u64 args[CALL_ARGS];
	struct event *event;

	if (!waits && flags & WAITS)
		return;
	if (flags & EXEC)
		saved_args(args, call);
	else
		call_args(args, regs, call->compat, direct);
	if (flags & WAITS_BY_FILE)
		fd_type = fd_type_of(task, args[0]);
	if (!waits && (fd_type || waits_by_arg(flags, args[0])))
		return;
	event = RING_RESERVE(struct event);
	if (!event)
		return;
	event->end_ns = end;
	event->duration_ns = ns;
	__builtin_memcpy(event->args, args, sizeof(args));
	event->ret = ret;
	event->nr = call->nr;
	event->cpu = bpf_get_smp_processor_id();
	event->compat = call->compat;
	event->fd_type = fd_type;
	task_describe(&event->task, task, TYPED);
	ring_submit(event, false);
}

static __always_inline void end(struct call *call, struct task_struct *task, struct pt_regs *regs,
				long ret, bool direct)
{
	__u64 now, ns;

	if (!call || !call->begin_ns)
		return;
	now = bpf_ktime_get_ns();
	ns = now - call->begin_ns;
	call->begin_ns = 0;
	if (summary)
		count(call, ns, ret);
	if (events && ns >= min_ns)
		submit_event(call, now, ns, task, regs, ret, direct);
}

static __always_inline int entered(__u64 *ctx, bool direct)
{
	struct task_struct *task = current_task();
	__u32 tid = (__u32)bpf_get_current_pid_tgid();
	bool compat = is_compat(task, TYPED);
	__u8 flags = flags_of(task, ctx[1], compat, TYPED);
	struct call *slot;

	if (!(flags & CHOSEN))
		return 0;
	/* exec can change the thread's number, and with it the slot that its exit looks in. */
	slot = flags & EXEC ? NULL : slot_of(tid);
	if (slot && (task_slot_owned_by(&slot->slot, tid) || task_slot_claim(&slot->slot, tid)))
		begin(slot, ctx[1], compat);
	else
		begin_hashed(task, flags, (struct pt_regs *)ctx[0], ctx[1], compat, direct);
	return 0;
}

static __always_inline int left(__u64 *ctx, bool direct)
{
	struct task_struct *task = current_task();
	struct call *call = call_of(task, (__u32)bpf_get_current_pid_tgid());

	end(call, task, (struct pt_regs *)ctx[0], (long)ctx[1], direct);
	if (call && !call->slot.owner && flags_of_calls[index_of(call->nr, call->compat)] & EXEC)
		delete_hashed(task);
	return 0;
}

SEC("tp_btf/sys_enter")
int enter_btf(__u64 *ctx)
{
	return entered(ctx, true);
}

SEC("tp_btf/sys_exit")
int exit_btf(__u64 *ctx)
{
	return left(ctx, true);
}

SEC("raw_tp/sys_enter")
int enter_raw(__u64 *ctx)
{
	return entered(ctx, false);
}

SEC("raw_tp/sys_exit")
int exit_raw(__u64 *ctx)
{
	return left(ctx, false);
}

/* Task numbers and addresses are reused: the next task must not find a call that never returned. */
SEC("raw_tp/sched_process_exit")
int thread_exit(__u64 *ctx)
{
	__u32 tid = (__u32)bpf_get_current_pid_tgid();
	struct call *slot = slot_of(tid);

	(void)ctx;
	if (slot && task_slot_owned_by(&slot->slot, tid)) {
		*(volatile __u64 *)&slot->begin_ns = 0;
		task_slot_release(&slot->slot, tid, 0);
	}
	delete_hashed(current_task());
	return 0;
}

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

/* include/linux/sched.h */
#define TASK_SLEEPS 3           /* interruptible or not */
#define TASK_STOPPED 12         /* stopped or traced */
#define NO_USER_SIDE 0x204010   /* PF_KTHREAD, PF_USER_WORKER, PF_IO_WORKER */

static __always_inline __u32 state_of(struct task_struct *task)
{
	struct task_struct___state *holder = (void *)task;

	if (bpf_core_field_exists(holder->__state))
		return READ(false, holder, __state);
	return READ(false, holder, state);
}

/* Fills in a call that began before the tracer, from the task's registers; false if there is none. */
static __always_inline bool began_before(struct stuck *stuck, struct task_struct *task, struct pt_regs *regs)
{
	struct task_struct___state *holder = (void *)task;
	long nr;

	/* The registers of a task that runs are those of its last entry to the kernel. */
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

static __always_inline bool began_since(struct stuck *stuck, struct call *call, struct pt_regs *regs)
{
	stuck->begin_ns = call->begin_ns;
	stuck->nr = call->nr;
	stuck->compat = call->compat;
	barrier();
	/* It may return meanwhile and another begin; or its exit was missed, and it is no call. */
	if (!stuck->begin_ns || stuck->begin_ns != *(volatile __u64 *)&call->begin_ns ||
	    call_number(regs) != stuck->nr)
		return false;
	return stuck->begin_ns < stuck->now_ns && stuck->now_ns - stuck->begin_ns >= stuck_ns;
}

static __always_inline int check_task(struct bpf_iter__task *ctx, struct task_struct *task, struct call *call)
{
	struct task_struct___state *holder = (void *)task;
	struct stuck stuck = { .now_ns = bpf_ktime_get_ns() };
	struct pt_regs *regs = regs_of(task);
	__u8 flags;

	if (READ(false, holder, exit_state))
		return 0;
	stuck.state = state_of(task);
	if (!(call ? began_since(&stuck, call, regs) : began_before(&stuck, task, regs)))
		return 0;
	flags = flags_of_calls[index_of(stuck.nr, stuck.compat)];
	if (!(flags & CHOSEN) || (!waits && flags & WAITS))
		return 0;
	if (call && flags & EXEC)
		saved_args(stuck.args, call);
	else
		call_args(stuck.args, regs, stuck.compat, false);
	if (flags & WAITS_BY_FILE)
		stuck.fd_type = fd_type_of(task, stuck.args[0]);
	if (!waits && (stuck.fd_type || waits_by_arg(flags, stuck.args[0])))
		return 0;
	task_describe(&stuck.task, task, false);
	bpf_seq_write(ctx->meta->seq, &stuck, sizeof(stuck));
	return 0;
}

SEC("iter/task")
int each_task(struct bpf_iter__task *ctx)
{
	struct task_struct *task = ctx->task;

	return task ? check_task(ctx, task, call_of(task, READ(false, task, pid))) : 0;
}

char LICENSE[] SEC("license") = "GPL";
