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
#include "hist.h"
#include "ring.h"
#include "task.h"
#include "self.h"
#include "regs.h"
#include "place.h"

#define PROBES 16
#define PF_EXITING 4 /* include/linux/sched.h */
#define KINDS 8 /* minor or major, read or write, kernel or user */

/* Set before loading; what is off is removed by the verifier. */
const volatile __u32 cpus;         /* possible CPUs */
const volatile bool only_map;      /* threads have no places: for kprobes, and a test of the map alone */
const volatile bool summary;       /* count all */
const volatile bool processes;     /* count by process */
const volatile __u32 process_bits; /* 1 << process_bits processes per CPU */
const volatile bool events;        /* an event for each major fault, and each as long as min_ns */
const volatile __u64 min_ns;
const volatile bool at_once;       /* wake the reader for each event: what it looks up is soon gone */

/* Shared with user space while running. */
volatile __u32 bank;  /* which half of the arrays is counted in */
__u64 elsewhere;      /* threads that are in the hash map */
__u64 lost_begins;    /* faults for which there was no room to note when they began */
__u64 lost_ends;      /* faults whose end was not seen, though there was one */
__u64 lost_processes; /* faults of processes that found no slot */

/* A fault that has begun, of the thread that has this place. */
struct begun {
	struct place place; /* of nobody in the hash map */
	__u64 ns;           /* 0: none */
	__u64 address;
	__u64 ip;
	__u64 flags; /* WRITE … */
};

/* The same in the hash map, with what only kprobes need: they use no places. */
struct mapped {
	struct begun begun;
	__u64 stack; /* where the call was */
	__u64 calls; /* of handle_mm_fault that have not returned, one inside the other */
};

#define WRITE 1
#define USER 2
#define INSTRUCTION 4
#define MAJOR 8
#define TRIED 16 /* before, and could not be done */
#define AGAIN 32 /* will be tried again */

/* One kind of fault on one CPU. As src/bpf/pagefault reads it, like all below. */
struct slot {
	__u64 sum_ns;
	__u64 max_ns;
	__u32 max_pid; /* of the longest */
	__u32 pad;
	char max_comm[COMM_LEN];
	__u32 buckets[HIST_BUCKETS(5)];
};

/* The faults of one process on one CPU. */
struct process {
	__u32 pid; /* 0: free */
	__u32 uid;
	__u64 cgroup_id;
	__u64 minor;
	__u64 major;
	__u64 minor_ns;
	__u64 major_ns;
	__u64 max_ns;
	char comm[COMM_LEN]; /* of the thread with the latest fault that was its longest */
};

struct event {
	__u64 end_ns;
	__u64 duration_ns;
	__u64 address;
	__u64 ip;
	__u32 flags;
	__u32 cpu;
	struct task_id task;
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 1); /* halves x CPUs x KINDS */
	__type(key, __u32);
	__type(value, struct slot);
} slots SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 1); /* halves x CPUs x processes */
	__type(key, __u32);
	__type(value, struct process);
} table SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE); /* for it begins with a page, then */
	__uint(max_entries, PLACES);
	__type(key, __u32);
	__type(value, struct begun);
} places SEC(".maps");

/* By thread, of those whose place another has. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct mapped);
} begun_by_tid SEC(".maps");

static __always_inline struct begun *place_of(__u32 tid)
{
	__u32 at = place_at(tid, 1);

	return only_map ? NULL : bpf_map_lookup_elem(&places, &at);
}

static __always_inline struct mapped *begun_in_map(__u32 tid)
{
	return elsewhere ? bpf_map_lookup_elem(&begun_by_tid, &tid) : NULL;
}

/* What has begun in the current thread; NULL if nothing was ever noted. */
static __always_inline struct begun *begun_here(void)
{
	__u32 tid = (__u32)bpf_get_current_pid_tgid();
	struct begun *place = place_of(tid);

	if (place && place_is_of(&place->place, tid))
		return place;
	return (struct begun *)begun_in_map(tid);
}

static __always_inline void forget_mapped(__u32 tid)
{
	if (!bpf_map_delete_elem(&begun_by_tid, &tid))
		COUNT(&elsewhere, -1);
}

static __always_inline void forget(struct begun *begun)
{
	if (begun->place.owner) {
		begun->ns = 0;
		begun->flags = 0;
	} else {
		forget_mapped((__u32)bpf_get_current_pid_tgid());
	}
}

/* Who ends has left its place for good, and may still fault: then it takes none. */
static __always_inline bool take(struct begun *place, __u32 tid)
{
	if (!place || place_is_of(&place->place, tid))
		return place;
	return !(READ(TYPED, current_task(), flags) & PF_EXITING) && place_take(&place->place, tid);
}

/* What begins now; what is `no_fault` has no time. */
static __always_inline void note(bool no_fault, __u64 address, __u64 ip, __u32 flags)
{
	__u32 tid = (__u32)bpf_get_current_pid_tgid();
	struct begun *place = place_of(tid);

	if (take(place, tid)) {
		place->address = address;
		place->ip = ip;
		place->flags = flags;
		place->ns = bpf_ktime_get_ns();
	} else {
		struct mapped now = { .begun = { .address = address, .ip = ip, .flags = flags } };
		bool is_new = !begun_in_map(tid);

		now.begun.ns = no_fault ? 0 : bpf_ktime_get_ns();
		if (bpf_map_update_elem(&begun_by_tid, &tid, &now, BPF_ANY))
			COUNT(&lost_begins, 1);
		else if (is_new)
			COUNT(&elsewhere, 1);
	}
}

static __always_inline void begin(__u64 address, __u64 ip, __u32 flags)
{
	struct task_struct *task = current_task();

	/*
	 * Whoever reads user memory where it may not wait (a profiler's interrupt, another BPF
	 * program) is in an exception too, which fails at once. It may lie inside a fault. The
	 * helper that reads it adds one of its own for as long as it reads.
	 */
	if (READ(TYPED, task, pagefault_disabled) > (TYPED ? 0 : 1))
		return;
	if (!task_asked_for(task, TYPED)) {
		/* A thread may have had another name or user when one began that then failed. */
		struct begun *begun = begun_here();

		if (begun)
			forget(begun);
		return;
	}
	note(false, address, ip, flags);
}

static __always_inline __u32 here(void)
{
	return (bank & 1) * cpus + bpf_get_smp_processor_id();
}

static __always_inline void count(__u64 ns, __u32 flags)
{
	__u32 kind = (flags & MAJOR ? 4 : 0) | (flags & WRITE ? 2 : 0) | (flags & USER ? 1 : 0);
	__u32 at = here() * KINDS + kind;
	struct slot *slot = bpf_map_lookup_elem(&slots, &at);

	if (!slot)
		return;
	COUNT(&slot->sum_ns, ns);
	COUNT(&slot->buckets[hist_index(ns)], 1);
	if (ns > slot->max_ns) {
		slot->max_ns = ns;
		slot->max_pid = bpf_get_current_pid_tgid() >> 32;
		bpf_get_current_comm(slot->max_comm, COMM_LEN);
	}
}

static __always_inline void count_process(__u64 ns, bool major)
{
	__u32 pid = bpf_get_current_pid_tgid() >> 32, mask = (1U << process_bits) - 1;
	__u32 first = here() << process_bits, home = (pid * 0x9e3779b1U) >> 16;

	for (__u32 n = 0; n < PROBES; n++) {
		__u32 at = first + ((home + n) & mask);
		struct process *process = bpf_map_lookup_elem(&table, &at);

		if (!process)
			return;
		if (process->pid && process->pid != pid)
			continue;
		if (!process->pid) {
			process->uid = (__u32)bpf_get_current_uid_gid();
			process->cgroup_id = bpf_get_current_cgroup_id();
			process->pid = pid;
		}
		COUNT(major ? &process->major : &process->minor, 1);
		COUNT(major ? &process->major_ns : &process->minor_ns, ns);
		if (ns > process->max_ns) {
			process->max_ns = ns;
			bpf_get_current_comm(process->comm, COMM_LEN);
		}
		return;
	}
	COUNT(&lost_processes, 1);
}

static __always_inline void submit_event(__u64 now, struct begun *begun, __u32 flags)
{
	struct event *event = RING_RESERVE(struct event);

	if (!event)
		return;
	event->end_ns = now;
	event->duration_ns = now - begun->ns;
	event->address = begun->address;
	event->ip = begun->ip;
	event->flags = flags;
	event->cpu = bpf_get_smp_processor_id();
	task_describe(&event->task, current_task(), TYPED);
	ring_submit(event, at_once);
}

static __always_inline int end(struct begun *begun, bool major)
{
	__u64 now, ns;
	__u32 flags;

	now = bpf_ktime_get_ns();
	ns = now - begun->ns;
	flags = begun->flags | (major ? MAJOR : 0);
	if (summary)
		count(ns, flags);
	if (processes)
		count_process(ns, major);
	if (events && (major || ns >= min_ns))
		submit_event(now, begun, flags);
	forget(begun);
	return 0;
}

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

/* The next thread may have the number of one that has ended, maybe inside a fault. */
SEC("raw_tp/sched_process_exit")
int thread_exit(__u64 *ctx)
{
	__u32 tid = (__u32)bpf_get_current_pid_tgid();
	struct mapped *mapped = begun_in_map(tid);
	struct begun *place = place_of(tid);

	(void)ctx;
	if (place && place_is_of(&place->place, tid))
		place_leave(&place->place, tid, 0);
	if (!mapped)
		return 0;
	if (mapped->calls && mapped->begun.ns)
		COUNT(&lost_ends, 1);
	forget_mapped(tid);
	return 0;
}

char LICENSE[] SEC("license") = "GPL";
