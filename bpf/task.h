/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Which task did it, and whether it is one that was asked for. The filters are decided
 * here, before any other work; a filter that is off is removed by the verifier.
 */
#ifndef TELEPIPE_TASK_H
#define TELEPIPE_TASK_H

#include "kernel.h"

#define COMM_LEN 16
#define MAX_PIDS 16
#define MAX_DEPTH 32 /* of cgroups */
#define OWN_SLOTS 256 /* a power of two */
#define OWN_PROBES 8

/* As src/bpf/task.rs reads it. */
struct task_id {
	__u64 cgroup_id;
	__u32 pid; /* the kernel's tgid */
	__u32 tid;
	__u32 uid;
	__u32 known; /* 0: everything else is unset */
	char comm[COMM_LEN];
};

const volatile bool tell_all; /* user and cgroup too, not only process and name */
const volatile __u32 want_pids; /* how many of wanted_pids */
const volatile __u32 wanted_pids[MAX_PIDS];
const volatile bool want_uid;
const volatile __u32 wanted_uid;
const volatile bool want_cgroup;
const volatile __u64 wanted_cgroup; /* it, and all below it */
const volatile bool want_comm;
const volatile __u64 wanted_comm[COMM_LEN / 8]; /* padded with zeros, as the kernel does */
const volatile bool leave_out_self;

/*
 * The processes to leave out, the tracer and those that read its output: a hash table with linear probing, which
 * src/bpf/self_filter.rs changes while hooks read it. A free slot is 0.
 */
volatile __u32 own_pids[OWN_SLOTS];

/* Since 5.11 the current task has a type, and its fields cost a load; see READ. */
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

	/* As a string: older kernels leave what was there before behind a shorter name. */
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

/* Whether the task is in the cgroup that was asked for, or in one below it. */
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

/* Whether a task, the current one or another, is one that was asked for. */
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

/* Describes a task, the current one or another. */
static __always_inline void task_describe(struct task_id *id, struct task_struct *task, bool direct)
{
	id->pid = READ(direct, task, tgid);
	id->tid = READ(direct, task, pid);
	if (tell_all) {
		struct cred *cred = READ(direct, task, cred);

		id->uid = READ(direct, cred, uid.val);
		id->cgroup_id = cgroup_id_of(cgroup_of(task, direct), direct);
	}
	bpf_core_read(id->comm, COMM_LEN, &task->comm);
	id->known = 1;
}

/* Describes the current task; false if it was not asked for. */
static __always_inline bool task_wanted(struct task_id *id)
{
	struct task_struct *task = (struct task_struct *)bpf_get_current_task();

	if (!task_asked_for(task, false))
		return false;
	task_describe(id, task, false);
	return true;
}

#endif
