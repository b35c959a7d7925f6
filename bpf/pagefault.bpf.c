// SPDX-License-Identifier: GPL-2.0
/*
 * Page faults and how long each took.
 *
 * A fault begins at the tracepoint of the exception, which has address and cause, and ends where
 * the kernel raises the software event of a minor or major fault, once per fault when it is done.
 * A fault that fails raises none: the thread's next fault replaces it. If exceptions have no
 * tracepoints, the begin and end of handle_mm_fault are used.
 *
 * A time is reported only where both ends are known to belong to the same fault.
 */
#include "kernel.h"
#include "pagefault.h"
#include "regs.h"

/* Shared with user space while running. */
__u64 lost_ends; /* faults whose end was missed */

/* Bits of x86's error code (arch/x86/include/asm/trap_pf.h). */
#define X86_PF_WRITE 2
#define X86_PF_INSTR 16

static __always_inline int exception(__u64 *ctx, __u32 user, bool direct)
{
	struct pt_regs___ip *regs = (void *)ctx[1];
	__u32 code = (__u32)ctx[2];

	begin(ctx[0], READ(direct, regs, ip),
	      user | (code & X86_PF_WRITE ? WRITE : 0) | (code & X86_PF_INSTR ? INSTRUCTION : 0));
	return 0;
}

SEC("tp_btf/page_fault_user")
int user_btf(__u64 *ctx)
{
	return exception(ctx, USER, true);
}

SEC("tp_btf/page_fault_kernel")
int kernel_btf(__u64 *ctx)
{
	return exception(ctx, 0, true);
}

SEC("raw_tp/page_fault_user")
int user_raw(__u64 *ctx)
{
	return exception(ctx, USER, false);
}

SEC("raw_tp/page_fault_kernel")
int kernel_raw(__u64 *ctx)
{
	return exception(ctx, 0, false);
}

/* The begin of this fault may have been missed: only the same address is the same fault. */
static __always_inline int software_event(struct bpf_perf_event_data *ctx, bool major)
{
	struct fault *fault = current_fault();

	if (!fault || !fault->ns || fault->address != ctx->addr)
		return 0;
	return end(fault, major);
}

SEC("perf_event")
int end_minor(struct bpf_perf_event_data *ctx)
{
	return software_event(ctx, false);
}

SEC("perf_event")
int end_major(struct bpf_perf_event_data *ctx)
{
	return software_event(ctx, true);
}

/* include/linux/mm_types.h: the same values since 5.10, where some are macros and not in BTF. */
#define FAULT_FLAG_WRITE 0x01
#define FAULT_FLAG_TRIED 0x20
#define FAULT_FLAG_USER 0x40
#define FAULT_FLAG_INSTRUCTION 0x100
#define VM_FAULT_MAJOR 0x004
#define VM_FAULT_RETRY 0x400
#define VM_FAULT_ERROR 0x873

/*
 * The entry of handle_mm_fault(vma, address, flags, regs). Without regs it is not a fault, but
 * get_user_pages. A retry continues the time of the first try. Since 6.4 FAULT_FLAG_TRIED does not
 * mark every retry: a fault that released the lock of its area is tried again without it.
 */
static __always_inline void entered(struct fault *fault, __u64 address, __u32 flags)
{
	__u32 found = 0;

	if (fault && fault->flags & TRIED_AGAIN && fault->address == address) {
		fault->flags &= ~TRIED_AGAIN;
		return;
	}
	if (flags & FAULT_FLAG_TRIED) { /* the first try was missed */
		if (fault)
			forget(fault);
		return;
	}
	found |= flags & FAULT_FLAG_WRITE ? WRITE : 0;
	found |= flags & FAULT_FLAG_USER ? USER : 0;
	found |= flags & FAULT_FLAG_INSTRUCTION ? INSTRUCTION : 0;
	begin(address, 0, found);
}

static __always_inline int left(struct fault *fault, __u32 result, bool tried)
{
	if (!fault->ns || result & VM_FAULT_ERROR) {
		forget(fault);
		return 0;
	}
	if (result & VM_FAULT_RETRY) {
		fault->flags |= TRIED_AGAIN;
		return 0;
	}
	/* As in mm_account_fault: a fault that needed a retry has waited for a device. */
	return end(fault, tried || result & VM_FAULT_MAJOR);
}

SEC("fentry/handle_mm_fault")
int enter(__u64 *ctx)
{
	if (ctx[3])
		entered(current_fault(), ctx[1], (__u32)ctx[2]);
	return 0;
}

SEC("fexit/handle_mm_fault")
int leave(__u64 *ctx)
{
	struct fault *fault = current_fault();

	if (!ctx[3] || !fault || !fault->ns || fault->address != ctx[1])
		return 0;
	return left(fault, (__u32)ctx[4], ctx[2] & FAULT_FLAG_TRIED);
}

/*
 * The same by kprobes. A kretprobe does not know the arguments, so the state of every call is kept,
 * also of those without regs. A call can nest in another (a driver that takes user pages while it
 * serves a fault); then its stack pointer is lower. If it is not lower, the return of the earlier
 * call was missed: kretprobes track a limited number of calls at a time.
 */
SEC("kprobe/handle_mm_fault")
int called(struct pt_regs *ctx)
{
	struct hashed_fault *outer = hashed_fault_of((__u32)bpf_get_current_pid_tgid());
	__u64 args[4], stack = stack_pointer(ctx);

	function_args(args, ctx);
	if (outer && outer->calls) {
		if (stack < outer->stack) {
			outer->calls++;
			return 0;
		}
		if (outer->fault.ns)
			COUNT(&lost_ends, 1);
		forget(&outer->fault);
		outer = NULL;
	}
	if (args[3])
		entered((struct fault *)outer, args[1], (__u32)args[2]);
	else if (task_asked_for(current_task(), TYPED))
		store(false, 0, 0, 0);
	else if (outer)
		forget(&outer->fault);
	outer = hashed_fault_of((__u32)bpf_get_current_pid_tgid());
	if (!outer)
		return 0;
	outer->fault.flags |= args[2] & FAULT_FLAG_TRIED ? TRIED : 0;
	outer->stack = stack;
	outer->calls = 1;
	return 0;
}

SEC("kretprobe/handle_mm_fault")
int returned(struct pt_regs *ctx)
{
	struct hashed_fault *hashed_fault = hashed_fault_of((__u32)bpf_get_current_pid_tgid());
	__u32 result = (__u32)function_result(ctx);

	if (!hashed_fault || !hashed_fault->calls || --hashed_fault->calls)
		return 0;
	return left(&hashed_fault->fault, result, hashed_fault->fault.flags & TRIED);
}

/* Thread numbers are reused: the next thread must not find a fault that never ended. */
SEC("raw_tp/sched_process_exit")
int thread_exit(__u64 *ctx)
{
	__u32 tid = (__u32)bpf_get_current_pid_tgid();
	struct hashed_fault *hashed_fault = hashed_fault_of(tid);
	struct fault *fault = slot_of(tid);

	(void)ctx;
	if (fault && task_slot_owned_by(&fault->slot, tid))
		task_slot_release(&fault->slot, tid, 0);
	if (!hashed_fault)
		return 0;
	if (hashed_fault->calls && hashed_fault->fault.ns)
		COUNT(&lost_ends, 1);
	delete_hashed(tid);
	return 0;
}

char LICENSE[] SEC("license") = "GPL";
