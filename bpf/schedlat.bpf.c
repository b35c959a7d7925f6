// SPDX-License-Identifier: GPL-2.0
/*
 * Run-queue latency: how long tasks that could run have waited for a CPU.
 *
 * A wait begins when a task is woken, or is taken off its CPU while it could go on; it
 * ends when the task is switched to. All hooks run with interrupts off and count in
 * arrays of their own CPU, so that nothing here is atomic.
 */
#include "kernel.h"
#include "hist.h"
#include "ring.h"
#include "task.h"
#include "self.h"
#include "place.h"

#define PROBES 16
#define GROUP_SCALE 3

/* Set before loading; what is off is removed by the verifier. */
const volatile __u32 cpus;          /* possible CPUs */
const volatile bool only_map;       /* waits have no places: for a test of the map alone */
const volatile bool state_argument; /* sched_switch tells the state that prev left in */
const volatile bool by_cgroup;
const volatile __u32 group_bits;   /* 1 << group_bits cgroups per CPU */
const volatile bool processes;     /* account each process */
const volatile __u32 process_bits; /* 1 << process_bits processes per CPU */
const volatile bool events;        /* an event for each wait as long as min_ns */
const volatile __u64 min_ns;

/* Shared with user space while running. */
volatile __u32 bank;    /* which half of the arrays is counted in */
__u64 elsewhere;        /* waits that are noted in the hash map */
__u64 lost_waits;       /* waits for which there was no room to note when they began */
__u64 lost_groups;      /* waits of cgroups that found no slot */
__u64 lost_processes;   /* switches, wake-ups and migrations of processes that found no slot */
__u64 unseen;           /* switches that no program was run at */
__u64 negative;         /* waits that seem to have ended before they began: discarded */

/* The longest wait. */
struct longest {
	__u64 ns;
	__u32 pid;
	__u32 pad;
	char comm[COMM_LEN];
	char prev_comm[COMM_LEN];
};

/* The waits that ended on one CPU. As src/bpf/schedlat reads it, like all below. */
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

/* What one process did on one CPU. */
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

/* Who is on a CPU, and since when: 0 while it changes. */
struct stint {
	__u64 since_ns;
	__u32 pid; /* 0: idle, or not asked for */
	__u32 tid; /* of anyone */
};

struct event {
	__u64 end_ns;
	__u64 wait_ns;
	__u32 cpu;
	__u32 prev_pid;
	char prev_comm[COMM_LEN];
	struct task_id task;
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

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 1); /* halves x CPUs x slots */
	__type(key, __u32);
	__type(value, struct process);
} table SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 1); /* CPUs */
	__type(key, __u32);
	__type(value, struct stint);
} stints SEC(".maps");

/* The wait of a thread that has this place. */
struct wait {
	struct place place;
	__u64 since; /* when it began, and KEEP */
};

/*
 * In the lowest bit of a time: the task was preempted on its way to sleep. A wake-up then
 * changes its state and not that it waits already; any other wake-up begins a wait.
 */
#define KEEP 1ULL

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE); /* for it begins with a page, then */
	__uint(max_entries, PLACES);
	__type(key, __u32);
	__type(value, struct wait);
} waits SEC(".maps");

/* When the wait of a thread began whose place another has. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u64);
} waits_by_tid SEC(".maps");

static __always_inline struct wait *place_of(__u32 tid)
{
	__u32 at = place_at(tid, 2);

	return only_map ? NULL : bpf_map_lookup_elem(&waits, &at);
}

/* The wait of a thread in the hash map; NULL if there is none. */
static __always_inline __u64 *wait_in_map(__u32 tid)
{
	return elsewhere ? bpf_map_lookup_elem(&waits_by_tid, &tid) : NULL;
}

static __always_inline void begin_wait(struct task_struct *task, __u64 since, bool direct)
{
	__u32 tid = READ(direct, task, pid);
	__u64 *mapped = wait_in_map(tid);
	struct wait *wait = place_of(tid);

	if (mapped) {
		if (!(*mapped & KEEP))
			*mapped = since;
	} else if (wait && place_is_of(&wait->place, tid)) {
		if (!(wait->since & KEEP))
			wait->since = since;
	} else if (wait && place_take(&wait->place, tid)) {
		wait->since = since;
	} else if (bpf_map_update_elem(&waits_by_tid, &tid, &since, BPF_ANY)) {
		COUNT(&lost_waits, 1);
	} else {
		COUNT(&elsewhere, 1);
	}
}

/* When the wait began that ends now; 0 if that was not seen. */
static __always_inline __u64 end_wait(struct task_struct *task, bool direct)
{
	__u32 tid = READ(direct, task, pid);
	struct wait *wait = place_of(tid);
	__u64 *mapped, since;

	if (wait && place_is_of(&wait->place, tid)) {
		since = *(volatile __u64 *)&wait->since;
		place_leave(&wait->place, tid, since);
		return since & ~KEEP;
	}
	mapped = wait_in_map(tid);
	if (!mapped)
		return 0;
	since = *mapped;
	if (!bpf_map_delete_elem(&waits_by_tid, &tid))
		COUNT(&elsewhere, -1);
	return since & ~KEEP;
}

static __always_inline __u32 here(void)
{
	return (bank & 1) * cpus + bpf_get_smp_processor_id();
}

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
	__u32 pid = READ(direct, task, tgid), mask = (1U << process_bits) - 1;
	__u32 first = here() << process_bits, home = (pid * 0x9e3779b1U) >> 16;

	for (__u32 n = 0; n < PROBES; n++) {
		__u32 at = first + ((home + n) & mask);
		struct process *process = bpf_map_lookup_elem(&table, &at);

		if (!process)
			return NULL;
		if (process->pid == pid)
			return process;
		if (!process->pid) {
			process->pid = pid;
			name(process, task, READ(direct, task, self_exec_id), direct);
			return process;
		}
	}
	COUNT(&lost_processes, 1);
	return NULL;
}

static __always_inline struct group *group_slot(__u64 id)
{
	__u32 first = here() << group_bits, mask = (1U << group_bits) - 1, home = id * 0x9e3779b97f4a7c15ULL >> 40;

	for (__u32 n = 0; n < PROBES; n++) {
		__u32 at = first + ((home + n) & mask);
		struct group *group = bpf_map_lookup_elem(&groups, &at);

		if (!group)
			return NULL;
		if (!group->id)
			group->id = id;
		if (group->id == id)
			return group;
	}
	COUNT(&lost_groups, 1);
	return NULL;
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

static __always_inline void submit_event(__u64 now, __u64 ns, struct task_struct *prev, struct task_struct *next,
					 bool direct)
{
	struct event *event = RING_RESERVE(struct event);

	if (!event)
		return;
	event->end_ns = now;
	event->wait_ns = ns;
	event->cpu = bpf_get_smp_processor_id();
	event->prev_pid = READ(direct, prev, tgid);
	bpf_core_read(event->prev_comm, COMM_LEN, &prev->comm);
	task_describe(&event->task, next, direct);
	ring_submit(event, false);
}

/* A wait of next is over, after which prev has left the CPU. */
static __always_inline void waited(__u64 now, __u64 ns, struct task_struct *prev, struct task_struct *next,
				   bool direct)
{
	__u32 index = hist_index(ns), at = here();

	if (by_cgroup) {
		struct group *group = group_slot(cgroup_id_of(cgroup_of(next, direct), direct));

		if (group) {
			__u32 coarse = index >> (5 - GROUP_SCALE);

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
	if (events && ns >= min_ns)
		submit_event(now, ns, prev, next, direct);
}

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

static __always_inline bool is_running(struct task_struct *task, bool direct)
{
	struct task_struct___old *old = (void *)task;

	if (bpf_core_field_exists(old->state))
		return !READ(direct, old, state);
	return !READ(direct, task, __state);
}

/* state is what prev left in: 0 if it could go on. */
static __always_inline int switched(bool preempt, struct task_struct *prev, struct task_struct *next, long state,
				    bool direct)
{
	__u64 now = bpf_ktime_get_ns(), since, ns = 0;
	bool wanted = false;

	/* Whoever leaves with a signal pending is made runnable on the way. */
	if (preempt || !state || is_running(prev, direct)) {
		if (READ(direct, prev, pid) && task_asked_for(prev, direct))
			begin_wait(prev, state ? now | KEEP : now & ~KEEP, direct);
	}
	if (READ(direct, next, pid)) {
		since = end_wait(next, direct);
		/* Who waits was asked for when that began. */
		wanted = since || (processes && task_asked_for(next, direct));
		if (since > now) {
			COUNT(&negative, 1);
		} else if (since) {
			ns = now - since;
			waited(now, ns, prev, next, direct);
		}
	}
	if (processes)
		account(now, prev, next, !preempt && state, ns, wanted, direct);
	return 0;
}

static __always_inline long state_of(__u64 *ctx, struct task_struct *prev, bool direct)
{
	if (state_argument)
		return (__u32)ctx[3];
	return is_running(prev, direct) ? 0 : 1;
}

SEC("tp_btf/sched_switch")
int switch_btf(__u64 *ctx)
{
	struct task_struct *prev = (struct task_struct *)ctx[1];

	return switched((bool)ctx[0], prev, (struct task_struct *)ctx[2], state_of(ctx, prev, true), true);
}

SEC("raw_tp/sched_switch")
int switch_raw(__u64 *ctx)
{
	struct task_struct *prev = (struct task_struct *)ctx[1];

	return switched((bool)ctx[0], prev, (struct task_struct *)ctx[2], state_of(ctx, prev, false), false);
}

static __always_inline bool on_cpu(struct task_struct *task, bool direct)
{
	struct task_struct___on_cpu_byte *byte = (void *)task;
	struct task_struct___on_cpu *word = (void *)task;

	if (bpf_core_field_size(byte->on_cpu) == sizeof(byte->on_cpu))
		return READ(direct, byte, on_cpu);
	return READ(direct, word, on_cpu);
}

static __always_inline int woken(struct task_struct *task, bool is_new, bool direct)
{
	struct process *process;

	/* Woken before it went to sleep: it runs. */
	if (!is_new && on_cpu(task, direct))
		return 0;
	if (!task_asked_for(task, direct))
		return 0;
	begin_wait(task, bpf_ktime_get_ns() & ~KEEP, direct);
	if (processes && !is_new) {
		process = process_of(task, direct);
		if (process)
			process->wakeups++;
	}
	return 0;
}

SEC("tp_btf/sched_wakeup")
int wakeup_btf(__u64 *ctx)
{
	return woken((struct task_struct *)ctx[0], false, true);
}

SEC("raw_tp/sched_wakeup")
int wakeup_raw(__u64 *ctx)
{
	return woken((struct task_struct *)ctx[0], false, false);
}

SEC("tp_btf/sched_wakeup_new")
int wakeup_new_btf(__u64 *ctx)
{
	return woken((struct task_struct *)ctx[0], true, true);
}

SEC("raw_tp/sched_wakeup_new")
int wakeup_new_raw(__u64 *ctx)
{
	return woken((struct task_struct *)ctx[0], true, false);
}

static __always_inline int migrated(struct task_struct *task, bool direct)
{
	struct process *process;

	if (!task_asked_for(task, direct))
		return 0;
	process = process_of(task, direct);
	if (process)
		process->migrations++;
	return 0;
}

SEC("tp_btf/sched_migrate_task")
int migrate_btf(__u64 *ctx)
{
	return migrated((struct task_struct *)ctx[0], true);
}

SEC("raw_tp/sched_migrate_task")
int migrate_raw(__u64 *ctx)
{
	return migrated((struct task_struct *)ctx[0], false);
}

char LICENSE[] SEC("license") = "GPL";
