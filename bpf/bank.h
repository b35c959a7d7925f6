/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Where is counted: arrays of two halves. User space has mapped them, turns to the other half, and reads the
 * one that is still; so that nothing is lost to it.
 */
#ifndef TELEPIPE_BANK_H
#define TELEPIPE_BANK_H

#include "kernel.h"

/* Set before loading. */
const volatile __u32 cpus; /* possible CPUs */

/* Shared with user space while running. */
volatile __u32 bank; /* which half of the arrays is counted in */

/* This CPU's place in an array of halves x CPUs. */
static __always_inline __u32 here(void)
{
	return (bank & 1) * cpus + bpf_get_smp_processor_id();
}

#endif
