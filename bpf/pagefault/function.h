/* SPDX-License-Identifier: GPL-2.0 */
/* Faults by the function that serves them, where the exceptions have no tracepoints. */
#ifndef TELEPIPE_PAGEFAULT_FUNCTION_H
#define TELEPIPE_PAGEFAULT_FUNCTION_H

#include "../kernel.h"
#include "../regs.h"
#include "fault.h"

/* Shared with user space while running. */
__u64 lost_ends; /* faults whose end was not seen, though there was one */

/* include/linux/mm_types.h; the same since 5.10, where these were no enumeration yet. */
#define FAULT_FLAG_WRITE 0x01
#define FAULT_FLAG_TRIED 0x20
#define FAULT_FLAG_USER 0x40
#define FAULT_FLAG_INSTRUCTION 0x100
#define VM_FAULT_MAJOR 0x004
#define VM_FAULT_RETRY 0x400
#define VM_FAULT_ERROR 0x873

/*
 * handle_mm_fault(vma, address, flags, regs): without registers nobody has faulted (get_user_pages). If it is to be
 * tried again, the next call of the thread goes on with the time of the first; FAULT_FLAG_TRIED alone does not tell
 * (a fault that gave up the lock of its area does not have it, since 6.4).
 */
static __always_inline void entered(struct begun *begun, __u64 address, __u32 flags)
{
	__u32 own = 0;

	if (begun && begun->flags & AGAIN && begun->address == address) {
		begun->flags &= ~AGAIN;
		return;
	}
	if (flags & FAULT_FLAG_TRIED) { /* nobody saw it begin */
		if (begun)
			forget(begun);
		return;
	}
	own |= flags & FAULT_FLAG_WRITE ? WRITE : 0;
	own |= flags & FAULT_FLAG_USER ? USER : 0;
	own |= flags & FAULT_FLAG_INSTRUCTION ? INSTRUCTION : 0;
	begin(address, 0, own);
}

static __always_inline int left(struct begun *begun, __u32 result, bool tried)
{
	if (!begun->ns || result & VM_FAULT_ERROR) {
		forget(begun);
		return 0;
	}
	if (result & VM_FAULT_RETRY) {
		begun->flags |= AGAIN;
		return 0;
	}
	/* As the kernel counts: what had to be tried again has waited for a device. */
	return end(begun, tried || result & VM_FAULT_MAJOR);
}

SEC("fentry/handle_mm_fault")
int enter(__u64 *ctx)
{
	if (ctx[3])
		entered(begun_here(), ctx[1], (__u32)ctx[2]);
	return 0;
}

SEC("fexit/handle_mm_fault")
int leave(__u64 *ctx)
{
	struct begun *begun = begun_here();

	if (!ctx[3] || !begun || !begun->ns || begun->address != ctx[1])
		return 0;
	return left(begun, (__u32)ctx[4], ctx[2] & FAULT_FLAG_TRIED);
}

/*
 * The same where there is no fentry. What has returned does not tell what it was called with: that is kept, also of
 * those without registers. A call may lie inside another (a driver that takes user pages while it serves a fault);
 * then it is deeper in the stack. If it is not, the return of the one before was not seen: kretprobes keep track of
 * only so many calls at a time.
 */
SEC("kprobe/handle_mm_fault")
int called(struct pt_regs *ctx)
{
	struct mapped *mapped = begun_in_map((__u32)bpf_get_current_pid_tgid());
	__u64 args[4], stack = stack_pointer(ctx);

	function_args(args, ctx);
	if (mapped && mapped->calls) {
		if (stack < mapped->stack) {
			mapped->calls++;
			return 0;
		}
		if (mapped->begun.ns)
			COUNT(&lost_ends, 1);
		forget(&mapped->begun);
		mapped = NULL;
	}
	if (args[3])
		entered((struct begun *)mapped, args[1], (__u32)args[2]);
	else if (task_asked_for(current_task(), TYPED))
		note(true, 0, 0, 0);
	else if (mapped)
		forget(&mapped->begun);
	mapped = begun_in_map((__u32)bpf_get_current_pid_tgid());
	if (!mapped)
		return 0;
	mapped->begun.flags |= args[2] & FAULT_FLAG_TRIED ? TRIED : 0;
	mapped->stack = stack;
	mapped->calls = 1;
	return 0;
}

SEC("kretprobe/handle_mm_fault")
int returned(struct pt_regs *ctx)
{
	struct mapped *mapped = begun_in_map((__u32)bpf_get_current_pid_tgid());
	__u32 result = (__u32)function_result(ctx);

	if (!mapped || !mapped->calls || --mapped->calls)
		return 0;
	return left(&mapped->begun, result, mapped->begun.flags & TRIED);
}

#endif
