// SPDX-License-Identifier: GPL-2.0
/*
 * Page faults: how long each took, and what it was.
 *
 * A fault begins at the tracepoint of the exception, which tells address and cause, and ends
 * where the kernel raises the software event of a minor or a major fault: once per fault, when
 * it is done. A fault that fails raises none: the next one of the thread takes its place. Where
 * the exceptions have no tracepoints, both ends are those of handle_mm_fault.
 *
 * A time is told only where both ends are known to be of one fault.
 */
#include "kernel.h"
#include "pagefault/fault.h"
#include "pagefault/function.h"

/* The bits of x86's error code: 2 is a write, 16 an instruction that was to be fetched. */
static __always_inline int exception(__u64 *ctx, __u32 user, bool direct)
{
	struct pt_regs___ip *regs = (void *)ctx[1];
	__u32 code = (__u32)ctx[2];

	begin(ctx[0], READ(direct, regs, ip), user | (code & 2 ? WRITE : 0) | (code & 16 ? INSTRUCTION : 0));
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

/* Of the fault that began last, or of one that was not noted: the address tells. */
static __always_inline int software_event(struct bpf_perf_event_data *ctx, bool major)
{
	struct begun *begun = begun_here();

	if (!begun || !begun->ns || begun->address != ctx->addr)
		return 0;
	return end(begun, major);
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

/* The next thread may have the number of one that has ended, maybe inside a fault. */
SEC("raw_tp/sched_process_exit")
int thread_exit(__u64 *ctx)
{
	__u32 tid = (__u32)bpf_get_current_pid_tgid();
	struct mapped *mapped = begun_in_map(tid);
	struct begun *task_slot = task_slot_of(tid);

	(void)ctx;
	if (task_slot && task_slot_owned_by(&task_slot->task_slot, tid))
		task_slot_release(&task_slot->task_slot, tid, 0);
	if (!mapped)
		return 0;
	if (mapped->calls && mapped->begun.ns)
		COUNT(&lost_ends, 1);
	forget_mapped(tid);
	return 0;
}

char LICENSE[] SEC("license") = "GPL";
