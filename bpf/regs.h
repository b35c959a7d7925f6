/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Reads system calls and kernel functions from saved registers: numbers, arguments and results, on
 * x86-64 and arm64. The running kernel's BTF decides which of the two it is.
 */
#ifndef TELEPIPE_REGS_H
#define TELEPIPE_REGS_H

#include "kernel.h"

#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)

struct pt_regs {
};

struct pt_regs___x86 {
	unsigned long di, si, dx, r10, r8, r9;
	unsigned long bx, cx, bp;
	unsigned long orig_ax;
	unsigned long ax, sp;
};

struct pt_regs___arm64 {
	__u64 regs[31];
	__u64 sp;
	__u64 orig_x0;
	__s32 syscallno;
};

struct thread_info___x86 {
	__u32 status;
};

struct thread_info___arm64 {
	unsigned long flags;
};

struct task_struct___x86 {
	struct thread_info___x86 thread_info;
};

struct task_struct___arm64 {
	struct thread_info___arm64 thread_info;
};

struct task_struct___stack {
	void *stack;
};

enum bpf_func_id___regs {
	BPF_FUNC_task_pt_regs___regs = 175,
};

#pragma clang attribute pop

#define TS_COMPAT 2          /* x86: arch/x86/include/asm/thread_info.h */
#define TIF_32BIT (1UL << 22) /* arm64: arch/arm64/include/asm/thread_info.h */
#define THREAD_SIZE (16 << 10)
#define CALL_ARGS 6

/* Whether the task is in a 32-bit call. */
static __always_inline bool is_compat(struct task_struct *task, bool direct)
{
	struct task_struct___x86 *x86 = (void *)task;
	struct task_struct___arm64 *arm = (void *)task;

	if (bpf_core_field_exists(x86->thread_info.status))
		return READ(direct, x86, thread_info.status) & TS_COMPAT;
	return READ(direct, arm, thread_info.flags) & TIF_32BIT;
}

static __always_inline void call_args(__u64 *args, struct pt_regs *regs, bool compat, bool direct)
{
	struct pt_regs___x86 *x86 = (void *)regs;
	struct pt_regs___arm64 *arm = (void *)regs;

	if (!bpf_core_field_exists(x86->orig_ax)) {
		args[0] = READ(direct, arm, orig_x0);
		args[1] = READ(direct, arm, regs[1]);
		args[2] = READ(direct, arm, regs[2]);
		args[3] = READ(direct, arm, regs[3]);
		args[4] = READ(direct, arm, regs[4]);
		args[5] = READ(direct, arm, regs[5]);
	} else if (compat) {
		args[0] = READ(direct, x86, bx);
		args[1] = READ(direct, x86, cx);
		args[2] = READ(direct, x86, dx);
		args[3] = READ(direct, x86, si);
		args[4] = READ(direct, x86, di);
		args[5] = READ(direct, x86, bp);
	} else {
		args[0] = READ(direct, x86, di);
		args[1] = READ(direct, x86, si);
		args[2] = READ(direct, x86, dx);
		args[3] = READ(direct, x86, r10);
		args[4] = READ(direct, x86, r8);
		args[5] = READ(direct, x86, r9);
	}
}

/* The number of the call that a sleeping task is in; negative if it is in none. */
static __always_inline long call_number(struct pt_regs *regs)
{
	struct pt_regs___x86 *x86 = (void *)regs;
	struct pt_regs___arm64 *arm = (void *)regs;

	if (bpf_core_field_exists(x86->orig_ax))
		return (long)READ(false, x86, orig_ax);
	return READ(false, arm, syscallno);
}

/*
 * The first four arguments of a function that is entered. Read by a helper: the compiler merges direct
 * loads of both branches into one from a computed address, which older kernels refuse.
 */
static __always_inline void function_args(__u64 *args, struct pt_regs *regs)
{
	struct pt_regs___x86 *x86 = (void *)regs;
	struct pt_regs___arm64 *arm = (void *)regs;

	if (bpf_core_field_exists(x86->orig_ax)) {
		args[0] = READ(false, x86, di);
		args[1] = READ(false, x86, si);
		args[2] = READ(false, x86, dx);
		args[3] = READ(false, x86, cx);
	} else {
		args[0] = READ(false, arm, regs[0]);
		args[1] = READ(false, arm, regs[1]);
		args[2] = READ(false, arm, regs[2]);
		args[3] = READ(false, arm, regs[3]);
	}
}

/* The result of a function that has returned. */
static __always_inline __u64 function_result(struct pt_regs *regs)
{
	struct pt_regs___x86 *x86 = (void *)regs;
	struct pt_regs___arm64 *arm = (void *)regs;

	if (bpf_core_field_exists(x86->orig_ax))
		return READ(false, x86, ax);
	return READ(false, arm, regs[0]);
}

/* The stack pointer: lower in nested calls. */
static __always_inline __u64 stack_pointer(struct pt_regs *regs)
{
	struct pt_regs___x86 *x86 = (void *)regs;
	struct pt_regs___arm64 *arm = (void *)regs;

	if (bpf_core_field_exists(x86->orig_ax))
		return READ(false, x86, sp);
	return READ(false, arm, sp);
}

/* The registers that the task saved when it entered the kernel. */
static __always_inline struct pt_regs *regs_of(struct task_struct *task)
{
	struct task_struct___stack *holder = (void *)task;

	if (bpf_core_enum_value_exists(enum bpf_func_id___regs, BPF_FUNC_task_pt_regs___regs))
		return (struct pt_regs *)bpf_task_pt_regs(task);
	/* Before 5.15 there is no helper: they are at the top of the stack. */
	return READ(false, holder, stack) + THREAD_SIZE - bpf_core_type_size(struct pt_regs);
}

#endif
