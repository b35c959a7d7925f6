/* SPDX-License-Identifier: GPL-2.0 */
/* A call that a task is in: kept from its entry to its exit. */
#ifndef TELEPIPE_SYSCALL_CALL_H
#define TELEPIPE_SYSCALL_CALL_H

#include "../kernel.h"
#include "../task_slot.h"
#include "../regs.h"
#include "choice.h"

/* Set before loading. */
const volatile bool only_map; /* tasks have no slots: for a test of the map alone */

/* Shared with user space while running. */
__u64 elsewhere;  /* tasks that are in the hash map */
__u64 lost_calls; /* entries that found no room */

/* What is kept of a task between entry and exit. */
struct call {
	struct task_slot task_slot; /* of nobody in the hash map */
	__u64 begin_ns;     /* 0: in no call that is followed */
	__s32 nr;
	__u32 compat;
	__u64 pad; /* as long as half a line of the cache */
};

/* The same in the hash map: with the arguments of an exec, which leaves none in the registers, and uses no slot. */
struct mapped {
	struct call call;
	__u64 args[CALL_ARGS];
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE); /* for it begins with a page, then */
	__uint(max_entries, TASK_SLOTS);
	__type(key, __u32);
	__type(value, struct call);
} task_slots SEC(".maps");

/* Of those whose slot another has: by the task's address, which unlike its number does not change in exec. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 1);
	__type(key, __u64);
	__type(value, struct mapped);
} calls_by_task SEC(".maps");

/* The arguments of an exec. By a helper: compiled, it would share instructions with the reading
 * of registers, and the verifier allows each only one kind of memory. */
static __always_inline void recall(__u64 *args, struct call *call)
{
	bpf_probe_read_kernel(args, sizeof(((struct mapped *)call)->args), ((struct mapped *)call)->args);
}

static __always_inline void begin(struct call *call, long nr, bool compat)
{
	call->nr = nr;
	call->compat = compat;
	call->begin_ns = bpf_ktime_get_ns();
}

/* The slot that a thread has, or may have. */
static __always_inline struct call *task_slot_of(__u32 tid)
{
	__u32 at = task_slot_at(tid, 1);

	return only_map ? NULL : bpf_map_lookup_elem(&task_slots, &at);
}

static __always_inline struct mapped *call_in_map(struct task_struct *task)
{
	__u64 key = (__u64)task;

	return elsewhere ? bpf_map_lookup_elem(&calls_by_task, &key) : NULL;
}

/* The call that a task is in, or was in last; NULL if none was seen. */
static __always_inline struct call *call_of(struct task_struct *task, __u32 tid)
{
	struct call *task_slot = task_slot_of(tid), *mapped;

	if (task_slot && !task_slot_owned_by(&task_slot->task_slot, tid))
		task_slot = NULL;
	if (task_slot && task_slot->begin_ns)
		return task_slot;
	mapped = (struct call *)call_in_map(task);
	return mapped ?: task_slot;
}

/* Keeps in the hash map the call that a task begins. */
static __always_inline void begin_in_map(struct task_struct *task, __u8 kind, struct pt_regs *regs, long nr,
					 bool compat, bool direct)
{
	struct mapped *mapped = call_in_map(task), empty = {};
	__u64 key = (__u64)task;

	if (!mapped && !bpf_map_update_elem(&calls_by_task, &key, &empty, BPF_NOEXIST)) {
		COUNT(&elsewhere, 1);
		mapped = bpf_map_lookup_elem(&calls_by_task, &key);
	}
	if (!mapped) {
		COUNT(&lost_calls, 1);
		return;
	}
	if (kind & EXEC)
		call_args(mapped->args, regs, compat, direct);
	begin(&mapped->call, nr, compat);
}

static __always_inline void forget_in_map(struct task_struct *task)
{
	__u64 key = (__u64)task;

	if (elsewhere && !bpf_map_delete_elem(&calls_by_task, &key))
		COUNT(&elsewhere, -1);
}

#endif
