// SPDX-License-Identifier: GPL-2.0
/*
 * Run-queue latency: how long tasks that could run have waited for a CPU.
 *
 * A wait begins when a task is woken, or is taken off its CPU while it could go on; it
 * ends when the task is switched to. All hooks run with interrupts off and count in
 * arrays of their own CPU, so that nothing here is atomic.
 */
#include "kernel.h"
#include "task.h"
#include "schedlat/state.h"
#include "schedlat/wait.h"
#include "schedlat/runq.h"
#include "schedlat/event.h"
#include "schedlat/stint.h"

/* Shared with user space while running. */
__u64 negative; /* waits that seem to have ended before they began: discarded */

/* state is what prev left in: 0 if it could go on. */
static __always_inline int switched(bool preempt, struct task_struct *prev, struct task_struct *next, long state,
				    bool direct)
{
	__u64 now = bpf_ktime_get_ns(), since, ns = 0;
	bool wanted = false;

	/* Whoever leaves with a signal pending is made runnable on the way. */
	if (preempt || !state || is_running(prev, direct)) {
		if (READ(direct, prev, pid) && task_asked_for(prev, direct))
			begin_wait(prev, state ? now | KEEP : now & ~KEEP, direct);
	}
	if (READ(direct, next, pid)) {
		since = end_wait(next, direct);
		/* Who waits was asked for when that began. */
		wanted = since || (processes && task_asked_for(next, direct));
		if (since > now) {
			COUNT(&negative, 1);
		} else if (since) {
			ns = now - since;
			count_wait(ns, prev, next, direct);
			if (events && ns >= min_ns)
				submit_event(now, ns, prev, next, direct);
		}
	}
	if (processes)
		account(now, prev, next, !preempt && state, ns, wanted, direct);
	return 0;
}

SEC("tp_btf/sched_switch")
int switch_btf(__u64 *ctx)
{
	struct task_struct *prev = (struct task_struct *)ctx[1];

	return switched((bool)ctx[0], prev, (struct task_struct *)ctx[2], state_of(ctx, prev, true), true);
}

SEC("raw_tp/sched_switch")
int switch_raw(__u64 *ctx)
{
	struct task_struct *prev = (struct task_struct *)ctx[1];

	return switched((bool)ctx[0], prev, (struct task_struct *)ctx[2], state_of(ctx, prev, false), false);
}

static __always_inline int woken(struct task_struct *task, bool is_new, bool direct)
{
	struct process *process;

	/* Woken before it went to sleep: it runs. */
	if (!is_new && on_cpu(task, direct))
		return 0;
	if (!task_asked_for(task, direct))
		return 0;
	begin_wait(task, bpf_ktime_get_ns() & ~KEEP, direct);
	if (processes && !is_new) {
		process = process_of(task, direct);
		if (process)
			process->wakeups++;
	}
	return 0;
}

SEC("tp_btf/sched_wakeup")
int wakeup_btf(__u64 *ctx)
{
	return woken((struct task_struct *)ctx[0], false, true);
}

SEC("raw_tp/sched_wakeup")
int wakeup_raw(__u64 *ctx)
{
	return woken((struct task_struct *)ctx[0], false, false);
}

SEC("tp_btf/sched_wakeup_new")
int wakeup_new_btf(__u64 *ctx)
{
	return woken((struct task_struct *)ctx[0], true, true);
}

SEC("raw_tp/sched_wakeup_new")
int wakeup_new_raw(__u64 *ctx)
{
	return woken((struct task_struct *)ctx[0], true, false);
}

static __always_inline int migrated(struct task_struct *task, bool direct)
{
	struct process *process;

	if (!task_asked_for(task, direct))
		return 0;
	process = process_of(task, direct);
	if (process)
		process->migrations++;
	return 0;
}

SEC("tp_btf/sched_migrate_task")
int migrate_btf(__u64 *ctx)
{
	return migrated((struct task_struct *)ctx[0], true);
}

SEC("raw_tp/sched_migrate_task")
int migrate_raw(__u64 *ctx)
{
	return migrated((struct task_struct *)ctx[0], false);
}

char LICENSE[] SEC("license") = "GPL";
