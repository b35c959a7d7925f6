/* SPDX-License-Identifier: GPL-2.0 */
/*
 * State of a thread between two hooks, in an array indexed by the thread's number. A thread
 * that finds its slot owned by another thread uses a hash map instead.
 *
 * Task storage of the kernel costs 1.5 times as much and fails if the hook interrupted another
 * use of it on that CPU: before 6.2 even to read, before 6.19 to create (kernel/bpf/bpf_task_storage.c).
 */
#ifndef TELEPIPE_TASK_SLOT_H
#define TELEPIPE_TASK_SLOT_H

#include "kernel.h"

#define TASK_SLOT_BITS 15
#define TASK_SLOTS (1U << TASK_SLOT_BITS)

/* The first member of the struct that is kept in a slot. */
struct task_slot {
	__u32 claims; /* 1 while it is owned; for a moment more, if others try to claim it */
	__u32 owner;  /* thread number; 0 if free */
};

/* The index of a thread's slot. Neighbours do not share a cache line, which holds 1 << sharing slots. */
static __always_inline __u32 task_slot_at(__u32 tid, __u32 sharing)
{
	return (tid << sharing | (tid & (TASK_SLOTS - 1)) >> (TASK_SLOT_BITS - sharing)) & (TASK_SLOTS - 1);
}

static __always_inline bool task_slot_owned_by(struct task_slot *slot, __u32 tid)
{
	return *(volatile __u32 *)&slot->owner == tid;
}

/*
 * Claims a slot that the thread does not own; false if another thread owns it. Uses additions
 * only, because programs cannot compare and exchange before 5.12: the thread that sees its own
 * claim alone owns the slot, the others take their claims back.
 */
static __always_inline bool task_slot_claim(struct task_slot *slot, __u32 tid)
{
	volatile __u32 *claims = &slot->claims;

	if (*claims)
		return false;
	COUNT(&slot->claims, 1);
	if (*claims == 1) {
		*(volatile __u32 *)&slot->owner = tid;
		return true;
	}
	COUNT(&slot->claims, -1);
	return false;
}

/* Clears both numbers at once. The sum depends on `read`, so it happens after that value was read from the slot. */
static __always_inline void task_slot_release(struct task_slot *slot, __u32 tid, __u64 read)
{
	__u64 zero = read;

	barrier_var(zero);
	COUNT((__u64 *)slot, (zero ^ read) - ((__u64)tid << 32 | 1));
}

#endif
