/* SPDX-License-Identifier: GPL-2.0 */
/* All requests counted: by shard of the CPUs, and the longest by CPU. */
#ifndef TELEPIPE_IOLAT_COUNT_H
#define TELEPIPE_IOLAT_COUNT_H

#include "../map.h"
#include "../hist.h"
#include "slot.h"
#include "times.h"

/* Set before loading. */
const volatile __u32 shard_mask; /* shards - 1; a CPU counts in shard cpu & shard_mask */

/* Shared with user space while running. */
__u64 unsplit; /* requests without a time of issue, or of start: total time only */

/* One device and operation. As src/bpf/iolat/layout.rs reads it, like all below. */
struct slot {
	__u64 bytes;
	__u64 errors;
	__u64 device_ns;
	__u64 queue_ns;
	__u64 unsplit_ns; /* total time of the requests of which not all times are known */
	__u64 pad[3];
	/* The three side by side: total and device time as a rule fall into the same cache line. */
	struct {
		__u32 total;
		__u32 device;
		__u32 queue;
	} buckets[HIST_BUCKETS(5)];
};

/* The longest times, per CPU: written by one CPU alone. */
struct peak {
	__u64 total_ns;
	__u64 device_ns;
	__u64 queue_ns;
	__u64 sector; /* from here on: of the request with the longest total time */
	__u32 bytes;
	__u32 pad;
	struct task_id task;
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 1); /* halves x shards x slots */
	__type(key, __u32);
	__type(value, struct slot);
} slots SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 1); /* halves x CPUs x slots */
	__type(key, __u32);
	__type(value, struct peak);
} peaks SEC(".maps");

static __always_inline void count(struct slot *slot, struct times *t, int error)
{
	if (error)
		COUNT(&slot->errors, 1);
	COUNT(&slot->buckets[hist_index(t->total_ns)].total, 1);
	if (t->split) {
		COUNT(&slot->device_ns, t->device_ns);
		COUNT(&slot->queue_ns, t->queue_ns);
		COUNT(&slot->buckets[hist_index(t->device_ns)].device, 1);
		COUNT(&slot->buckets[hist_index(t->queue_ns)].queue, 1);
	} else {
		COUNT(&slot->unsplit_ns, t->total_ns);
		COUNT(&unsplit, 1);
	}
}

static __always_inline void keep_peak(struct peak *peak, struct times *t, struct request *rq,
				      __u32 bytes, struct pending *p, bool direct)
{
	if (t->total_ns > peak->total_ns) {
		peak->sector = READ(direct, rq, __sector);
		peak->bytes = bytes;
		if (with_task && p)
			peak->task = p->task;
		else if (with_task)
			peak->task.known = 0;
		peak->total_ns = t->total_ns;
	}
	if (t->device_ns > peak->device_ns)
		peak->device_ns = t->device_ns;
	if (t->queue_ns > peak->queue_ns)
		peak->queue_ns = t->queue_ns;
}

#endif
