/* SPDX-License-Identifier: GPL-2.0 */
/* The time of a process on a CPU: from the switch to it until that to the next. */
#ifndef TELEPIPE_SCHEDLAT_STINT_H
#define TELEPIPE_SCHEDLAT_STINT_H

#include "process.h"

/* Shared with user space while running. */
__u64 unseen; /* switches that no program was run at */

/* Who is on a CPU, and since when: 0 while it changes. As src/bpf/schedlat/layout.rs reads it. */
struct stint {
	__u64 since_ns;
	__u32 pid; /* 0: idle, or not asked for */
	__u32 tid; /* of anyone */
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 1); /* CPUs */
	__type(key, __u32);
	__type(value, struct stint);
} stints SEC(".maps");

/* Ends the stint of prev and begins that of next, of which those that were asked for count. */
static __always_inline void account(__u64 now, struct task_struct *prev, struct task_struct *next, bool left,
				    __u64 wait_ns, bool next_wanted, bool direct)
{
	__u32 cpu = bpf_get_smp_processor_id();
	struct stint *stint = bpf_map_lookup_elem(&stints, &cpu);
	struct process *process;
	__u64 since;

	if (!stint)
		return;
	since = stint->since_ns;
	/* There are kernels that run no program in some tasks (the init of some sandboxes): who
	 * is switched to from one of these was not seen to come. */
	if (since && stint->tid != (__u32)READ(direct, prev, pid)) {
		COUNT(&unseen, 1);
		since = 0;
	}
	if (READ(direct, prev, pid) && task_asked_for(prev, direct)) {
		process = process_of(prev, direct);
		if (process) {
			__u64 exec_id = READ(direct, prev, self_exec_id);

			/* It has become another program since it was named. */
			if (process->exec_id != exec_id)
				name(process, prev, exec_id, direct);
			if (since && now > since)
				process->cpu_ns += now - since;
			if (left)
				process->voluntary++;
			else
				process->involuntary++;
		}
	}
	if (next_wanted) {
		process = process_of(next, direct);
		if (process) {
			process->runq_ns += wait_ns;
			if (wait_ns > process->max_runq_ns)
				process->max_runq_ns = wait_ns;
		}
	}
	*(volatile __u64 *)&stint->since_ns = 0;
	*(volatile __u32 *)&stint->pid = next_wanted ? READ(direct, next, tgid) : 0;
	*(volatile __u32 *)&stint->tid = READ(direct, next, pid);
	*(volatile __u64 *)&stint->since_ns = now;
}

#endif
