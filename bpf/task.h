/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Tasks: the filters that select them, which hooks apply before any other work, and their description in events.
 * The verifier removes filters that are off.
 */
#ifndef TELEPIPE_TASK_H
#define TELEPIPE_TASK_H

#include "kernel.h"

#define COMM_LEN 16
#define MAX_PIDS 16
#define MAX_DEPTH 32 /* of cgroups */
#define OWN_SLOTS 256 /* a power of two */
#define OWN_PROBES 8

/* A thread. src/bpf/skeleton.rs converts it. */
struct task_id {
	__u64 cgroup_id;
	__u32 pid; /* the kernel's tgid */
	__u32 tid;
	__u32 uid;
	__u32 known; /* 0: everything else is unset */
	char comm[COMM_LEN];
};

const volatile bool describe_all; /* fill in user and cgroup, not only process and name */
const volatile __u32 want_pids; /* the number of wanted_pids; 0 for all processes */
const volatile __u32 wanted_pids[MAX_PIDS];
const volatile bool want_uid;
const volatile __u32 wanted_uid;
const volatile bool want_cgroup;
const volatile __u64 wanted_cgroup; /* this one and all below it */
const volatile bool want_comm;
const volatile __u64 wanted_comm[COMM_LEN / 8]; /* padded with zeros, as the kernel does */
const volatile bool leave_out_self;

/*
 * The processes to leave out, the tracer and those that read its output: a hash table with linear probing, which
 * src/bpf/self_filter.rs changes while hooks read it. A free slot is 0.
 */
volatile __u32 own_pids[OWN_SLOTS];

/* Since 5.11 the pointer to the current task has a type, so that reading a field costs a load only; see READ. */
#define TYPED bpf_core_enum_value_exists(enum bpf_func_id___task, BPF_FUNC_get_current_task_btf___task)

static __always_inline struct task_struct *current_task(void)
{
	if (TYPED)
		return (struct task_struct *)bpf_get_current_task_btf();
	return (struct task_struct *)bpf_get_current_task();
}

static __always_inline bool pid_wanted(__u32 pid)
{
	for (__u32 i = 0; i < MAX_PIDS; i++)
		if (i < want_pids && wanted_pids[i] == pid)
			return true;
	return false;
}

static __always_inline bool comm_wanted(struct task_struct *task)
{
	__u64 comm[COMM_LEN / 8] = {};

	/* As a string: older kernels leave the rest of a longer name behind a shorter one. */
	bpf_core_read_str(comm, COMM_LEN, &task->comm);
	return comm[0] == wanted_comm[0] && comm[1] == wanted_comm[1];
}

static __always_inline __u64 cgroup_id_of(struct cgroup *cgroup, bool direct)
{
	struct kernfs_node *node = READ(direct, cgroup, kn);

	return READ(direct, node, id);
}

static __always_inline struct cgroup *cgroup_of(struct task_struct *task, bool direct)
{
	struct css_set *set = READ(direct, task, cgroups);

	return READ(direct, set, dfl_cgrp);
}

/* Whether the task is in wanted_cgroup or below it. */
static __always_inline bool cgroup_wanted(struct task_struct *task, bool direct)
{
	struct cgroup *cgroup = cgroup_of(task, direct);

	for (int i = 0; i < MAX_DEPTH && cgroup; i++) {
		struct cgroup_subsys_state *above;

		if (cgroup_id_of(cgroup, direct) == wanted_cgroup)
			return true;
		above = READ(direct, cgroup, self.parent);
		if (!above)
			return false;
		cgroup = READ(direct, above, cgroup);
	}
	return false;
}

static __always_inline bool is_own(struct task_struct *task, bool direct)
{
	__u32 pid = READ(direct, task, tgid);

	for (__u32 n = 0; n < OWN_PROBES; n++) {
		__u32 slot = own_pids[(pid + n) & (OWN_SLOTS - 1)];

		if (!slot)
			return false;
		if (slot == pid)
			return true;
	}
	return false;
}

/* Whether the filters select a task. */
static __always_inline bool task_asked_for(struct task_struct *task, bool direct)
{
	if (want_pids && !pid_wanted(READ(direct, task, tgid)))
		return false;
	if (want_uid) {
		struct cred *cred = READ(direct, task, cred);

		if (READ(direct, cred, uid.val) != wanted_uid)
			return false;
	}
	if (want_cgroup && !cgroup_wanted(task, direct))
		return false;
	if (want_comm && !comm_wanted(task))
		return false;
	return !(leave_out_self && is_own(task, direct));
}

/* Fills in the description of a task. */
static __always_inline void task_describe(struct task_id *id, struct task_struct *task, bool direct)
{
	id->pid = READ(direct, task, tgid);
	id->tid = READ(direct, task, pid);
	if (describe_all) {
		struct cred *cred = READ(direct, task, cred);

		id->uid = READ(direct, cred, uid.val);
		id->cgroup_id = cgroup_id_of(cgroup_of(task, direct), direct);
	}
	bpf_core_read(id->comm, COMM_LEN, &task->comm);
	id->known = 1;
}

/* Fills in the description of the current task; false if the filters do not select it. */
static __always_inline bool task_wanted(struct task_id *id)
{
	struct task_struct *task = (struct task_struct *)bpf_get_current_task();

	if (!task_asked_for(task, false))
		return false;
	task_describe(id, task, false);
	return true;
}

#endif
