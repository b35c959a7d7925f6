/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Which task did it, and whether it is one that was asked for. The filters are decided
 * here, before any other work; a filter that is off is removed by the verifier.
 */
#ifndef TELEPIPE_TASK_H
#define TELEPIPE_TASK_H

#include "kernel.h"

#define COMM_LEN 16

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
const volatile bool want_pid;
const volatile __u32 wanted_pid;
const volatile bool want_uid;
const volatile __u32 wanted_uid;
const volatile bool want_cgroup;
const volatile __u64 wanted_cgroup;
const volatile bool want_comm;
const volatile __u64 wanted_comm[COMM_LEN / 8]; /* padded with zeros, as the kernel does */

/* Describes the current task; false if it was not asked for. */
static __always_inline bool task_wanted(struct task_id *task)
{
	__u64 pid_tgid = bpf_get_current_pid_tgid();
	const __u64 *comm = (const __u64 *)task->comm;

	task->pid = pid_tgid >> 32;
	task->tid = (__u32)pid_tgid;
	if (want_pid && task->pid != wanted_pid)
		return false;
	if (want_uid || tell_all)
		task->uid = (__u32)bpf_get_current_uid_gid();
	if (want_uid && task->uid != wanted_uid)
		return false;
	if (want_cgroup || tell_all)
		task->cgroup_id = bpf_get_current_cgroup_id();
	if (want_cgroup && task->cgroup_id != wanted_cgroup)
		return false;
	bpf_get_current_comm(task->comm, COMM_LEN);
	if (want_comm && (comm[0] != wanted_comm[0] || comm[1] != wanted_comm[1]))
		return false;
	task->known = 1;
	return true;
}

#endif
