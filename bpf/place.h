/* SPDX-License-Identifier: GPL-2.0 */
/*
 * What is kept of a thread between two hooks: in a place of an array, by the thread's number. Who
 * finds it taken by another thread is kept in a hash map.
 *
 * The kernel's own storage with tasks costs half as much again, and gives nothing wherever it
 * was interrupted on that CPU, by whose program it may be: before 6.2 not even what is there,
 * before 6.19 no room for more. A place is always to be had, or belongs to another thread.
 */
#ifndef TELEPIPE_PLACE_H
#define TELEPIPE_PLACE_H

#include "kernel.h"

#define PLACE_BITS 15
#define PLACES (1U << PLACE_BITS)

/* Whose a place is. First in what is kept in it. */
struct place {
	__u32 takers; /* the thread that has it, and for a moment who else would like to */
	__u32 owner;  /* its number; 0: nobody */
};

/* Where the place of a thread is; neighbours share no line of the cache, which holds 1 << sharing of them. */
static __always_inline __u32 place_at(__u32 tid, __u32 sharing)
{
	return (tid << sharing | (tid & (PLACES - 1)) >> (PLACE_BITS - sharing)) & (PLACES - 1);
}

static __always_inline bool place_is_of(struct place *place, __u32 tid)
{
	return *(volatile __u32 *)&place->owner == tid;
}

/*
 * Takes a place that is not the thread's; false if it is another's. By additions alone, for kernels
 * before 5.12 cannot compare and exchange: who counts only itself has it, who does not steps back.
 */
static __always_inline bool place_take(struct place *place, __u32 tid)
{
	volatile __u32 *takers = &place->takers;

	if (*takers)
		return false;
	COUNT(&place->takers, 1);
	if (*takers == 1) {
		*(volatile __u32 *)&place->owner = tid;
		return true;
	}
	COUNT(&place->takers, -1);
	return false;
}

/* Leaves it, both numbers at once, after what was `read` from it: the sum waits for that. */
static __always_inline void place_leave(struct place *place, __u32 tid, __u64 read)
{
	__u64 nothing = read;

	barrier_var(nothing);
	COUNT((__u64 *)place, (nothing ^ read) - ((__u64)tid << 32 | 1));
}

#endif
