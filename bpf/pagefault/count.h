/* SPDX-License-Identifier: GPL-2.0 */
/* All faults counted: by kind, and by process. */
#ifndef TELEPIPE_PAGEFAULT_COUNT_H
#define TELEPIPE_PAGEFAULT_COUNT_H

#include "begun.h"
#include "../map.h"
#include "../hist.h"
#include "../task.h"

#define KINDS 8 /* minor or major, read or write, kernel or user */

/* Set before loading; what is off is removed by the verifier. */
const volatile bool summary;       /* count all */
const volatile bool processes;     /* count by process */
const volatile __u32 process_bits; /* 1 << process_bits processes per CPU */

/* Shared with user space while running. */
__u64 lost_processes; /* faults of processes that found no slot */

/* One kind of fault on one CPU. As src/bpf/pagefault/layout.rs reads it, like all below. */
struct slot {
	__u64 sum_ns;
	__u64 max_ns;
	__u32 max_pid; /* of the longest */
	__u32 pad;
	char max_comm[COMM_LEN];
	__u32 buckets[HIST_BUCKETS(5)];
};

/* The faults of one process on one CPU. */
struct process {
	__u32 pid; /* 0: free */
	__u32 uid;
	__u64 cgroup_id;
	__u64 minor;
	__u64 major;
	__u64 minor_ns;
	__u64 major_ns;
	__u64 max_ns;
	char comm[COMM_LEN]; /* of the thread with the latest fault that was its longest */
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 1); /* halves x CPUs x KINDS */
	__type(key, __u32);
	__type(value, struct slot);
} slots SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 1); /* halves x CPUs x processes */
	__type(key, __u32);
	__type(value, struct process);
} table SEC(".maps");

static __always_inline void count(__u64 ns, __u32 flags)
{
	__u32 kind = (flags & MAJOR ? 4 : 0) | (flags & WRITE ? 2 : 0) | (flags & USER ? 1 : 0);
	__u32 at = cpu_index() * KINDS + kind;
	struct slot *slot = bpf_map_lookup_elem(&slots, &at);

	if (!slot)
		return;
	COUNT(&slot->sum_ns, ns);
	COUNT(&slot->buckets[hist_index(ns)], 1);
	if (ns > slot->max_ns) {
		slot->max_ns = ns;
		slot->max_pid = bpf_get_current_pid_tgid() >> 32;
		bpf_get_current_comm(slot->max_comm, COMM_LEN);
	}
}

static __always_inline void count_process(__u64 ns, bool major)
{
	__u32 pid = bpf_get_current_pid_tgid() >> 32, home = home_of_process(pid);
	struct process *process =
		FIND_SLOT(struct process, &table, cpu_index() << process_bits, process_bits, home, pid, pid);

	if (!process) {
		COUNT(&lost_processes, 1);
		return;
	}
	if (!process->pid) {
		process->uid = (__u32)bpf_get_current_uid_gid();
		process->cgroup_id = bpf_get_current_cgroup_id();
		process->pid = pid;
	}
	COUNT(major ? &process->major : &process->minor, 1);
	COUNT(major ? &process->major_ns : &process->minor_ns, ns);
	if (ns > process->max_ns) {
		process->max_ns = ns;
		bpf_get_current_comm(process->comm, COMM_LEN);
	}
}

#endif
