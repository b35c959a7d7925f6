/* SPDX-License-Identifier: GPL-2.0 */
/* All calls counted by number: by shard of the CPUs, and the longest by CPU. */
#ifndef TELEPIPE_SYSCALL_COUNT_H
#define TELEPIPE_SYSCALL_COUNT_H

#include "../map.h"
#include "../hist.h"
#include "call.h"

#define SCALE 3

/* Set before loading; what is off is removed by the verifier. */
const volatile bool summary; /* count all */
const volatile __u32 shards; /* a CPU counts in shard cpu % shards */

/* All calls of one number. As src/bpf/syscall/layout.rs reads it. */
struct slot {
	__u64 sum_ns;
	__u64 errors;
	__u32 buckets[HIST_BUCKETS(SCALE)];
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 1); /* halves x shards x NUMBERS native, then halves x NUMBERS 32-bit */
	__type(key, __u32);
	__type(value, struct slot);
} slots SEC(".maps");

/* The longest call, per CPU. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 1); /* halves x CPUs x 2 NUMBERS */
	__type(key, __u32);
	__type(value, __u64);
} peaks SEC(".maps");

static __always_inline void count(struct call *call, __u64 ns, long ret)
{
	__u32 index = index_of(call->nr, call->compat), half = active_half & 1, at;
	__u32 cpu = bpf_get_smp_processor_id(), bucket = HIST_COARSEN(hist_index(ns), SCALE);
	struct slot *slot;
	__u64 *peak;

	/* Always below; the verifier loses sight of it in the shift. */
	barrier_var(bucket);
	bucket = bucket < HIST_BUCKETS(SCALE) ? bucket : 0;
	if (index < NUMBERS)
		at = (half * shards + (shards < cpus ? cpu % shards : cpu)) * NUMBERS + index;
	else
		at = (2 * shards + half) * NUMBERS + (index - NUMBERS);
	slot = bpf_map_lookup_elem(&slots, &at);
	if (!slot)
		return;
	COUNT(&slot->sum_ns, ns);
	COUNT(&slot->buckets[bucket], 1);
	if (ret < 0 && ret >= -4095)
		COUNT(&slot->errors, 1);
	at = (half * cpus + cpu) * 2 * NUMBERS + index;
	peak = bpf_map_lookup_elem(&peaks, &at);
	if (peak && ns > *peak)
		*peak = ns;
}

#endif
