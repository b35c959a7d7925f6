/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Events on their way to user space: room in the ring buffer, what found none counted, and
 * the reader woken as rarely as will do. It looks by a timer too.
 */
#ifndef TELEPIPE_RING_H
#define TELEPIPE_RING_H

#include "kernel.h"

#define WAKE_RANGE (64 << 10) /* bytes above half of the buffer: more than all CPUs add at once */

/* Set before loading. */
const volatile bool events;     /* there are any */
const volatile __u64 min_ns;    /* what took so long is one */
const volatile __u64 ring_half; /* of the buffer, in bytes */

/* Shared with user space while running. */
__u64 lost_events; /* those that found the buffer full */

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 4096);
} ring SEC(".maps");

/* Room for an event; NULL, and counted, if there is none. */
#define RING_RESERVE(type)                                              \
	({                                                              \
		type *room_ = bpf_ringbuf_reserve(&ring, sizeof(type), 0); \
		if (!room_)                                             \
			COUNT(&lost_events, 1);                         \
		room_;                                                  \
	})

/*
 * The reader is woken when half is full, and only then: while it works off what is there,
 * each further wake-up costs more than all the rest. With at_once it is for each event.
 */
static __always_inline void ring_submit(void *event, bool at_once)
{
	__u64 above = bpf_ringbuf_query(&ring, BPF_RB_AVAIL_DATA) - ring_half;

	bpf_ringbuf_submit(event, at_once || above < WAKE_RANGE ? BPF_RB_FORCE_WAKEUP : BPF_RB_NO_WAKEUP);
}

#endif
