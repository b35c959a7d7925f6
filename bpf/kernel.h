/* SPDX-License-Identifier: GPL-2.0 */
/*
 * What the tracers need of the kernel, and no more: the base types and constants of
 * the BPF interface, and the fields of kernel structs that are read. Offsets are not
 * these: each field is looked up by name in the running kernel's BTF when a program
 * is loaded (CO-RE). A name after ___ is a variant of the struct without it.
 */
#ifndef TELEPIPE_KERNEL_H
#define TELEPIPE_KERNEL_H

typedef unsigned char __u8;
typedef signed short __s16;
typedef unsigned short __u16;
typedef signed int __s32;
typedef unsigned int __u32;
typedef signed long long __s64;
typedef unsigned long long __u64;
typedef __u16 __be16;
typedef __u32 __be32;
typedef __u32 __wsum;
typedef _Bool bool;
#define true 1
#define false 0
#define NULL ((void *)0)

/* include/uapi/linux/bpf.h */
enum {
	BPF_MAP_TYPE_HASH = 1,
	BPF_MAP_TYPE_ARRAY = 2,
	BPF_MAP_TYPE_RINGBUF = 27,
};
enum {
	BPF_ANY = 0,
	BPF_NOEXIST = 1,
};
enum {
	BPF_F_MMAPABLE = 1 << 10,
};
enum {
	BPF_RB_NO_WAKEUP = 1,
	BPF_RB_FORCE_WAKEUP = 2,
	BPF_RB_AVAIL_DATA = 0,
	BPF_RB_RING_SIZE = 1,
};

#include <bpf/bpf_helpers.h>
#include <bpf/bpf_core_read.h>

#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)

/* include/linux/sched.h, and what it refers to */
struct cred { /* include/linux/cred.h */
	struct {
		__u32 val;
	} uid;
};

struct kernfs_node { /* include/linux/kernfs.h */
	__u64 id;
};

struct cgroup_subsys_state { /* include/linux/cgroup-defs.h */
	struct cgroup *cgroup;
	struct cgroup_subsys_state *parent;
};

struct cgroup {
	struct cgroup_subsys_state self;
	struct kernfs_node *kn;
};

struct css_set {
	struct cgroup *dfl_cgrp;
};

struct task_struct {
	__s32 pid;
	__s32 tgid;
	__u32 __state; /* since 5.14 */
	struct task_struct *group_leader;
	struct cred *cred;
	char comm[16];
	struct css_set *cgroups;
	__u64 self_exec_id; /* counts the programs that it became */
	__u32 flags;
	__s32 pagefault_disabled;
};

enum bpf_func_id___task {
	BPF_FUNC_get_current_task_btf___task = 158, /* since 5.11 */
};

struct task_struct___old { /* until 5.13 */
	long state;
};

struct task_struct___on_cpu { /* a byte in newer kernels, see below */
	__s32 on_cpu;
};

struct task_struct___on_cpu_byte {
	__u8 on_cpu;
};

/* include/uapi/linux/bpf_perf_event.h; what is before it differs by processor */
struct bpf_perf_event_data {
	__u64 addr;
};

/* arch/x86/include/asm/ptrace.h */
struct pt_regs___ip {
	unsigned long ip;
};

#pragma clang attribute pop

/*
 * A field of a kernel struct. A program of type tp_btf has typed pointers and reads
 * through them at the cost of a load; any other calls a helper. `direct` is a constant
 * wherever this is inlined, so that one of the two remains.
 */
#define READ(direct, ptr, field)                                              \
	({                                                                    \
		typeof((ptr)->field) value_;                                  \
		if (direct)                                                   \
			value_ = (ptr)->field;                                \
		else                                                          \
			bpf_core_read(&value_, sizeof(value_), &(ptr)->field); \
		value_;                                                       \
	})

/* An array that can be mapped into user space, which also aligns it to pages. */
#define ARRAY_MAP(name, elements, value_type)          \
	struct {                                       \
		__uint(type, BPF_MAP_TYPE_ARRAY);      \
		__uint(map_flags, BPF_F_MMAPABLE);     \
		__uint(max_entries, elements);         \
		__type(key, __u32);                    \
		__type(value, value_type);             \
	} name SEC(".maps")

#define HASH_MAP(name, elements, key_type, value_type) \
	struct {                                       \
		__uint(type, BPF_MAP_TYPE_HASH);       \
		__uint(max_entries, elements);         \
		__type(key, key_type);                 \
		__type(value, value_type);             \
	} name SEC(".maps")

/* Adds to what several CPUs count. Plain atomic additions exist on every kernel we support. */
#define COUNT(ptr, by) ((void)__sync_fetch_and_add(ptr, by))

#endif
