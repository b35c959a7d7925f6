/* SPDX-License-Identifier: GPL-2.0 */
/* What is known of a request between submission and completion: who submitted it, and times that it does not say. */
#ifndef TELEPIPE_IOLAT_PENDING_H
#define TELEPIPE_IOLAT_PENDING_H

#include "../task.h"
#include "request.h"

/* Set before loading; what is off is removed by the verifier. */
const volatile bool with_task;    /* a hook at submission is attached */
const volatile bool filter_task;  /* only requests of tasks that were asked for */
const volatile bool keep_pending; /* the map has room for every request that exists */

/* Shared with user space while running. */
volatile __u32 time_submissions; /* some requests do not say when they began */
__u64 lost_tasks;                /* submissions that found the map full */

struct pending {
	__u64 start_ns; /* the request's own, which tells it from the next that uses the same memory */
	__u64 submit_ns; /* with time_submissions */
	__u64 issue_ns;
	__u64 left_out; /* the task that submitted it is none that was asked for */
	struct task_id task;
};

/* By its address. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 1024);
	__type(key, __u64);
	__type(value, struct pending);
} pending SEC(".maps");

static __always_inline void forget(struct pending *p, __u64 address)
{
	if (keep_pending) {
		p->start_ns = 0;
		p->submit_ns = 0;
		p->issue_ns = 0;
		p->left_out = 0;
		p->task.known = 0;
	} else {
		bpf_map_delete_elem(&pending, &address);
	}
}

/* A request that began before the hook at submission did counts, unless tasks were asked for. */
static __always_inline bool left_out(struct pending *p)
{
	return filter_task ? !(p && p->task.known) : p && p->left_out;
}

/* The entry of a request; NULL if the map is full. */
static __always_inline struct pending *entry_of(__u64 address)
{
	struct pending *p = bpf_map_lookup_elem(&pending, &address);
	struct pending empty = {};

	if (p)
		return p;
	if (bpf_map_update_elem(&pending, &address, &empty, BPF_ANY)) {
		COUNT(&lost_tasks, 1);
		return NULL;
	}
	return bpf_map_lookup_elem(&pending, &address);
}

/* Notes the submission of a request by the current task. */
static __always_inline void note(struct pending *p, struct request *rq, bool direct)
{
	p->start_ns = READ(direct, rq, start_time_ns);
	p->submit_ns = time_submissions ? bpf_ktime_get_ns() : 0;
	p->issue_ns = 0;
	p->task.known = 0;
	p->left_out = with_task && !task_wanted(&p->task);
}

#endif
