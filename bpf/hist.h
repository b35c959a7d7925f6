/* SPDX-License-Identifier: GPL-2.0 */
/*
 * OTLP's exponential histogram of nanoseconds: which bucket a value falls into.
 *
 * At scale s there are 2^s buckets per power of two; bucket i holds the values in
 * (2^(i/2^s), 2^((i+1)/2^s)], the upper bound inclusive. The range is 128 ns to 2^36 ns
 * (68.7 s); what lies outside counts in the first or last bucket.
 *
 * The index at scale 5 is found from the exponent of the value and one comparison: the
 * top six bits below the leading one select one of 64 cells, each of which holds at
 * most one of the 31 boundaries between two powers of two. A coarser scale is the same
 * index shifted, because every bucket of it is the union of finer ones.
 */
#ifndef TELEPIPE_HIST_H
#define TELEPIPE_HIST_H

#include "kernel.h"

#define HIST_MIN_EXP 7
#define HIST_MAX_EXP 36
#define HIST_BUCKETS(scale) ((__u32)(HIST_MAX_EXP - HIST_MIN_EXP) << (scale))

/*
 * Cell c: the number of boundaries at or below its start in the low five bits, and
 * above them the boundary inside the cell, as an integer between 2^36 and 2^37.
 * Filled before loading by src/bpf/hist.rs, which counts by the same table.
 */
const volatile __u64 hist_cells[64];

/*
 * 1 if v is above the limit, else 0, both below 2^63: the sign of a difference, because a
 * comparison becomes a jump, and a jump on a latency is one that the processor guesses wrong.
 */
#define HIST_ABOVE(v, limit)                    \
	({                                      \
		__u64 over_ = (limit) - (v);    \
		barrier_var(over_);             \
		over_ >> 63;                    \
	})

/* Halves the width in which the leading bit of v is looked for: it is above the low `bits`, or in them. */
#define HIST_HALVE(v, exponent, bits)                                                  \
	do {                                                                           \
		__u64 by_ = HIST_ABOVE(v, (1ULL << (bits)) - 1) * (bits);              \
		v >>= by_;                                                             \
		exponent += by_;                                                       \
	} while (0)

/* The exponent of the leading bit of v, which is in [2^7, 2^36). */
static __always_inline __u32 hist_exponent(__u64 v)
{
	__u32 exponent = 0;

	HIST_HALVE(v, exponent, 32);
	HIST_HALVE(v, exponent, 16);
	HIST_HALVE(v, exponent, 8);
	HIST_HALVE(v, exponent, 4);
	HIST_HALVE(v, exponent, 2);
	return exponent + (__u32)(v >> 1);
}

/*
 * The bucket of ns at scale 5, counted from the first of the range: below
 * HIST_BUCKETS(5). At scale s it is this, shifted right by 5 - s.
 */
static __always_inline __u32 hist_index(__u64 ns)
{
	__u64 below, mantissa, cell;
	__u32 exponent, index;

	if (ns <= 1ULL << HIST_MIN_EXP)
		return 0;
	if (ns > 1ULL << HIST_MAX_EXP)
		return HIST_BUCKETS(5) - 1;
	/* One less makes a power of two the last value of the octave that it closes. */
	below = ns - 1;
	exponent = hist_exponent(below);
	mantissa = (ns << (HIST_MAX_EXP - exponent)) - 1;
	cell = hist_cells[(mantissa >> 30) & 63];
	index = ((exponent - HIST_MIN_EXP) << 5) + (cell & 31) + HIST_ABOVE(mantissa, (cell >> 5) - 1);
	/* Always true; the verifier does not know it. */
	barrier_var(index);
	return index < HIST_BUCKETS(5) ? index : 0;
}

#endif
