// SPDX-License-Identifier: GPL-2.0
/*
 * System calls: those that took long, all of them counted, and those that do not return.
 *
 * Two hooks, at the entry and the exit of every call. The entry leaves the time in the
 * task's own slot; the exit takes it out again, so that a time is never paired with
 * another call: an exit without an entry (a child that returns from clone, a call that
 * began before we did) counts nothing, and a task that ends inside a call takes its time
 * with it. exec by any thread of a process is one call of one task. An iterator over all
 * tasks finds the calls that are not over.
 */
#include "kernel.h"
#include "syscall/call.h"
#include "syscall/count.h"
#include "syscall/event.h"
#include "syscall/stuck.h"

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
		tell(call, now, ns, task, regs, ret, direct);
}

static __always_inline int entered(__u64 *ctx, bool direct)
{
	struct task_struct *task = current_task();
	__u32 tid = (__u32)bpf_get_current_pid_tgid();
	bool compat = is_compat(task, TYPED);
	__u8 kind = follow(task, ctx[1], compat, TYPED);
	struct call *task_slot;

	if (!(kind & CHOSEN))
		return 0;
	/* exec gives the thread the number of its process: it has returned when its slot is another's. */
	task_slot = kind & EXEC ? NULL : task_slot_of(tid);
	if (task_slot && (task_slot_owned_by(&task_slot->task_slot, tid) || task_slot_claim(&task_slot->task_slot, tid)))
		begin(task_slot, ctx[1], compat);
	else
		begin_in_map(task, kind, (struct pt_regs *)ctx[0], ctx[1], compat, direct);
	return 0;
}

static __always_inline int left(__u64 *ctx, bool direct)
{
	struct task_struct *task = current_task();
	struct call *call = call_of(task, (__u32)bpf_get_current_pid_tgid());

	end(call, task, (struct pt_regs *)ctx[0], (long)ctx[1], direct);
	if (call && !call->task_slot.owner && choice[index_of(call->nr, call->compat)] & EXEC)
		forget_in_map(task);
	return 0;
}

/* The next thread may have the number or the address of one that has ended, maybe inside a call. */
SEC("raw_tp/sched_process_exit")
int forget(__u64 *ctx)
{
	__u32 tid = (__u32)bpf_get_current_pid_tgid();
	struct call *task_slot = task_slot_of(tid);

	(void)ctx;
	if (task_slot && task_slot_owned_by(&task_slot->task_slot, tid)) {
		*(volatile __u64 *)&task_slot->begin_ns = 0;
		task_slot_release(&task_slot->task_slot, tid, 0);
	}
	forget_in_map(current_task());
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

char LICENSE[] SEC("license") = "GPL";
