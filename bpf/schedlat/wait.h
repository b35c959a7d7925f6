/* SPDX-License-Identifier: GPL-2.0 */
/* A wait from its begin to its end: when it began is kept with the thread that waits. */
#ifndef TELEPIPE_SCHEDLAT_WAIT_H
#define TELEPIPE_SCHEDLAT_WAIT_H

#include "../kernel.h"
#include "../task_slot.h"

/* Set before loading. */
const volatile bool only_map; /* waits have no slots: for a test of the map alone */

/* Shared with user space while running. */
__u64 elsewhere;  /* waits that are noted in the hash map */
__u64 lost_waits; /* waits for which there was no room to note when they began */

/* The wait of a thread that has this slot. */
struct wait {
	struct task_slot task_slot;
	__u64 since; /* when it began, and KEEP */
};

/*
 * In the lowest bit of a time: the task was preempted on its way to sleep. A wake-up then
 * changes its state and not that it waits already; any other wake-up begins a wait.
 */
#define KEEP 1ULL

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE); /* for it begins with a page, then */
	__uint(max_entries, TASK_SLOTS);
	__type(key, __u32);
	__type(value, struct wait);
} waits SEC(".maps");

/* When the wait of a thread began whose slot another has. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u64);
} waits_by_tid SEC(".maps");

static __always_inline struct wait *task_slot_of(__u32 tid)
{
	__u32 at = task_slot_at(tid, 2);

	return only_map ? NULL : bpf_map_lookup_elem(&waits, &at);
}

/* The wait of a thread in the hash map; NULL if there is none. */
static __always_inline __u64 *wait_in_map(__u32 tid)
{
	return elsewhere ? bpf_map_lookup_elem(&waits_by_tid, &tid) : NULL;
}

static __always_inline void begin_wait(struct task_struct *task, __u64 since, bool direct)
{
	__u32 tid = READ(direct, task, pid);
	__u64 *mapped = wait_in_map(tid);
	struct wait *wait = task_slot_of(tid);

	if (mapped) {
		if (!(*mapped & KEEP))
			*mapped = since;
	} else if (wait && task_slot_owned_by(&wait->task_slot, tid)) {
		if (!(wait->since & KEEP))
			wait->since = since;
	} else if (wait && task_slot_claim(&wait->task_slot, tid)) {
		wait->since = since;
	} else if (bpf_map_update_elem(&waits_by_tid, &tid, &since, BPF_ANY)) {
		COUNT(&lost_waits, 1);
	} else {
		COUNT(&elsewhere, 1);
	}
}

/* When the wait began that ends now; 0 if that was not seen. */
static __always_inline __u64 end_wait(struct task_struct *task, bool direct)
{
	__u32 tid = READ(direct, task, pid);
	struct wait *wait = task_slot_of(tid);
	__u64 *mapped, since;

	if (wait && task_slot_owned_by(&wait->task_slot, tid)) {
		since = *(volatile __u64 *)&wait->since;
		task_slot_release(&wait->task_slot, tid, since);
		return since & ~KEEP;
	}
	mapped = wait_in_map(tid);
	if (!mapped)
		return 0;
	since = *mapped;
	if (!bpf_map_delete_elem(&waits_by_tid, &tid))
		COUNT(&elsewhere, -1);
	return since & ~KEEP;
}

#endif
