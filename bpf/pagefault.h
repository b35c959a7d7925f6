/* SPDX-License-Identifier: GPL-2.0 */
/* Page faults in progress, and what happens when one ends: it is counted, and may make an event. */
#ifndef TELEPIPE_PAGEFAULT_H
#define TELEPIPE_PAGEFAULT_H

#include "kernel.h"
#include "hist.h"
#include "map.h"
#include "task.h"
#include "task_slot.h"

#define PF_EXITING 4 /* include/linux/sched.h */

/* Set before loading. The verifier removes the code of what is off. */
const volatile bool no_task_slots;   /* hash map only: for kprobes, and to test it */
const volatile bool summary;         /* count all faults */
const volatile bool processes;       /* count by process */
const volatile __u32 process_bits;   /* 1 << process_bits processes per CPU */
const volatile bool wake_at_once;    /* wake the reader for each event: it looks at short-lived state */

/* Shared with user space while running. */
__u64 hashed;         /* threads in the hash map */
__u64 lost_begins;    /* faults whose begin found no room */
__u64 lost_processes; /* faults of processes that found no room */

enum fault_flags {
	USER = 1,
	WRITE = 2,
	MAJOR = 4, /* up to here: the kind that is counted */
	INSTRUCTION = 8,
	TRIED = 16,       /* it had to be tried again */
	TRIED_AGAIN = 32, /* it will be tried again */
};

#define KINDS (2 * MAJOR)

/* The last fault of the thread that owns the slot. */
struct fault {
	struct task_slot slot; /* no owner in the hash map */
	__u64 ns;              /* when it began; 0: none in progress */
	__u64 address;
	__u64 ip;
	__u64 flags;
};

/* The same in the hash map, with what only kprobes need. */
struct hashed_fault {
	struct fault fault;
	__u64 stack; /* stack pointer of the call of handle_mm_fault */
	__u64 calls; /* nested calls of handle_mm_fault that have not returned */
};

ARRAY_MAP(task_slots, TASK_SLOTS, struct fault);

/* Faults of threads whose slot another thread owns, by thread ID. */
HASH_MAP(faults_by_tid, 1, __u32, struct hashed_fault);

/* Faults of one kind on one CPU. */
struct kind_counters {
	__u64 sum_ns;
	__u64 max_ns;
	__u32 max_pid; /* of the longest */
	__u32 pad;
	char max_comm[COMM_LEN];
	__u32 buckets[HIST_BUCKETS(5)];
};

/* Faults of one process on one CPU. User space sets pid to 0 after each interval. */
struct process_counters {
	__u32 pid; /* 0: free */
	__u32 uid;
	__u64 cgroup_id;
	__u64 minor;
	__u64 major;
	__u64 minor_ns;
	__u64 major_ns;
	__u64 max_ns;
	char comm[COMM_LEN]; /* of the thread with the longest fault */
};

ARRAY_MAP(kinds, 1, struct kind_counters); /* halves x CPUs x KINDS */

ARRAY_MAP(process_table, 1, struct process_counters); /* halves x CPUs x processes */

struct event {
	__u64 end_ns;
	__u64 duration_ns;
	__u64 address;
	__u64 ip; /* 0: unknown */
	enum fault_flags flags;
	__u32 cpu;
	struct task_id task;
};

RING_EVENT(struct event);

static __always_inline struct fault *slot_of(__u32 tid)
{
	__u32 at = task_slot_at(tid, 1);

	return no_task_slots ? NULL : bpf_map_lookup_elem(&task_slots, &at);
}

static __always_inline struct hashed_fault *hashed_fault_of(__u32 tid)
{
	return hashed ? bpf_map_lookup_elem(&faults_by_tid, &tid) : NULL;
}

/* The last fault of the current thread; NULL if it never had one. */
static __always_inline struct fault *current_fault(void)
{
	__u32 tid = (__u32)bpf_get_current_pid_tgid();
	struct fault *fault = slot_of(tid);

	if (fault && task_slot_owned_by(&fault->slot, tid))
		return fault;
	return (struct fault *)hashed_fault_of(tid);
}

static __always_inline void delete_hashed(__u32 tid)
{
	if (!bpf_map_delete_elem(&faults_by_tid, &tid))
		COUNT(&hashed, -1);
}

static __always_inline void forget(struct fault *fault)
{
	if (fault->slot.owner) {
		fault->ns = 0;
		fault->flags = 0;
	} else {
		delete_hashed((__u32)bpf_get_current_pid_tgid());
	}
}

/* Claims the slot. An exiting thread has released it for good, but can still fault. */
static __always_inline bool claim(struct fault *fault, __u32 tid)
{
	if (!fault || task_slot_owned_by(&fault->slot, tid))
		return fault;
	return !(READ(TYPED, current_task(), flags) & PF_EXITING) && task_slot_claim(&fault->slot, tid);
}

/* Stores a fault that begins now; `timed` is false for a call that is not a fault. */
static __always_inline void store(bool timed, __u64 address, __u64 ip, __u32 flags)
{
	__u32 tid = (__u32)bpf_get_current_pid_tgid();
	struct fault *fault = slot_of(tid);

	if (claim(fault, tid)) {
		fault->address = address;
		fault->ip = ip;
		fault->flags = flags;
		fault->ns = bpf_ktime_get_ns();
	} else {
		struct hashed_fault now = { .fault = { .address = address, .ip = ip, .flags = flags } };
		bool is_new = !hashed_fault_of(tid);

		now.fault.ns = timed ? bpf_ktime_get_ns() : 0;
		if (bpf_map_update_elem(&faults_by_tid, &tid, &now, BPF_ANY))
			COUNT(&lost_begins, 1);
		else if (is_new)
			COUNT(&hashed, 1);
	}
}

static __always_inline void begin(__u64 address, __u64 ip, __u32 flags)
{
	struct task_struct *task = current_task();

	/*
	 * With page faults disabled (a profiler's interrupt or a BPF program that reads user
	 * memory), the exception fails at once; it can interrupt a real fault. If READ calls a
	 * helper, the helper itself adds one to the count.
	 */
	if (READ(TYPED, task, pagefault_disabled) > (TYPED ? 0 : 1))
		return;
	if (!task_asked_for(task, TYPED)) {
		/* Left over from before the thread changed its name or user, from a fault that failed. */
		struct fault *fault = current_fault();

		if (fault)
			forget(fault);
		return;
	}
	store(true, address, ip, flags);
}

static __always_inline void count(__u64 ns, __u32 flags)
{
	__u32 at = cpu_index() * KINDS + (flags & (MAJOR | WRITE | USER));
	struct kind_counters *kind = bpf_map_lookup_elem(&kinds, &at);

	if (!kind)
		return;
	COUNT(&kind->sum_ns, ns);
	COUNT(&kind->buckets[hist_index(ns)], 1);
	if (ns > kind->max_ns) {
		kind->max_ns = ns;
		kind->max_pid = bpf_get_current_pid_tgid() >> 32;
		bpf_get_current_comm(kind->max_comm, COMM_LEN);
	}
}

static __always_inline void count_process(__u64 ns, bool major)
{
	__u32 pid = bpf_get_current_pid_tgid() >> 32, home = home_of_process(pid);
	struct process_counters *process = FIND_SLOT(struct process_counters, &process_table,
						     cpu_index() << process_bits, process_bits, home, pid, pid);

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

static __always_inline void submit_event(__u64 now, struct fault *fault, __u32 flags)
{
	struct event *event = RING_RESERVE(struct event);

	if (!event)
		return;
	event->end_ns = now;
	event->duration_ns = now - fault->ns;
	event->address = fault->address;
	event->ip = fault->ip;
	event->flags = flags;
	event->cpu = bpf_get_smp_processor_id();
	task_describe(&event->task, current_task(), TYPED);
	ring_submit(event, wake_at_once);
}

static __always_inline int end(struct fault *fault, bool major)
{
	__u64 now, ns;
	__u32 flags;

	now = bpf_ktime_get_ns();
	ns = now - fault->ns;
	flags = fault->flags | (major ? MAJOR : 0);
	if (summary)
		count(ns, flags);
	if (processes)
		count_process(ns, major);
	if (events && (major || ns >= min_ns))
		submit_event(now, fault, flags);
	forget(fault);
	return 0;
}

#endif
