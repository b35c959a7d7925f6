/* SPDX-License-Identifier: GPL-2.0 */
/* All waits counted, and the longest: together, or by cgroup. */
#ifndef TELEPIPE_SCHEDLAT_RUNQ_H
#define TELEPIPE_SCHEDLAT_RUNQ_H

#include "../kernel.h"
#include "../map.h"
#include "../hist.h"
#include "../task.h"

#define GROUP_SCALE 3

/* Set before loading; what is off is removed by the verifier. */
const volatile bool by_cgroup;
const volatile __u32 group_bits; /* 1 << group_bits cgroups per CPU */

/* Shared with user space while running. */
__u64 lost_groups; /* waits of cgroups that found no slot */

/* The longest wait. */
struct longest {
	__u64 ns;
	__u32 pid;
	__u32 pad;
	char comm[COMM_LEN];
	char prev_comm[COMM_LEN];
};

/* The waits that ended on one CPU. As src/bpf/schedlat/layout.rs reads it, like all below. */
struct runq {
	__u64 sum_ns;
	struct longest longest;
	__u32 buckets[HIST_BUCKETS(5)];
};

/* The same for one cgroup on one CPU. */
struct group {
	__u64 id; /* 0: free */
	__u64 sum_ns;
	struct longest longest;
	__u32 buckets[HIST_BUCKETS(GROUP_SCALE)];
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 1); /* halves x CPUs */
	__type(key, __u32);
	__type(value, struct runq);
} runqs SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 1); /* halves x CPUs x slots */
	__type(key, __u32);
	__type(value, struct group);
} groups SEC(".maps");

static __always_inline struct group *group_slot(__u64 id)
{
	struct group *group = FIND_SLOT(struct group, &groups, cpu_index() << group_bits, group_bits, home_of(id), id, id);

	if (group)
		group->id = id;
	else
		COUNT(&lost_groups, 1);
	return group;
}

static __always_inline void keep_longest(struct longest *longest, __u64 ns, struct task_struct *prev,
					 struct task_struct *next, bool direct)
{
	if (ns <= longest->ns)
		return;
	longest->ns = ns;
	longest->pid = READ(direct, next, tgid);
	bpf_core_read(longest->comm, COMM_LEN, &next->comm);
	bpf_core_read(longest->prev_comm, COMM_LEN, &prev->comm);
}

/* Counts a wait of next, which took the CPU from prev. */
static __always_inline void count_wait(__u64 ns, struct task_struct *prev, struct task_struct *next, bool direct)
{
	__u32 index = hist_index(ns), at = cpu_index();

	if (by_cgroup) {
		struct group *group = group_slot(cgroup_id_of(cgroup_of(next, direct), direct));

		if (group) {
			__u32 coarse = HIST_COARSEN(index, GROUP_SCALE);

			group->sum_ns += ns;
			/* Always true; the verifier does not know it. */
			barrier_var(coarse);
			if (coarse < HIST_BUCKETS(GROUP_SCALE))
				group->buckets[coarse]++;
			keep_longest(&group->longest, ns, prev, next, direct);
		}
	} else {
		struct runq *runq = bpf_map_lookup_elem(&runqs, &at);

		if (runq) {
			runq->sum_ns += ns;
			runq->buckets[index]++;
			keep_longest(&runq->longest, ns, prev, next, direct);
		}
	}
}

#endif
