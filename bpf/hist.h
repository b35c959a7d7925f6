/* SPDX-License-Identifier: GPL-2.0 */
/*
 * OTLP's exponential histogram of nanoseconds: finds the counter for a value.
 *
 * Counter 0 counts values of at most 128 ns, OTLP's zero_count. Counter i + 1 counts bucket i
 * of the range 128 ns to 2^36 ns (68.7 s); the last one also counts everything above. At scale s
 * there are 2^s buckets per power of two, and their upper bounds are inclusive.
 */
#ifndef TELEPIPE_HIST_H
#define TELEPIPE_HIST_H

#include "kernel.h"

#define HIST_MIN_EXP 7
#define HIST_MAX_EXP 36

/* The number of counters, the one for zero included. */
#define HIST_BUCKETS(scale) (((__u32)(HIST_MAX_EXP - HIST_MIN_EXP) << (scale)) + 1)

/* The counter at a coarser scale: each of its buckets is the union of finer ones, and 0 stays 0. */
#define HIST_COARSEN(index, scale) (((index) + (1U << (5 - (scale))) - 1) >> (5 - (scale)))

/*
 * An octave, from 2^36 to 2^37, in 64 cells, each with at most one of its 31 bucket boundaries.
 * The low five bits count the boundaries up to the start of the cell; the bits above them are
 * the next boundary. Filled in by src/common/hist.rs before loading.
 */
const volatile __u64 hist_cells[64];

/*
 * 1 if v > limit, else 0, for values below 2^63. Computed from the sign of the difference: a
 * comparison compiles to a branch, which the processor often mispredicts for latencies.
 */
#define HIST_ABOVE(v, limit)                    \
	({                                      \
		__u64 over_ = (limit) - (v);    \
		barrier_var(over_);             \
		over_ >> 63;                    \
	})

/* One step of the binary search in hist_exponent. */
#define HIST_HALVE(v, exponent, bits)                                                  \
	do {                                                                           \
		__u64 by_ = HIST_ABOVE(v, (1ULL << (bits)) - 1) * (bits);              \
		v >>= by_;                                                             \
		exponent += by_;                                                       \
	} while (0)

/* The exponent of the leading bit of v, for v from 2^7 to 2^36 - 1. */
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

/* The counter for ns at scale 5, below HIST_BUCKETS(5); HIST_COARSEN gives that at other scales. */
static __always_inline __u32 hist_index(__u64 ns)
{
	__u64 below, mantissa, cell;
	__u32 exponent, index;

	if (ns <= 1ULL << HIST_MIN_EXP)
		return 0;
	if (ns > 1ULL << HIST_MAX_EXP)
		return HIST_BUCKETS(5) - 1;
	/* Upper bounds are inclusive: a power of two is the last value of its octave. */
	below = ns - 1;
	exponent = hist_exponent(below);
	mantissa = (ns << (HIST_MAX_EXP - exponent)) - 1;
	cell = hist_cells[(mantissa >> 30) & 63];
	index = ((exponent - HIST_MIN_EXP) << 5) + 1 + (cell & 31) + HIST_ABOVE(mantissa, (cell >> 5) - 1);
	/* Always true, but the verifier cannot see it. */
	barrier_var(index);
	return index < HIST_BUCKETS(5) ? index : 0;
}

#endif
