/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Tables of what there may be any number of: each CPU has some slots in an array, and each thing has the first
 * that was free from its own on. A slot begins with the key, 0 where it is free.
 */
#ifndef TELEPIPE_TABLE_H
#define TELEPIPE_TABLE_H

#include "kernel.h"

#define PROBES 16 /* looked at before a thing is lost */

/*
 * The slot of a key among the 1 << bits from `first` on, or a free one; NULL if there is neither. A macro: the
 * map must be a constant, and the key is of either size.
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

/* Where the search for a process begins. */
static __always_inline __u32 home_of_process(__u32 pid)
{
	return (pid * 0x9e3779b1U) >> 16;
}

/* The same for anything with a longer number. */
static __always_inline __u32 home_of(__u64 key)
{
	return key * 0x9e3779b97f4a7c15ULL >> 40;
}

#endif
