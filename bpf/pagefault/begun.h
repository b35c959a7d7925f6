/* SPDX-License-Identifier: GPL-2.0 */
/* A fault that has begun, and is not over: kept with the thread that it is of. */
#ifndef TELEPIPE_PAGEFAULT_BEGUN_H
#define TELEPIPE_PAGEFAULT_BEGUN_H

#include "../kernel.h"
#include "../task_slot.h"
#include "../task.h"

/* Set before loading. */
const volatile bool only_map; /* threads have no slots: for kprobes, and a test of the map alone */

/* Shared with user space while running. */
__u64 elsewhere;   /* threads that are in the hash map */
__u64 lost_begins; /* faults for which there was no room to note when they began */

#define PF_EXITING 4 /* include/linux/sched.h */

/* A fault that has begun, of the thread that has this slot. */
struct begun {
	struct task_slot task_slot; /* of nobody in the hash map */
	__u64 ns;           /* 0: none */
	__u64 address;
	__u64 ip;
	__u64 flags; /* WRITE … */
};

/* The same in the hash map, with what only kprobes need: they use no slots. */
struct mapped {
	struct begun begun;
	__u64 stack; /* where the call was */
	__u64 calls; /* of handle_mm_fault that have not returned, one inside the other */
};

#define WRITE 1
#define USER 2
#define INSTRUCTION 4
#define MAJOR 8
#define TRIED 16 /* before, and could not be done */
#define AGAIN 32 /* will be tried again */

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE); /* for it begins with a page, then */
	__uint(max_entries, TASK_SLOTS);
	__type(key, __u32);
	__type(value, struct begun);
} task_slots SEC(".maps");

/* By thread, of those whose slot another has. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct mapped);
} begun_by_tid SEC(".maps");

static __always_inline struct begun *task_slot_of(__u32 tid)
{
	__u32 at = task_slot_at(tid, 1);

	return only_map ? NULL : bpf_map_lookup_elem(&task_slots, &at);
}

static __always_inline struct mapped *begun_in_map(__u32 tid)
{
	return elsewhere ? bpf_map_lookup_elem(&begun_by_tid, &tid) : NULL;
}

/* What has begun in the current thread; NULL if nothing was ever noted. */
static __always_inline struct begun *begun_here(void)
{
	__u32 tid = (__u32)bpf_get_current_pid_tgid();
	struct begun *task_slot = task_slot_of(tid);

	if (task_slot && task_slot_owned_by(&task_slot->task_slot, tid))
		return task_slot;
	return (struct begun *)begun_in_map(tid);
}

static __always_inline void forget_mapped(__u32 tid)
{
	if (!bpf_map_delete_elem(&begun_by_tid, &tid))
		COUNT(&elsewhere, -1);
}

static __always_inline void forget(struct begun *begun)
{
	if (begun->task_slot.owner) {
		begun->ns = 0;
		begun->flags = 0;
	} else {
		forget_mapped((__u32)bpf_get_current_pid_tgid());
	}
}

/* Who ends has left its slot for good, and may still fault: then it takes none. */
static __always_inline bool take(struct begun *task_slot, __u32 tid)
{
	if (!task_slot || task_slot_owned_by(&task_slot->task_slot, tid))
		return task_slot;
	return !(READ(TYPED, current_task(), flags) & PF_EXITING) && task_slot_claim(&task_slot->task_slot, tid);
}

/* What begins now; what is `no_fault` has no time. */
static __always_inline void note(bool no_fault, __u64 address, __u64 ip, __u32 flags)
{
	__u32 tid = (__u32)bpf_get_current_pid_tgid();
	struct begun *task_slot = task_slot_of(tid);

	if (take(task_slot, tid)) {
		task_slot->address = address;
		task_slot->ip = ip;
		task_slot->flags = flags;
		task_slot->ns = bpf_ktime_get_ns();
	} else {
		struct mapped now = { .begun = { .address = address, .ip = ip, .flags = flags } };
		bool is_new = !begun_in_map(tid);

		now.begun.ns = no_fault ? 0 : bpf_ktime_get_ns();
		if (bpf_map_update_elem(&begun_by_tid, &tid, &now, BPF_ANY))
			COUNT(&lost_begins, 1);
		else if (is_new)
			COUNT(&elsewhere, 1);
	}
}

#endif
