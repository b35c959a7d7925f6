// SPDX-License-Identifier: GPL-2.0
/*
 * Block I/O latency per device and operation.
 *
 * One hook, at the completion of a request, which carries its own times: when it was
 * allocated and when it was given to the driver. Everything is counted in arrays that
 * user space has mapped. Two more hooks are attached only when needed: at submission
 * for who did it, at issue for devices whose requests carry no times.
 */
#include "kernel.h"
#include "iolat/count.h"
#include "iolat/event.h"

/* Set before loading. */
const volatile bool task_at_issue;     /* what no hook at submission saw belongs to the task that issues */
const volatile __u32 request_argument; /* of the submission and issue hooks: 1 where it follows the queue */

/* Shared with user space while running. */
__u64 untimed; /* requests without any time: not counted */

/*
 * Bytes count whenever some are done, the rest once, when the last are. The phases of a
 * flush sequence end with no bytes, and are no requests of their own; the flush that is
 * sent to the device is one.
 */
static __always_inline int complete(struct request *rq, int error, __u32 bytes, bool direct)
{
	__u32 op = op_of(READ(direct, rq, cmd_flags));
	bool last = bytes >= READ(direct, rq, __data_len);
	__u64 start, issue, address = (__u64)rq;
	__u32 device, cpu, half, at;
	struct pending *p = NULL;
	struct slot *slot;
	struct peak *peak;
	struct times t;
	int index;

	if (op >= OP_NONE || (!bytes && op != OP_FLUSH))
		return 0;
	device = device_of(rq, direct);
	if (!device || (filter_devices && !device_wanted(device)))
		return 0;
	start = start_of(rq, op, direct);
	issue = READ(direct, rq, io_start_time_ns);
	if (with_task || !issue || !start)
		p = bpf_map_lookup_elem(&pending, &address);
	if (with_task && left_out(p)) {
		if (p && last)
			forget(p, address);
		return 0;
	}
	index = slot_of(device, op);
	if (index < 0)
		return 0;
	half = active_half & 1;
	cpu = bpf_get_smp_processor_id();
	at = ((half * (shard_mask + 1) + (cpu & shard_mask)) << slot_bits) + index;
	slot = bpf_map_lookup_elem(&slots, &at);
	if (!slot)
		return 0;
	COUNT(&slot->bytes, bytes);
	if (!last)
		return 0;

	t.end_ns = bpf_ktime_get_ns();
	if (!reckon(&t, start, issue, p)) {
		COUNT(&untimed, 1);
		return 0;
	}
	count(slot, &t, error);
	at = ((half * cpus + cpu) << slot_bits) + index;
	peak = bpf_map_lookup_elem(&peaks, &at);
	if (peak)
		keep_peak(peak, &t, rq, bytes, p, direct);
	if (events && t.total_ns >= min_ns)
		submit_event(&t, rq, device, op, bytes, error, p, direct);
	if (p)
		forget(p, address);
	return 0;
}

SEC("tp_btf/block_rq_complete")
int complete_btf(__u64 *ctx)
{
	return complete((struct request *)ctx[0], (int)ctx[1], (__u32)ctx[2], true);
}

SEC("raw_tp/block_rq_complete")
int complete_raw(__u64 *ctx)
{
	return complete((struct request *)ctx[0], (int)ctx[1], (__u32)ctx[2], false);
}

static __always_inline struct request *request_of(__u64 *ctx)
{
	return (struct request *)(request_argument ? ctx[1] : ctx[0]);
}

static __always_inline int submitted(struct request *rq, bool direct)
{
	struct pending *p = entry_of((__u64)rq);

	if (p)
		note(p, rq, direct);
	return 0;
}

SEC("tp_btf/block_io_start")
int submit_btf(__u64 *ctx)
{
	return submitted((struct request *)ctx[0], true);
}

SEC("raw_tp/block_io_start")
int submit_raw(__u64 *ctx)
{
	return submitted((struct request *)ctx[0], false);
}

/* Where the tracepoint above does not exist (before 6.5). */
SEC("raw_tp/block_rq_insert")
int submit_insert(__u64 *ctx)
{
	return submitted(request_of(ctx), false);
}

SEC("raw_tp/block_rq_issue")
int issue(__u64 *ctx)
{
	struct request *rq = request_of(ctx);
	struct pending *p = entry_of((__u64)rq);

	if (!p)
		return 0;
	if (task_at_issue && p->start_ns != READ(false, rq, start_time_ns))
		note(p, rq, false);
	p->issue_ns = bpf_ktime_get_ns();
	return 0;
}

char LICENSE[] SEC("license") = "GPL";
