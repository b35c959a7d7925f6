/* SPDX-License-Identifier: GPL-2.0 */
/* A wait that was as long as min_ns, told by itself. */
#ifndef TELEPIPE_SCHEDLAT_EVENT_H
#define TELEPIPE_SCHEDLAT_EVENT_H

#include "../kernel.h"
#include "../map.h"
#include "../task.h"

/* As src/bpf/schedlat/layout.rs reads it. */
struct event {
	__u64 end_ns;
	__u64 wait_ns;
	__u32 cpu;
	__u32 prev_pid;
	char prev_comm[COMM_LEN];
	struct task_id task;
};

static __always_inline void submit_event(__u64 now, __u64 ns, struct task_struct *prev, struct task_struct *next,
					 bool direct)
{
	struct event *event = RING_RESERVE(struct event);

	if (!event)
		return;
	event->end_ns = now;
	event->wait_ns = ns;
	event->cpu = bpf_get_smp_processor_id();
	event->prev_pid = READ(direct, prev, tgid);
	bpf_core_read(event->prev_comm, COMM_LEN, &prev->comm);
	task_describe(&event->task, next, direct);
	ring_submit(event, false);
}

#endif
