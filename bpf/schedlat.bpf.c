// SPDX-License-Identifier: GPL-2.0
/*
 * Run-queue latency: how long tasks that could run waited for a CPU, and what each process did on the CPUs.
 *
 * A wait begins when a task is woken, or is taken off its CPU while it could go on; it ends when the scheduler
 * switches to the task. All hooks run with interrupts off and count in arrays of their own CPU, so no addition to
 * these is atomic.
 */
#include "kernel.h"
#include "hist.h"
#include "map.h"
#include "task.h"
#include "task_slot.h"

#define GROUP_SCALE 3

/* Set before loading. The verifier removes what is off. */
const volatile bool state_argument; /* sched_switch passes the state in which prev left */
const volatile bool only_map;       /* keep all waits in waits_by_tid: for tests of that map */
const volatile bool by_cgroup;      /* count waits by cgroup */
const volatile __u32 group_bits;    /* 1 << group_bits cgroups per CPU */
const volatile bool processes;      /* count what each process does */
const volatile __u32 process_bits;  /* 1 << process_bits processes per CPU */

/* Shared with user space while running. */
__u64 in_map;         /* waits that are in waits_by_tid now */
__u64 lost_waits;     /* waits that could not be stored when they began */
__u64 lost_groups;    /* waits of cgroups that found no slot */
__u64 lost_processes; /* switches, wake-ups and migrations of processes that found no slot */
__u64 unseen;         /* switches to a task at which the kernel ran no program */
__u64 negative;       /* waits that seem to have ended before they began */

#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)

struct sched_entity {
	__u64 sum_exec_runtime;      /* time on CPUs */
	__u64 prev_sum_exec_runtime; /* the same at the begin of the time slice; of fair tasks */
};

struct sched_info { /* empty without CONFIG_SCHED_INFO */
	unsigned long long run_delay; /* time waited for CPUs */
};

struct task_struct___sched {
	__u32 policy;
	struct sched_entity se;
	struct sched_info sched_info;
};

#pragma clang attribute pop

/*
 * The state of tasks: fields that changed between kernels.
 */

static __always_inline bool is_running(struct task_struct *task, bool direct)
{
	struct task_struct___old *old = (void *)task;

	if (bpf_core_field_exists(old->state))
		return !READ(direct, old, state);
	return !READ(direct, task, __state);
}

/* The state in which prev left its CPU, from the arguments of sched_switch; 0 if it could go on. */
static __always_inline long state_of(__u64 *ctx, struct task_struct *prev, bool direct)
{
	if (state_argument)
		return (__u32)ctx[3];
	return is_running(prev, direct) ? 0 : 1;
}

static __always_inline bool is_on_cpu(struct task_struct *task, bool direct)
{
	struct task_struct___on_cpu_byte *byte = (void *)task;
	struct task_struct___on_cpu *word = (void *)task;

	if (bpf_core_field_size(byte->on_cpu) == sizeof(byte->on_cpu))
		return READ(direct, byte, on_cpu);
	return READ(direct, word, on_cpu);
}

/*
 * The kernel's own totals of a task. When sched_switch is traced, both of prev are up to date; the wait of next
 * that ends is not yet in its run_delay.
 */
static __always_inline __u64 cpu_time_of(struct task_struct *task, bool direct)
{
	struct task_struct___sched *sched = (void *)task;

	return READ(direct, sched, se.sum_exec_runtime);
}

/* 0 on kernels that do not keep it. */
static __always_inline __u64 run_delay_of(struct task_struct *task, bool direct)
{
	struct task_struct___sched *sched = (void *)task;

	if (!bpf_core_field_exists(sched->sched_info.run_delay))
		return 0;
	return READ(direct, sched, sched_info.run_delay);
}

/* The time slice of prev that ends, if its begin was not seen; 0 if the kernel does not know it either. */
static __always_inline __u64 slice_of(struct task_struct *prev, bool direct)
{
	struct task_struct___sched *sched = (void *)prev;
	__u32 policy = READ(direct, sched, policy);

	/* SCHED_NORMAL, SCHED_BATCH and SCHED_IDLE: other classes do not set it. */
	if (policy != 0 && policy != 3 && policy != 5)
		return 0;
	return READ(direct, sched, se.sum_exec_runtime) - READ(direct, sched, se.prev_sum_exec_runtime);
}

/*
 * Waits that have begun.
 */

/* Lowest bit of a time: the task was preempted on its way to sleep. A wake-up then changes its
 * state but not the begin of its wait, which any other wake-up sets. */
#define KEEP 1ULL

struct wait_begin {
	__u64 since;     /* and KEEP */
	__u64 run_delay; /* total of the task at that time */
};

struct wait {
	struct task_slot slot;
	struct wait_begin begin;
	__u64 pad; /* two fill a cache line */
};

ARRAY_MAP(waits, TASK_SLOTS, struct wait);

/* The waits of threads that do not own their slot. */
HASH_MAP(waits_by_tid, 1, __u32, struct wait_begin);

static __always_inline struct wait *slot_of(__u32 tid)
{
	__u32 at = task_slot_at(tid, 1);

	return only_map ? NULL : bpf_map_lookup_elem(&waits, &at);
}

static __always_inline struct wait_begin *find_in_map(__u32 tid)
{
	return in_map ? bpf_map_lookup_elem(&waits_by_tid, &tid) : NULL;
}

static __always_inline void begin_wait(struct task_struct *task, __u64 since, bool direct)
{
	__u32 tid = READ(direct, task, pid);
	struct wait_begin *mapped = find_in_map(tid);
	struct wait_begin begin = { since, processes ? run_delay_of(task, direct) : 0 };
	struct wait *wait = slot_of(tid);

	if (mapped) {
		if (!(mapped->since & KEEP))
			*mapped = begin;
	} else if (wait && task_slot_owned_by(&wait->slot, tid)) {
		if (!(wait->begin.since & KEEP))
			wait->begin = begin;
	} else if (wait && task_slot_claim(&wait->slot, tid)) {
		wait->begin = begin;
	} else if (bpf_map_update_elem(&waits_by_tid, &tid, &begin, BPF_ANY)) {
		COUNT(&lost_waits, 1);
	} else {
		COUNT(&in_map, 1);
	}
}

/* The begin of the wait that ends now; `since` is 0 if it was not seen. */
static __always_inline struct wait_begin end_wait(struct task_struct *task, bool direct)
{
	__u32 tid = READ(direct, task, pid);
	struct wait_begin *mapped, begin = {};
	struct wait *wait = slot_of(tid);

	if (wait && task_slot_owned_by(&wait->slot, tid)) {
		begin.run_delay = wait->begin.run_delay;
		begin.since = *(volatile __u64 *)&wait->begin.since;
		task_slot_release(&wait->slot, tid, begin.since + begin.run_delay);
	} else {
		mapped = find_in_map(tid);
		if (mapped) {
			begin = *mapped;
			if (!bpf_map_delete_elem(&waits_by_tid, &tid))
				COUNT(&in_map, -1);
		}
	}
	begin.since &= ~KEEP;
	return begin;
}

/*
 * Waits that have ended: all together, or by cgroup.
 */

struct longest {
	__u64 ns;
	__u32 pid;
	__u32 pad;
	char comm[COMM_LEN];
	char prev_comm[COMM_LEN];
};

/* One CPU. */
struct runq {
	__u64 sum_ns;
	struct longest longest;
	__u32 buckets[HIST_BUCKETS(5)];
	__u32 pad;
};

/* One cgroup on one CPU. */
struct group {
	__u64 id; /* 0: free */
	__u64 sum_ns;
	struct longest longest;
	__u32 buckets[HIST_BUCKETS(GROUP_SCALE)];
	__u32 pad;
};

ARRAY_MAP(runqs, 1, struct runq); /* halves x CPUs */

ARRAY_MAP(groups, 1, struct group); /* halves x CPUs x slots */

static __always_inline struct group *group_of(__u64 id)
{
	struct group *group =
		FIND_SLOT(struct group, &groups, cpu_index() << group_bits, group_bits, home_of(id), id, id);

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
		struct group *group = group_of(cgroup_id_of(cgroup_of(next, direct), direct));

		if (group) {
			__u32 coarse = HIST_COARSEN(index, GROUP_SCALE);

			group->sum_ns += ns;
			/* Always true, but the verifier cannot see it. */
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

/* A wait of at least min_ns. */
struct event {
	__u64 end_ns;
	__u64 wait_ns;
	__u32 cpu;
	__u32 prev_pid;
	char prev_comm[COMM_LEN];
	struct task_id task;
};

RING_EVENT(struct event);

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

/*
 * What each process did.
 */

/* One process on one CPU. */
struct process {
	__u32 pid; /* 0: free */
	__u32 uid;
	__u64 cgroup_id;
	__u64 cpu_ns;
	__u64 runq_ns; /* waits before the time slices that ended */
	__u64 max_runq_ns;
	__u32 voluntary;
	__u32 involuntary;
	__u32 wakeups;
	__u32 migrations;
	__u64 exec_id; /* counts the programs that the process has executed; comm, uid and cgroup_id are of this one */
	char comm[COMM_LEN];
};

ARRAY_MAP(table, 1, struct process); /* halves x CPUs x slots */

static __always_inline void describe(struct process *process, struct task_struct *task, __u64 exec_id, bool direct)
{
	struct task_struct *leader = READ(direct, task, group_leader);
	struct cred *cred = READ(direct, task, cred);

	process->exec_id = exec_id;
	process->uid = READ(direct, cred, uid.val);
	process->cgroup_id = cgroup_id_of(cgroup_of(task, direct), direct);
	bpf_core_read(process->comm, COMM_LEN, &leader->comm);
}

/* The process of a task, on this CPU; NULL if no slot is left. */
static __always_inline struct process *process_of(struct task_struct *task, bool direct)
{
	__u32 pid = READ(direct, task, tgid), home = home_of_process(pid);
	struct process *process =
		FIND_SLOT(struct process, &table, cpu_index() << process_bits, process_bits, home, pid, pid);

	if (!process) {
		COUNT(&lost_processes, 1);
	} else if (!process->pid) {
		process->pid = pid;
		describe(process, task, READ(direct, task, self_exec_id), direct);
	}
	return process;
}

/* The time slice of the task on a CPU, on a cache line of its own. */
struct time_slice {
	__u64 since_ns;  /* 0 while it changes */
	__u64 cpu_time;  /* total of the task when it began */
	__u64 run_delay; /* the same when the wait before it began */
	__u64 wait_ns;   /* that wait */
	__u32 pid;       /* 0: idle, or not asked for */
	__u32 tid;       /* of any task */
	__u64 pad[3];
};

ARRAY_MAP(time_slices, 1, struct time_slice); /* CPUs */

static __always_inline void count_delay(struct process *process, __u64 ns)
{
	process->runq_ns += ns;
	if (ns > process->max_runq_ns)
		process->max_runq_ns = ns;
}

/*
 * The time slice of prev that ends. If its begin was not seen, `slice` is of another task; `missed` is then the begin
 * of the wait before it, if that was seen.
 */
static __always_inline void end_slice(struct process *process, struct time_slice *slice, bool seen,
				      struct wait_begin *missed, struct task_struct *prev, bool direct)
{
	struct task_struct___sched *sched = (void *)prev;
	bool has_delay = bpf_core_field_exists(sched->sched_info.run_delay);

	if (seen) {
		process->cpu_ns += cpu_time_of(prev, direct) - slice->cpu_time;
		count_delay(process, has_delay ? run_delay_of(prev, direct) - slice->run_delay : slice->wait_ns);
	} else {
		process->cpu_ns += slice_of(prev, direct);
		if (has_delay && missed->since)
			count_delay(process, run_delay_of(prev, direct) - missed->run_delay);
	}
}

/* Whether the switch to prev was seen, or is from before the hooks were attached. */
static __always_inline bool switch_seen(struct time_slice *slice, struct task_struct *prev, bool direct)
{
	return !slice->since_ns || slice->tid == (__u32)READ(direct, prev, pid);
}

/* Ends the time slice of prev and begins that of next, which waited wait_ns since `begin`. */
static __always_inline void account(__u64 now, struct time_slice *slice, struct task_struct *prev,
				    struct task_struct *next, bool left, __u64 wait_ns, struct wait_begin *begin,
				    struct wait_begin *missed, bool next_wanted, bool direct)
{
	struct process *process;
	bool seen = switch_seen(slice, prev, direct);

	if (READ(direct, prev, pid) && task_asked_for(prev, direct)) {
		/* Some sandboxes run no program while a task of their init is on the CPU. */
		if (!seen)
			COUNT(&unseen, 1);
		process = process_of(prev, direct);
		if (process) {
			__u64 exec_id = READ(direct, prev, self_exec_id);

			if (process->exec_id != exec_id)
				describe(process, prev, exec_id, direct);
			if (slice->since_ns)
				end_slice(process, slice, seen && slice->pid, missed, prev, direct);
			if (left)
				process->voluntary++;
			else
				process->involuntary++;
		}
	}
	*(volatile __u64 *)&slice->since_ns = 0;
	slice->pid = 0;
	if (next_wanted) {
		slice->pid = READ(direct, next, tgid);
		slice->cpu_time = cpu_time_of(next, direct);
		slice->run_delay = begin->since ? begin->run_delay : run_delay_of(next, direct);
		slice->wait_ns = wait_ns;
	}
	slice->tid = READ(direct, next, pid);
	barrier();
	*(volatile __u64 *)&slice->since_ns = now;
}

/*
 * The hooks.
 */

/* state is that in which prev left: 0 if it could go on. */
static __always_inline int switched(bool preempt, struct task_struct *prev, struct task_struct *next, long state,
				    bool direct)
{
	__u64 now = bpf_ktime_get_ns(), ns = 0;
	struct wait_begin begin = {}, missed = {};
	__u32 cpu = bpf_get_smp_processor_id();
	struct time_slice *slice = processes ? bpf_map_lookup_elem(&time_slices, &cpu) : NULL;
	bool wanted = false;

	if (slice && !switch_seen(slice, prev, direct) && READ(direct, prev, pid))
		missed = end_wait(prev, direct);
	/* A task that leaves with a signal pending is made runnable on the way. */
	if (preempt || !state || is_running(prev, direct)) {
		if (READ(direct, prev, pid) && task_asked_for(prev, direct))
			begin_wait(prev, state ? now | KEEP : now & ~KEEP, direct);
	}
	if (READ(direct, next, pid)) {
		begin = end_wait(next, direct);
		/* A wait only begins if the task was asked for. */
		wanted = begin.since || (processes && task_asked_for(next, direct));
		if (begin.since > now) {
			COUNT(&negative, 1);
		} else if (begin.since) {
			ns = now - begin.since;
			count_wait(ns, prev, next, direct);
			if (events && ns >= min_ns)
				submit_event(now, ns, prev, next, direct);
		}
	}
	if (slice)
		account(now, slice, prev, next, !preempt && state, ns, &begin, &missed, wanted, direct);
	return 0;
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

static __always_inline int woken(struct task_struct *task, bool is_new, bool direct)
{
	struct process *process;

	/* Woken before it went to sleep: it runs. */
	if (!is_new && is_on_cpu(task, direct))
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
