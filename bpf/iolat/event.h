/* SPDX-License-Identifier: GPL-2.0 */
/* A request that took as long as min_ns, told by itself. */
#ifndef TELEPIPE_IOLAT_EVENT_H
#define TELEPIPE_IOLAT_EVENT_H

#include "../map.h"
#include "times.h"

/* As src/bpf/iolat/layout.rs reads it. */
struct event {
	__u64 end_ns;
	__u64 total_ns;
	__u64 device_ns;
	__u64 queue_ns;
	__u64 sector;
	__u32 bytes;
	__u32 device;
	__s32 error;
	__u8 op;
	__u8 split; /* device_ns and queue_ns are known */
	__u8 pad[2];
	struct task_id task;
};

RING_EVENT(struct event);

static __always_inline void submit_event(struct times *t, struct request *rq, __u32 device, __u32 op,
					 __u32 bytes, int error, struct pending *p, bool direct)
{
	struct event *event = RING_RESERVE(struct event);

	if (!event)
		return;
	event->end_ns = t->end_ns;
	event->total_ns = t->total_ns;
	event->device_ns = t->device_ns;
	event->queue_ns = t->queue_ns;
	event->sector = READ(direct, rq, __sector);
	event->bytes = bytes;
	event->device = device;
	event->error = error;
	event->op = op;
	event->split = t->split;
	event->task.known = 0;
	if (with_task && p)
		event->task = p->task;
	ring_submit(event, false);
}

#endif
