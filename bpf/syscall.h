/* SPDX-License-Identifier: GPL-2.0 */
/* Which system calls are traced, which of them wait by design, and the call that each task is in. */
#ifndef TELEPIPE_SYSCALL_H
#define TELEPIPE_SYSCALL_H

#include "kernel.h"
#include "regs.h"
#include "task.h"
#include "task_slot.h"

#define NUMBERS 512 /* per table; the last stands for every number from 511 on */

enum call_flags {
	CHOSEN = 1,
	WAITS = 2,          /* always, by design */
	WAITS_BY_FILE = 4,  /* for some types of file, see fd_type_of */
	EXEC = 8,
	WAITS_BY_ARG = 16, /* for some first arguments; these bits and up index waiting_args */
};

/* Set before loading. */
const volatile __u8 flags_of_calls[2 * NUMBERS]; /* native calls, then 32-bit ones */
const volatile __u32 waiting_args[4];            /* bit n: the first argument n waits */
const volatile bool waits;                       /* report calls that wait by design too */
const volatile bool no_task_slots;               /* hash map only, to test it */

/* Shared with user space while running. */
__u64 hashed;     /* tasks in the hash map */
__u64 lost_calls; /* calls whose entry found no room */

const enum call_flags *call_flags; /* unused: puts the type into BTF, for src/bpf/syscall */

/* The last call of the task that owns the slot. */
struct call {
	struct task_slot slot; /* no owner in the hash map */
	__u64 begin_ns;        /* 0: in no traced call */
	__s32 nr;
	__u32 compat;
	__u64 pad; /* to half a cache line */
};

/* The same in the hash map. An exec is always here, with its arguments, because it clears the registers. */
struct hashed_call {
	struct call call;
	__u64 args[CALL_ARGS];
};

ARRAY_MAP(task_slots, TASK_SLOTS, struct call);

/* Calls of tasks whose slot another task owns, by the task's address, because exec can change its ID. */
HASH_MAP(calls_by_task, 1, __u64, struct hashed_call);

static __always_inline __u32 index_of(__s32 nr, bool compat)
{
	__u32 index = (__u32)nr < NUMBERS ? nr : NUMBERS - 1;

	if (compat)
		index += NUMBERS;
	barrier_var(index);
	return index & (2 * NUMBERS - 1);
}

/* The flags of a call that begins; 0 if the task is not traced. */
static __always_inline __u8 flags_of(struct task_struct *task, long nr, bool compat, bool direct)
{
	return task_asked_for(task, direct) ? flags_of_calls[index_of(nr, compat)] : 0;
}

/* For numbers that stand for several calls, such as socketcall: whether this one waits by design. */
static __always_inline bool waits_by_arg(__u8 flags, __u64 arg)
{
	return waiting_args[flags / WAITS_BY_ARG & 3] >> (arg & 31) & 1;
}

/*
 * The saved arguments of an exec. Read by a helper, because the compiler would merge a direct
 * read with that of the registers, and the verifier allows an instruction only one type of memory.
 */
static __always_inline void saved_args(__u64 *args, struct call *call)
{
	struct hashed_call *hashed_call = (struct hashed_call *)call;

	bpf_probe_read_kernel(args, sizeof(hashed_call->args), hashed_call->args);
}

static __always_inline void begin(struct call *call, long nr, bool compat)
{
	call->nr = nr;
	call->compat = compat;
	call->begin_ns = bpf_ktime_get_ns();
}

static __always_inline struct call *slot_of(__u32 tid)
{
	__u32 at = task_slot_at(tid, 1);

	return no_task_slots ? NULL : bpf_map_lookup_elem(&task_slots, &at);
}

static __always_inline struct hashed_call *hashed_call_of(struct task_struct *task)
{
	__u64 key = (__u64)task;

	return hashed ? bpf_map_lookup_elem(&calls_by_task, &key) : NULL;
}

/* The call that a task is in, or else its last one; NULL if it never made one. */
static __always_inline struct call *call_of(struct task_struct *task, __u32 tid)
{
	struct call *slot = slot_of(tid), *hashed_call;

	if (slot && !task_slot_owned_by(&slot->slot, tid))
		slot = NULL;
	if (slot && slot->begin_ns)
		return slot;
	hashed_call = (struct call *)hashed_call_of(task);
	return hashed_call ?: slot;
}

static __always_inline void begin_hashed(struct task_struct *task, __u8 flags, struct pt_regs *regs, long nr,
					 bool compat, bool direct)
{
	struct hashed_call *hashed_call = hashed_call_of(task), empty = {};
	__u64 key = (__u64)task;

	if (!hashed_call && !bpf_map_update_elem(&calls_by_task, &key, &empty, BPF_NOEXIST)) {
		COUNT(&hashed, 1);
		hashed_call = bpf_map_lookup_elem(&calls_by_task, &key);
	}
	if (!hashed_call) {
		COUNT(&lost_calls, 1);
		return;
	}
	if (flags & EXEC)
		call_args(hashed_call->args, regs, compat, direct);
	begin(&hashed_call->call, nr, compat);
}

static __always_inline void delete_hashed(struct task_struct *task)
{
	__u64 key = (__u64)task;

	if (hashed && !bpf_map_delete_elem(&calls_by_task, &key))
		COUNT(&hashed, -1);
}

#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)

struct super_block___fd { /* include/linux/fs.h */
	unsigned long s_magic;
};

struct inode___fd {
	__u16 i_mode;
	__u32 i_rdev;
	struct super_block___fd *i_sb;
};

struct file_operations___fd {
	void *poll;
};

struct file___fd {
	struct inode___fd *f_inode;
	struct file_operations___fd *f_op;
};

struct fdtable___fd { /* include/linux/fdtable.h */
	__u32 max_fds;
	struct file___fd **fd;
};

struct files_struct___fd {
	struct fdtable___fd *fdt;
};

struct task_struct___fd {
	struct files_struct___fd *files;
};

#pragma clang attribute pop

/* The types of file that a read or write can wait for. */
enum fd_type { FD_OTHER, FD_PIPE, FD_SOCKET, FD_TTY, FD_ANON, FD_DEVICE };

#define S_IFMT 0170000
#define S_IFIFO 0010000
#define S_IFCHR 0020000
#define S_IFSOCK 0140000
#define ANON_INODE_FS_MAGIC 0x09041934 /* include/uapi/linux/magic.h */

/* Virtual and pseudo terminals, serial lines, and those on USB (Documentation/admin-guide/devices.txt). */
static __always_inline bool is_terminal(__u32 major)
{
	return major == 4 || major == 5 || (major >= 136 && major <= 143) || major == 166 ||
	       major == 188 || major == 204 || major == 229;
}

/* Devices whose readers wait for something to happen, such as /dev/kmsg, support poll; memory and tapes do not. */
static __always_inline bool can_be_polled(struct file___fd *file)
{
	struct file_operations___fd *operations = READ(false, file, f_op);

	return READ(false, operations, poll);
}

/* The file of any task. The files of a task other than the current one can disappear: FD_OTHER. */
static __always_inline enum fd_type fd_type_of(struct task_struct *task, __u32 fd)
{
	struct task_struct___fd *holder = (void *)task;
	struct files_struct___fd *files = READ(false, holder, files);
	struct file___fd **table, *file = NULL;
	struct super_block___fd *super;
	struct fdtable___fd *fdt;
	struct inode___fd *inode;
	__u32 type;

	if (!files)
		return FD_OTHER;
	fdt = READ(false, files, fdt);
	if (fd >= READ(false, fdt, max_fds))
		return FD_OTHER;
	table = READ(false, fdt, fd);
	bpf_probe_read_kernel(&file, sizeof(file), table + fd);
	if (!file)
		return FD_OTHER;
	inode = READ(false, file, f_inode);
	type = READ(false, inode, i_mode) & S_IFMT;
	if (type == S_IFIFO)
		return FD_PIPE;
	if (type == S_IFSOCK)
		return FD_SOCKET;
	if (type == S_IFCHR) {
		if (is_terminal(READ(false, inode, i_rdev) >> 20))
			return FD_TTY;
		return can_be_polled(file) ? FD_DEVICE : FD_OTHER;
	}
	super = READ(false, inode, i_sb);
	return READ(false, super, s_magic) == ANON_INODE_FS_MAGIC ? FD_ANON : FD_OTHER;
}

#endif
