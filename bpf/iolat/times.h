/* SPDX-License-Identifier: GPL-2.0 */
/* How long a request took, in all and in its parts. */
#ifndef TELEPIPE_IOLAT_TIMES_H
#define TELEPIPE_IOLAT_TIMES_H

#include "pending.h"

struct times {
	__u64 end_ns;
	__u64 total_ns;
	__u64 device_ns;
	__u64 queue_ns;
	bool split;
};

/* Reckons the times of a request that is done; false if it has none. */
static __always_inline bool reckon(struct times *t, __u64 start, __u64 issue, struct pending *p)
{
	if (!issue && p)
		issue = p->issue_ns;
	if (!start && p)
		start = p->submit_ns;
	t->split = start && issue;
	if (!start)
		start = issue;
	if (!start)
		return false;
	t->total_ns = t->end_ns > start ? t->end_ns - start : 0;
	t->device_ns = issue && t->end_ns > issue ? t->end_ns - issue : 0;
	t->queue_ns = issue > start ? issue - start : 0;
	return true;
}

#endif
