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
#include "hist.h"
#include "ring.h"
#include "task.h"
#include "self.h"

#define MAX_SLOTS 1024
#define PROBES 16

enum op { OP_READ, OP_WRITE, OP_FLUSH, OP_DISCARD, OP_NONE };

/* Set before loading; what is off is removed by the verifier. */
const volatile __u32 slot_bits;     /* 1 << slot_bits slots per shard */
const volatile __u32 shard_mask;    /* shards - 1; a CPU counts in shard cpu & shard_mask */
const volatile __u32 cpus;          /* possible CPUs */
const volatile bool aggregate;      /* all devices in one */
const volatile bool by_partition;   /* devices are partitions, where the request has one */
const volatile bool filter_devices; /* only those in wanted_devices */
const volatile bool with_task;      /* a hook at submission is attached */
const volatile bool task_at_issue;  /* what no hook at submission saw belongs to the task that issues */
const volatile bool filter_task;    /* only requests of tasks that were asked for */
const volatile bool keep_pending;   /* the map has room for every request that exists */
const volatile bool events;         /* an event for each request as slow as min_ns */
const volatile __u64 min_ns;
const volatile __u32 request_argument; /* of the submission and issue hooks: 1 where it follows the queue */

/* Shared with user space while running. */
#define MAX_DEVICES 16
volatile __u32 bank; /* which half of the arrays is counted in */
volatile __u32 time_submissions; /* some requests do not say when they began */
volatile __u32 wanted_devices[MAX_DEVICES];
volatile __u64 keys[MAX_SLOTS]; /* what each slot counts: device and operation */
__u64 lost_slots;               /* requests that found no slot */
__u64 lost_tasks;               /* submissions that found the map full */
__u64 untimed;                  /* requests without any time: not counted */
__u64 unsplit;                  /* requests without a time of issue, or of start: total time only */

/* One device and operation. As src/bpf/io.rs reads it. */
struct slot {
	__u64 bytes;
	__u64 errors;
	__u64 device_ns;
	__u64 queue_ns;
	__u64 unsplit_ns; /* total time of the requests of which not all times are known */
	__u64 pad[3];
	/* The three side by side: total and device time as a rule fall into the same cache line. */
	struct {
		__u32 total;
		__u32 device;
		__u32 queue;
	} buckets[HIST_BUCKETS(5)];
};

/* The longest times, per CPU: written by one CPU alone. */
struct peak {
	__u64 total_ns;
	__u64 device_ns;
	__u64 queue_ns;
	__u64 sector; /* from here on: of the request with the longest total time */
	__u32 bytes;
	__u32 pad;
	struct task_id task;
};

struct pending {
	__u64 start_ns; /* the request's own, which tells it from the next that uses the same memory */
	__u64 submit_ns; /* with time_submissions */
	__u64 issue_ns;
	__u64 left_out; /* the task that submitted it is none that was asked for */
	struct task_id task;
};

struct event {
	__u64 end_ns;
	__u64 total_ns;
	__u64 device_ns;
	__u64 queue_ns;
	__u64 sector;
	__u32 bytes;
	__u32 device;
	__s32 error;
	__u8 op;
	__u8 split; /* device_ns and queue_ns are known */
	__u8 pad[2];
	struct task_id task;
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 1); /* banks x shards x slots */
	__type(key, __u32);
	__type(value, struct slot);
} slots SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 1); /* banks x CPUs x slots */
	__type(key, __u32);
	__type(value, struct peak);
} peaks SEC(".maps");

/* Who owns a slot: decides between CPUs that want the same one, once per slot. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, MAX_SLOTS);
	__type(key, __u32);
	__type(value, __u64);
} owners SEC(".maps");

/* What is known of a request between submission and completion, by its address. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 1024);
	__type(key, __u64);
	__type(value, struct pending);
} pending SEC(".maps");

/* Four bits for each REQ_OP_* below 16. Write same, zone append and write zeroes are
 * writes and secure erase is a discard; zone management and passthrough are neither. */
static __always_inline __u32 op_of(__u32 cmd_flags)
{
	__u32 op = cmd_flags & 0xff;

	if (op == 0 || op == 1)
		return op;
	return op > 15 ? OP_NONE : (0x4414441414343210ULL >> (op * 4)) & 15;
}

/* The device number, minor in the low 20 bits; 0 if the request belongs to no disk. */
static __always_inline __u32 device_of(struct request *rq, bool direct)
{
	struct request___rq_disk *old = (void *)rq;
	struct gendisk *disk;

	if (by_partition) {
		if (bpf_core_type_exists(struct hd_struct)) {
			struct hd_struct *part = READ(direct, (struct request___hd_struct *)rq, part);

			if (part)
				return READ(direct, part, __dev.devt);
		} else {
			struct block_device *part = READ(direct, rq, part);

			if (part)
				return READ(direct, part, bd_dev);
		}
	}
	if (bpf_core_field_exists(old->rq_disk)) {
		disk = READ(direct, old, rq_disk);
	} else {
		struct request_queue *q = READ(direct, rq, q);

		disk = READ(direct, q, disk);
	}
	if (!disk)
		return 0;
	return (__u32)READ(direct, disk, major) << 20 | (__u32)READ(direct, disk, first_minor);
}

static __always_inline bool device_wanted(__u32 device)
{
	for (int i = 0; i < MAX_DEVICES; i++)
		if (wanted_devices[i] == device)
			return true;
	return false;
}

static __always_inline __u32 home_of(__u64 key)
{
	return key * 0x9e3779b97f4a7c15ULL >> 40;
}

/* The index, in a way that the verifier follows and the compiler does not reason away. */
static __always_inline __u32 bounded(__u32 index)
{
	barrier_var(index);
	return index & (MAX_SLOTS - 1);
}

/* Finds or takes a slot; negative if there is none. The hash map stands in for
 * compare-and-exchange, which kernels before 5.12 do not have. */
static __noinline int claim(__u64 key)
{
	__u32 mask = (1U << slot_bits) - 1, home = home_of(key);

	for (__u32 n = 0; n < PROBES; n++) {
		__u32 index = bounded((home + n) & mask);
		__u32 at = index; /* a copy of which helpers may have the address */
		__u64 *owner;

		if (keys[index] == key)
			return index;
		if (keys[index])
			continue;
		if (!bpf_map_update_elem(&owners, &at, &key, BPF_NOEXIST)) {
			keys[index] = key;
			return index;
		}
		owner = bpf_map_lookup_elem(&owners, &at);
		if (owner && *owner == key)
			return index;
	}
	COUNT(&lost_slots, 1);
	return -1;
}

static __always_inline int slot_of(__u32 device, __u32 op)
{
	__u64 key = 1ULL << 63 | (__u64)(aggregate ? 0 : device) << 3 | op;
	__u32 home = bounded(home_of(key) & ((1U << slot_bits) - 1));

	return keys[home] == key ? home : claim(key);
}

struct times {
	__u64 end_ns;
	__u64 total_ns;
	__u64 device_ns;
	__u64 queue_ns;
	bool split;
};

static __always_inline void keep_peak(struct peak *peak, struct times *t, struct request *rq,
				      __u32 bytes, struct pending *p, bool direct)
{
	if (t->total_ns > peak->total_ns) {
		peak->sector = READ(direct, rq, __sector);
		peak->bytes = bytes;
		if (with_task && p)
			peak->task = p->task;
		else if (with_task)
			peak->task.known = 0;
		peak->total_ns = t->total_ns;
	}
	if (t->device_ns > peak->device_ns)
		peak->device_ns = t->device_ns;
	if (t->queue_ns > peak->queue_ns)
		peak->queue_ns = t->queue_ns;
}

static __always_inline void submit_event(struct times *t, struct request *rq, __u32 device, __u32 op,
					 __u32 bytes, int error, struct pending *p, bool direct)
{
	struct event *event = RING_RESERVE(struct event);

	if (!event)
		return;
	event->end_ns = t->end_ns;
	event->total_ns = t->total_ns;
	event->device_ns = t->device_ns;
	event->queue_ns = t->queue_ns;
	event->sector = READ(direct, rq, __sector);
	event->bytes = bytes;
	event->device = device;
	event->error = error;
	event->op = op;
	event->split = t->split;
	event->task.known = 0;
	if (with_task && p)
		event->task = p->task;
	ring_submit(event, false);
}

/*
 * When the request began; 0 if it does not say. Kernels that let statistics be switched off
 * per request (6.11 and later) leave an old time in those that keep none. A flush has none of
 * its own flags and is always timed.
 */
static __always_inline __u64 start_of(struct request *rq, __u32 op, bool direct)
{
	if (bpf_core_type_exists(enum rqf_flags) && op != OP_FLUSH) {
		__u32 keeps = 1U << bpf_core_enum_value(enum rqf_flags, __RQF_IO_STAT);

		if (!(READ(direct, rq, rq_flags) & keeps))
			return 0;
	}
	return READ(direct, rq, start_time_ns);
}

/* Reckons the times of a request that is done; false if it has none. */
static __always_inline bool reckon(struct times *t, __u64 start, __u64 issue, struct pending *p)
{
	if (!issue && p)
		issue = p->issue_ns;
	if (!start && p)
		start = p->submit_ns;
	t->split = start && issue;
	if (!start)
		start = issue;
	if (!start)
		return false;
	t->total_ns = t->end_ns > start ? t->end_ns - start : 0;
	t->device_ns = issue && t->end_ns > issue ? t->end_ns - issue : 0;
	t->queue_ns = issue > start ? issue - start : 0;
	return true;
}

static __always_inline void count(struct slot *slot, struct times *t, int error)
{
	if (error)
		COUNT(&slot->errors, 1);
	COUNT(&slot->buckets[hist_index(t->total_ns)].total, 1);
	if (t->split) {
		COUNT(&slot->device_ns, t->device_ns);
		COUNT(&slot->queue_ns, t->queue_ns);
		COUNT(&slot->buckets[hist_index(t->device_ns)].device, 1);
		COUNT(&slot->buckets[hist_index(t->queue_ns)].queue, 1);
	} else {
		COUNT(&slot->unsplit_ns, t->total_ns);
		COUNT(&unsplit, 1);
	}
}

static __always_inline void forget(struct pending *p, __u64 address)
{
	if (keep_pending) {
		p->start_ns = 0;
		p->submit_ns = 0;
		p->issue_ns = 0;
		p->left_out = 0;
		p->task.known = 0;
	} else {
		bpf_map_delete_elem(&pending, &address);
	}
}

/* A request that began before the hook at submission did counts, unless tasks were asked for. */
static __always_inline bool left_out(struct pending *p)
{
	return filter_task ? !(p && p->task.known) : p && p->left_out;
}

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
	half = bank & 1;
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

/* The entry of a request; NULL if the map is full. */
static __always_inline struct pending *entry_of(__u64 address)
{
	struct pending *p = bpf_map_lookup_elem(&pending, &address);
	struct pending empty = {};

	if (p)
		return p;
	if (bpf_map_update_elem(&pending, &address, &empty, BPF_ANY)) {
		COUNT(&lost_tasks, 1);
		return NULL;
	}
	return bpf_map_lookup_elem(&pending, &address);
}

static __always_inline struct request *request_of(__u64 *ctx)
{
	return (struct request *)(request_argument ? ctx[1] : ctx[0]);
}

/* Notes the submission of a request by the current task. */
static __always_inline void note(struct pending *p, struct request *rq, bool direct)
{
	p->start_ns = READ(direct, rq, start_time_ns);
	p->submit_ns = time_submissions ? bpf_ktime_get_ns() : 0;
	p->issue_ns = 0;
	p->task.known = 0;
	p->left_out = with_task && !task_wanted(&p->task);
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
