// SPDX-License-Identifier: GPL-2.0
/* For a test of src/common/hist.rs: the kernel's index of a value, as the return value. */
#include "kernel.h"
#include "hist.h"

SEC("raw_tp/selftest")
int selftest_index(__u64 *ctx)
{
	return hist_index(ctx[0]);
}

char LICENSE[] SEC("license") = "GPL";
