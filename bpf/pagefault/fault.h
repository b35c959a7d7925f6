/* SPDX-License-Identifier: GPL-2.0 */
/* What all ways of seeing faults share: one begins, or is done. */
#ifndef TELEPIPE_PAGEFAULT_FAULT_H
#define TELEPIPE_PAGEFAULT_FAULT_H

#include "begun.h"
#include "count.h"
#include "event.h"

static __always_inline void begin(__u64 address, __u64 ip, __u32 flags)
{
	struct task_struct *task = current_task();

	/*
	 * Whoever reads user memory where it may not wait (a profiler's interrupt, another BPF
	 * program) is in an exception too, which fails at once. It may lie inside a fault. The
	 * helper that reads it adds one of its own for as long as it reads.
	 */
	if (READ(TYPED, task, pagefault_disabled) > (TYPED ? 0 : 1))
		return;
	if (!task_asked_for(task, TYPED)) {
		/* A thread may have had another name or user when one began that then failed. */
		struct begun *begun = begun_here();

		if (begun)
			forget(begun);
		return;
	}
	note(false, address, ip, flags);
}

static __always_inline int end(struct begun *begun, bool major)
{
	__u64 now, ns;
	__u32 flags;

	now = bpf_ktime_get_ns();
	ns = now - begun->ns;
	flags = begun->flags | (major ? MAJOR : 0);
	if (summary)
		count(ns, flags);
	if (processes)
		count_process(ns, major);
	if (events && (major || ns >= min_ns))
		submit_event(now, begun, flags);
	forget(begun);
	return 0;
}

#endif
