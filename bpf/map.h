/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Maps shared with user space, which src/bpf/map.rs reads: double-buffered arrays of
 * counters, tables inside arrays, and the ring buffer of events.
 */
#ifndef TELEPIPE_MAP_H
#define TELEPIPE_MAP_H

#include "kernel.h"

/* Set before loading. */
const volatile __u32 cpus;      /* possible CPUs */
const volatile bool exclusive;  /* each CPU has its own shard, and programs do not interrupt themselves */
const volatile bool events;     /* events are written to the ring buffer */
const volatile __u64 min_ns;    /* the shortest time that makes an event */
const volatile __u64 ring_half; /* half of the ring buffer, in bytes */

/* Shared with user space while running. */
volatile __u32 active_half; /* 0 or 1: the half of the arrays that counts now; user space reads the other */
__u64 lost_events;          /* events that found the ring buffer full */

/* The index of this CPU in an array of halves x CPUs. */
static __always_inline __u32 cpu_index(void)
{
	return (active_half & 1) * cpus + bpf_get_smp_processor_id();
}

/*
 * Adds to a counter of this CPU's shard. A plain addition is enough if `exclusive`; an atomic one
 * stalls until the cache line has arrived, which costs a quarter of iolat's hook on cold caches.
 */
#define SHARD_ADD(ptr, by)                                      \
	do {                                                    \
		if (exclusive)                                  \
			*(volatile typeof(*(ptr)) *)(ptr) += by; \
		else                                            \
			COUNT(ptr, by);                         \
	} while (0)

/*
 * Hash tables with open addressing inside arrays: kernel hash maps cannot be mapped into
 * user space. An element begins with its key, which is 0 while the element is free.
 */
#define PROBES 16 /* elements to look at before the key counts as lost */

/*
 * The element with this key, or a free one, among the 1 << bits elements from `first` on;
 * NULL if there is neither. A macro, because the map must be a constant and keys have two sizes.
 */
#define FIND_SLOT(type, map, first, bits, home, field, key)                             \
	({                                                                              \
		__u32 mask_ = (1U << (bits)) - 1;                                       \
		type *found_ = NULL;                                                    \
                                                                                        \
		for (__u32 n_ = 0; n_ < PROBES; n_++) {                                 \
			__u32 at_ = (first) + (((home) + n_) & mask_);                  \
			type *slot_ = bpf_map_lookup_elem(map, &at_);                   \
                                                                                        \
			if (!slot_ || slot_->field == (key) || !slot_->field) {         \
				found_ = slot_;                                         \
				break;                                                  \
			}                                                               \
		}                                                                       \
		found_;                                                                 \
	})

/* The hash of a process number. */
static __always_inline __u32 home_of_process(__u32 pid)
{
	return (pid * 0x9e3779b1U) >> 16;
}

/* The hash of any other key. */
static __always_inline __u32 home_of(__u64 key)
{
	return key * 0x9e3779b97f4a7c15ULL >> 40;
}

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 4096);
} ring SEC(".maps");

/* Space for one event; NULL, and counted as lost, if the buffer is full. */
#define RING_RESERVE(type)                                              \
	({                                                              \
		type *room_ = bpf_ringbuf_reserve(&ring, sizeof(type), 0); \
		if (!room_)                                             \
			COUNT(&lost_events, 1);                         \
		room_;                                                  \
	})

/* Puts the type of the events into the BTF of the program, from which the Rust struct is generated. */
#define RING_EVENT(type) const type *ring_event

#define WAKE_RANGE (64 << 10) /* bytes above half of the buffer: more than all CPUs add at once */

/*
 * Wakes the reader only when half of the buffer is full: a wake-up costs more than writing
 * the event, and the reader also polls by a timer. With at_once, wakes it for each event.
 */
static __always_inline void ring_submit(void *event, bool at_once)
{
	__u64 above = bpf_ringbuf_query(&ring, BPF_RB_AVAIL_DATA) - ring_half;

	bpf_ringbuf_submit(event, at_once || above < WAKE_RANGE ? BPF_RB_FORCE_WAKEUP : BPF_RB_NO_WAKEUP);
}

#endif
