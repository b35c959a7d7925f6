// SPDX-License-Identifier: GPL-2.0
/*
 * Block I/O latency by device and operation.
 *
 * One hook at the completion of a request, which carries its own times: when it was allocated
 * and when it was given to the driver. It counts in arrays that user space has mapped. Hooks at
 * submission and issue are attached only to record who submits, or if requests carry no times.
 */
#include "iolat.h"
#include "hist.h"
#include "map.h"
#include "task.h"

#define MAX_SLOTS 1024
#define MAX_DEVICES 16

/* Set before loading. The verifier removes the code of what is off. */
const volatile __u32 slot_bits;        /* a shard has 1 << slot_bits slots */
const volatile __u32 shard_mask;       /* shards - 1; a CPU counts in shard cpu & shard_mask */
const volatile bool aggregate;         /* count all devices as one */
const volatile bool filter_devices;    /* count only wanted_devices */
const volatile bool with_task;         /* record who submits: a hook at submission is attached */
const volatile bool filter_task;       /* count only requests of wanted tasks */
const volatile bool keep_pending;      /* the map has room for every request that can exist */
const volatile bool task_at_issue;     /* requests that no hook at submission saw belong to the issuing task */
const volatile __u32 request_argument; /* of the hooks at submission and issue: 1 if the queue comes first */

/* Shared with user space while running. */
volatile __u32 wanted_devices[MAX_DEVICES];
volatile __u32 time_submissions; /* some requests do not record when they began */
volatile __u64 keys[MAX_SLOTS];  /* what each slot counts: device and operation */
__u64 lost_slots;                /* requests that found no slot */
__u64 lost_tasks;                /* submissions that found the map full */
__u64 untimed;                   /* requests without any time: not counted */
__u64 unsplit;                   /* requests without a time of issue, or of start: counted with total time only */

/* A request between submission and completion. */
struct pending {
	__u64 start_ns;  /* of the request, to recognise another request at the same address */
	__u64 submit_ns; /* if time_submissions */
	__u64 issue_ns;
	__u64 left_out; /* the submitting task is not wanted */
	struct task_id task;
};

struct longest {
	__u64 total_ns;
	__u64 device_ns;
	__u64 queue_ns;
};

/*
 * One device and operation in one shard. On cold caches each cache line and page counts: what every
 * request needs is in the first line, and in that of a bucket.
 */
struct slot {
	__u64 key; /* that of `keys`; 0 if not used in this half and shard yet */
	__u64 bytes;
	__u64 errors;
	__u64 device_ns;
	__u64 queue_ns;
	struct longest longest; /* if `exclusive` */
	struct {
		__u32 total;
		__u32 device;
		__u32 queue;
	} buckets[HIST_BUCKETS(5)];
	__u64 unsplit_ns; /* total time of requests that are unsplit */
} __attribute__((aligned(64)));

/* The longest times on one CPU, which alone writes them, and the request with the longest total time. */
struct peak {
	struct longest longest; /* unless `exclusive` */
	__u64 sector;
	__u32 bytes;
	__u32 pad;
	struct task_id task;
};

/* A request that took at least min_ns. */
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

RING_EVENT(struct event);

ARRAY_MAP(slots, 1, struct slot); /* halves x shards x slots */

ARRAY_MAP(peaks, 1, struct peak); /* halves x CPUs x slots */

/* The key of each slot, for CPUs that claim the same slot at once. */
HASH_MAP(owners, MAX_SLOTS, __u32, __u64);

/* By the address of the request. */
HASH_MAP(pending, 1024, __u64, struct pending);

static __always_inline bool device_wanted(__u32 device)
{
	for (int i = 0; i < MAX_DEVICES; i++)
		if (wanted_devices[i] == device)
			return true;
	return false;
}

/* Bounds the index for the verifier; the barrier keeps the compiler from removing that. */
static __always_inline __u32 bounded(__u32 index)
{
	barrier_var(index);
	return index & (MAX_SLOTS - 1);
}

/*
 * Finds or claims a slot; negative if there is none. Insertion into the hash map decides between
 * CPUs, because programs cannot compare and exchange before 5.12.
 */
static __noinline int claim(__u64 key)
{
	__u32 mask = (1U << slot_bits) - 1, home = home_of(key);

	for (__u32 n = 0; n < PROBES; n++) {
		__u32 index = bounded((home + n) & mask);
		__u32 at = index; /* in memory, for the helpers */
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

/* The slot of a device and operation, among those from `first` on; NULL if there is none. */
static __always_inline struct slot *slot_of(__u32 first, __u32 device, __u32 op, __u32 *index)
{
	__u64 key = 1ULL << 63 | (__u64)(aggregate ? 0 : device) << 3 | op;
	__u32 home = home_of(key) & ((1U << slot_bits) - 1), at = first + home;
	struct slot *slot = bpf_map_lookup_elem(&slots, &at);
	int claimed;

	*index = home;
	if (slot && slot->key == key)
		return slot;
	claimed = claim(key);
	if (claimed < 0)
		return NULL;
	*index = claimed;
	at = first + claimed;
	slot = bpf_map_lookup_elem(&slots, &at);
	if (slot)
		slot->key = key;
	return slot;
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

/* Records that the current task submits the request. */
static __always_inline void note(struct pending *p, struct request *rq, bool direct)
{
	p->start_ns = READ(direct, rq, start_time_ns);
	p->submit_ns = time_submissions ? bpf_ktime_get_ns() : 0;
	p->issue_ns = 0;
	p->task.known = 0;
	p->left_out = with_task && !task_wanted(&p->task);
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

/* Requests submitted before the hook was attached count, except with a filter for tasks. */
static __always_inline bool left_out(struct pending *p)
{
	return filter_task ? !(p && p->task.known) : p && p->left_out;
}

struct times {
	__u64 end_ns;
	__u64 total_ns;
	__u64 device_ns;
	__u64 queue_ns;
	bool split;
};

/* Computes the times of a completed request; false if it has none. */
static __always_inline bool times_of(struct times *t, __u64 start, __u64 issue, struct pending *p)
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
	__u32 total = hist_index(t->total_ns), device = total, queue = 0;

	if (error)
		SHARD_ADD(&slot->errors, 1);
	SHARD_ADD(&slot->buckets[total].total, 1);
	if (t->split) {
		/* Often a request does not queue, and its device time is its total time. */
		if (t->queue_ns || t->device_ns != t->total_ns) {
			device = hist_index(t->device_ns);
			queue = hist_index(t->queue_ns);
		}
		SHARD_ADD(&slot->device_ns, t->device_ns);
		SHARD_ADD(&slot->queue_ns, t->queue_ns);
		SHARD_ADD(&slot->buckets[device].device, 1);
		SHARD_ADD(&slot->buckets[queue].queue, 1);
	} else {
		SHARD_ADD(&slot->unsplit_ns, t->total_ns);
		COUNT(&unsplit, 1);
	}
}

static __always_inline void keep_longest(struct slot *slot, __u32 at, struct times *t, struct request *rq,
					 __u32 bytes, struct pending *p, bool direct)
{
	struct peak *peak = exclusive ? NULL : bpf_map_lookup_elem(&peaks, &at);
	struct longest *longest = &slot->longest;

	if (!exclusive) {
		if (!peak)
			return;
		longest = &peak->longest;
	}
	if (t->device_ns > longest->device_ns)
		longest->device_ns = t->device_ns;
	if (t->queue_ns > longest->queue_ns)
		longest->queue_ns = t->queue_ns;
	if (t->total_ns <= longest->total_ns)
		return;
	longest->total_ns = t->total_ns;
	if (exclusive)
		peak = bpf_map_lookup_elem(&peaks, &at);
	if (!peak)
		return;
	peak->sector = READ(direct, rq, __sector);
	peak->bytes = bytes;
	if (with_task && p)
		peak->task = p->task;
	else if (with_task)
		peak->task.known = 0;
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
 * A request can complete in parts: bytes count with each part, the rest with the last one. The
 * phases of a flush sequence complete with no bytes and are no requests; the flush itself is one.
 */
static __always_inline int complete(struct request *rq, int error, __u32 bytes, bool direct)
{
	__u32 op = op_of(READ(direct, rq, cmd_flags));
	bool last = bytes >= READ(direct, rq, __data_len);
	__u64 start, issue, address = (__u64)rq;
	__u32 device, cpu, half, index;
	struct pending *p = NULL;
	struct slot *slot;
	struct times t;

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
	half = active_half & 1;
	cpu = bpf_get_smp_processor_id();
	slot = slot_of((half * (shard_mask + 1) + (cpu & shard_mask)) << slot_bits, device, op, &index);
	if (!slot)
		return 0;
	SHARD_ADD(&slot->bytes, bytes);
	if (!last)
		return 0;
	t.end_ns = bpf_ktime_get_ns();
	if (!times_of(&t, start, issue, p)) {
		COUNT(&untimed, 1);
		return 0;
	}
	count(slot, &t, error);
	keep_longest(slot, ((half * cpus + cpu) << slot_bits) + index, &t, rq, bytes, p, direct);
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

/* Before 6.5, which added block_io_start. */
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
