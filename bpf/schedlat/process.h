/* SPDX-License-Identifier: GPL-2.0 */
/* What each process did: a slot for each on each CPU where it did anything. */
#ifndef TELEPIPE_SCHEDLAT_PROCESS_H
#define TELEPIPE_SCHEDLAT_PROCESS_H

#include "../kernel.h"
#include "../map.h"
#include "../task.h"

/* Set before loading; what is off is removed by the verifier. */
const volatile bool processes;     /* account each process */
const volatile __u32 process_bits; /* 1 << process_bits processes per CPU */

/* Shared with user space while running. */
__u64 lost_processes; /* switches, wake-ups and migrations of processes that found no slot */

/* As src/bpf/schedlat/layout.rs reads it. */
struct process {
	__u32 pid; /* 0: free */
	__u32 uid;
	__u64 cgroup_id;
	__u64 cpu_ns;
	__u64 runq_ns;
	__u64 max_runq_ns;
	__u32 voluntary;
	__u32 involuntary;
	__u32 wakeups;
	__u32 migrations;
	__u64 exec_id; /* to which comm belongs */
	char comm[COMM_LEN];
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 1); /* halves x CPUs x slots */
	__type(key, __u32);
	__type(value, struct process);
} table SEC(".maps");

static __always_inline void name(struct process *process, struct task_struct *task, __u64 exec_id, bool direct)
{
	struct task_struct *leader = READ(direct, task, group_leader);
	struct cred *cred = READ(direct, task, cred);

	process->exec_id = exec_id;
	process->uid = READ(direct, cred, uid.val);
	process->cgroup_id = cgroup_id_of(cgroup_of(task, direct), direct);
	bpf_core_read(process->comm, COMM_LEN, &leader->comm);
}

/* The process of a task, on this CPU; NULL if there is no slot left. */
static __always_inline struct process *process_of(struct task_struct *task, bool direct)
{
	__u32 pid = READ(direct, task, tgid), home = home_of_process(pid);
	struct process *process =
		FIND_SLOT(struct process, &table, cpu_index() << process_bits, process_bits, home, pid, pid);

	if (!process) {
		COUNT(&lost_processes, 1);
	} else if (!process->pid) {
		process->pid = pid;
		name(process, task, READ(direct, task, self_exec_id), direct);
	}
	return process;
}

#endif
