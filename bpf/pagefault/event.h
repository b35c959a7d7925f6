/* SPDX-License-Identifier: GPL-2.0 */
/* A fault that was major, or took as long as min_ns, told by itself. */
#ifndef TELEPIPE_PAGEFAULT_EVENT_H
#define TELEPIPE_PAGEFAULT_EVENT_H

#include "begun.h"
#include "../map.h"
#include "../task.h"

/* Set before loading. */
const volatile bool at_once; /* wake the reader for each event: what it looks up is soon gone */

/* As src/bpf/pagefault/layout.rs reads it. */
struct event {
	__u64 end_ns;
	__u64 duration_ns;
	__u64 address;
	__u64 ip;
	__u32 flags;
	__u32 cpu;
	struct task_id task;
};

static __always_inline void submit_event(__u64 now, struct begun *begun, __u32 flags)
{
	struct event *event = RING_RESERVE(struct event);

	if (!event)
		return;
	event->end_ns = now;
	event->duration_ns = now - begun->ns;
	event->address = begun->address;
	event->ip = begun->ip;
	event->flags = flags;
	event->cpu = bpf_get_smp_processor_id();
	task_describe(&event->task, current_task(), TYPED);
	ring_submit(event, at_once);
}

#endif
