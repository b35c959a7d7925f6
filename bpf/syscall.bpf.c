// SPDX-License-Identifier: GPL-2.0
/*
 * System calls: those that took long, all of them counted, and those that do not return.
 *
 * Two hooks, at the entry and the exit of every call. The entry leaves the time in the
 * task's own place; the exit takes it out again, so that a time is never paired with
 * another call: an exit without an entry (a child that returns from clone, a call that
 * began before we did) counts nothing, and a task that ends inside a call takes its time
 * with it. exec by any thread of a process is one call of one task. An iterator over all
 * tasks finds the calls that are not over.
 */
#include "kernel.h"
#include "hist.h"
#include "ring.h"
#include "task.h"
#include "self.h"
#include "regs.h"
#include "files.h"
#include "place.h"

#define NUMBERS 512 /* of calls, per table; the last stands for all that are beyond */
#define SCALE 3

/* What is known of a number beforehand; above these bits, which of waiting_calls is for it. */
enum choice { CHOSEN = 1, WAITS = 2, BY_FILE = 4, EXEC = 8, SHARED = 16 };

/* Set before loading; what is off is removed by the verifier. */
const volatile __u8 choice[2 * NUMBERS]; /* native calls, then 32-bit ones */
const volatile bool only_map;            /* tasks have no places: for a test of the map alone */
const volatile bool events;              /* one for each call as slow as min_ns */
const volatile bool waits;               /* also for those that wait by design */
const volatile bool summary;             /* count all */
const volatile __u32 waiting_calls[4];   /* of calls that share a number: a bit for each first argument that waits */
const volatile __u64 min_ns;
const volatile __u64 stuck_ns;
const volatile __u32 shards;    /* a CPU counts in shard cpu % shards */
const volatile __u32 cpus;      /* possible CPUs */

/* Shared with user space while running. */
volatile __u32 bank;          /* which half of the arrays is counted in */
volatile __u64 watched_since; /* no call that began later has escaped us */
__u64 elsewhere;              /* tasks that are in the hash map */
__u64 lost_calls;             /* entries that found no room */

/* What is kept of a task between entry and exit. */
struct call {
	struct place place; /* of nobody in the hash map */
	__u64 begin_ns;     /* 0: in no call that is followed */
	__s32 nr;
	__u32 compat;
	__u64 pad; /* as long as half a line of the cache */
};

/* The same in the hash map: with the arguments of an exec, which leaves none in the registers, and uses no place. */
struct mapped {
	struct call call;
	__u64 args[CALL_ARGS];
};

/* One call that is over. As src/bpf/syscall/layout.rs reads it. */
struct event {
	__u64 end_ns;
	__u64 duration_ns;
	__u64 args[CALL_ARGS];
	__s64 ret;
	__s32 nr;
	__u32 cpu;
	__u8 compat;
	__u8 fd_type;
	__u8 pad[6];
	struct task_id task;
};

/* One that is not. */
struct stuck {
	__u64 begin_ns; /* 0: before watched_since */
	__u64 now_ns;
	__u64 args[CALL_ARGS];
	__s32 nr;
	__u32 state; /* of the task */
	__u8 compat;
	__u8 fd_type;
	__u8 pad[6];
	struct task_id task;
};

/* All calls of one number. */
struct slot {
	__u64 sum_ns;
	__u64 errors;
	__u32 buckets[HIST_BUCKETS(SCALE)];
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE); /* for it begins with a page, then */
	__uint(max_entries, PLACES);
	__type(key, __u32);
	__type(value, struct call);
} places SEC(".maps");

/* Of those whose place another has: by the task's address, which unlike its number does not change in exec. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 1);
	__type(key, __u64);
	__type(value, struct mapped);
} calls_by_task SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 1); /* halves x shards x NUMBERS native, then halves x NUMBERS 32-bit */
	__type(key, __u32);
	__type(value, struct slot);
} slots SEC(".maps");

/* The longest call, per CPU. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 1); /* halves x CPUs x 2 NUMBERS */
	__type(key, __u32);
	__type(value, __u64);
} peaks SEC(".maps");

static __always_inline __u32 index_of(__s32 nr, bool compat)
{
	__u32 index = (__u32)nr < NUMBERS ? nr : NUMBERS - 1;

	if (compat)
		index += NUMBERS;
	barrier_var(index);
	return index & (2 * NUMBERS - 1);
}

static __always_inline void count(struct call *call, __u64 ns, long ret)
{
	__u32 index = index_of(call->nr, call->compat), half = bank & 1, at;
	__u32 cpu = bpf_get_smp_processor_id(), bucket = hist_index(ns) >> (5 - SCALE);
	struct slot *slot;
	__u64 *peak;

	/* Always below; the verifier loses sight of it in the shift. */
	barrier_var(bucket);
	bucket = bucket < HIST_BUCKETS(SCALE) ? bucket : 0;
	if (index < NUMBERS)
		at = (half * shards + (shards < cpus ? cpu % shards : cpu)) * NUMBERS + index;
	else
		at = (2 * shards + half) * NUMBERS + (index - NUMBERS);
	slot = bpf_map_lookup_elem(&slots, &at);
	if (!slot)
		return;
	COUNT(&slot->sum_ns, ns);
	COUNT(&slot->buckets[bucket], 1);
	if (ret < 0 && ret >= -4095)
		COUNT(&slot->errors, 1);
	at = (half * cpus + cpu) * 2 * NUMBERS + index;
	peak = bpf_map_lookup_elem(&peaks, &at);
	if (peak && ns > *peak)
		*peak = ns;
}

/* The arguments of an exec. By a helper: compiled, it would share instructions with the reading
 * of registers, and the verifier allows each only one kind of memory. */
static __always_inline void recall(__u64 *args, struct call *call)
{
	bpf_probe_read_kernel(args, sizeof(((struct mapped *)call)->args), ((struct mapped *)call)->args);
}

/* Whether it is one that waits by design, of those that share a number (socketcall). */
static __always_inline bool shared_waits(__u8 kind, __u64 which)
{
	return waiting_calls[kind / SHARED & 3] >> (which & 31) & 1;
}

/* An event, unless the call is one that waits by design. */
static __always_inline void tell(struct call *call, __u64 end, __u64 ns, struct task_struct *task,
				 struct pt_regs *regs, long ret, bool direct)
{
	__u8 kind = choice[index_of(call->nr, call->compat)];
	enum fd_type fd_type = FD_OTHER;
	__u64 args[CALL_ARGS];
	struct event *event;

	if (!waits && kind & WAITS)
		return;
	if (kind & EXEC)
		recall(args, call);
	else
		call_args(args, regs, call->compat, direct);
	if (kind & BY_FILE)
		fd_type = fd_type_of(task, args[0]);
	if (!waits && (fd_type || shared_waits(kind, args[0])))
		return;
	event = RING_RESERVE(struct event);
	if (!event)
		return;
	event->end_ns = end;
	event->duration_ns = ns;
	__builtin_memcpy(event->args, args, sizeof(args));
	event->ret = ret;
	event->nr = call->nr;
	event->cpu = bpf_get_smp_processor_id();
	event->compat = call->compat;
	event->fd_type = fd_type;
	task_describe(&event->task, task, TYPED);
	ring_submit(event, false);
}

/* Whether a call that begins is one to follow. */
static __always_inline __u8 follow(struct task_struct *task, long nr, bool compat, bool direct)
{
	return task_asked_for(task, direct) ? choice[index_of(nr, compat)] : 0;
}

static __always_inline void begin(struct call *call, long nr, bool compat)
{
	call->nr = nr;
	call->compat = compat;
	call->begin_ns = bpf_ktime_get_ns();
}

static __always_inline void end(struct call *call, struct task_struct *task, struct pt_regs *regs,
				long ret, bool direct)
{
	__u64 now, ns;

	if (!call || !call->begin_ns)
		return;
	now = bpf_ktime_get_ns();
	ns = now - call->begin_ns;
	call->begin_ns = 0;
	if (summary)
		count(call, ns, ret);
	if (events && ns >= min_ns)
		tell(call, now, ns, task, regs, ret, direct);
}

/* The place that a thread has, or may have. */
static __always_inline struct call *place_of(__u32 tid)
{
	__u32 at = place_at(tid, 1);

	return only_map ? NULL : bpf_map_lookup_elem(&places, &at);
}

static __always_inline struct mapped *call_in_map(struct task_struct *task)
{
	__u64 key = (__u64)task;

	return elsewhere ? bpf_map_lookup_elem(&calls_by_task, &key) : NULL;
}

/* The call that a task is in, or was in last; NULL if none was seen. */
static __always_inline struct call *call_of(struct task_struct *task, __u32 tid)
{
	struct call *place = place_of(tid), *mapped;

	if (place && !place_is_of(&place->place, tid))
		place = NULL;
	if (place && place->begin_ns)
		return place;
	mapped = (struct call *)call_in_map(task);
	return mapped ?: place;
}

/* Keeps in the hash map the call that a task begins. */
static __always_inline void begin_in_map(struct task_struct *task, __u8 kind, struct pt_regs *regs, long nr,
					 bool compat, bool direct)
{
	struct mapped *mapped = call_in_map(task), empty = {};
	__u64 key = (__u64)task;

	if (!mapped && !bpf_map_update_elem(&calls_by_task, &key, &empty, BPF_NOEXIST)) {
		COUNT(&elsewhere, 1);
		mapped = bpf_map_lookup_elem(&calls_by_task, &key);
	}
	if (!mapped) {
		COUNT(&lost_calls, 1);
		return;
	}
	if (kind & EXEC)
		call_args(mapped->args, regs, compat, direct);
	begin(&mapped->call, nr, compat);
}

static __always_inline void forget_in_map(struct task_struct *task)
{
	__u64 key = (__u64)task;

	if (elsewhere && !bpf_map_delete_elem(&calls_by_task, &key))
		COUNT(&elsewhere, -1);
}

static __always_inline int entered(__u64 *ctx, bool direct)
{
	struct task_struct *task = current_task();
	__u32 tid = (__u32)bpf_get_current_pid_tgid();
	bool compat = is_compat(task, TYPED);
	__u8 kind = follow(task, ctx[1], compat, TYPED);
	struct call *place;

	if (!(kind & CHOSEN))
		return 0;
	/* exec gives the thread the number of its process: it has returned when its place is another's. */
	place = kind & EXEC ? NULL : place_of(tid);
	if (place && (place_is_of(&place->place, tid) || place_take(&place->place, tid)))
		begin(place, ctx[1], compat);
	else
		begin_in_map(task, kind, (struct pt_regs *)ctx[0], ctx[1], compat, direct);
	return 0;
}

static __always_inline int left(__u64 *ctx, bool direct)
{
	struct task_struct *task = current_task();
	struct call *call = call_of(task, (__u32)bpf_get_current_pid_tgid());

	end(call, task, (struct pt_regs *)ctx[0], (long)ctx[1], direct);
	if (call && !call->place.owner && choice[index_of(call->nr, call->compat)] & EXEC)
		forget_in_map(task);
	return 0;
}

/* The next thread may have the number or the address of one that has ended, maybe inside a call. */
SEC("raw_tp/sched_process_exit")
int forget(__u64 *ctx)
{
	__u32 tid = (__u32)bpf_get_current_pid_tgid();
	struct call *place = place_of(tid);

	(void)ctx;
	if (place && place_is_of(&place->place, tid)) {
		*(volatile __u64 *)&place->begin_ns = 0;
		place_leave(&place->place, tid, 0);
	}
	forget_in_map(current_task());
	return 0;
}

SEC("tp_btf/sys_enter")
int enter_btf(__u64 *ctx)
{
	return entered(ctx, true);
}

SEC("tp_btf/sys_exit")
int exit_btf(__u64 *ctx)
{
	return left(ctx, true);
}

SEC("raw_tp/sys_enter")
int enter_raw(__u64 *ctx)
{
	return entered(ctx, false);
}

SEC("raw_tp/sys_exit")
int exit_raw(__u64 *ctx)
{
	return left(ctx, false);
}

#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)

struct seq_file;

struct bpf_iter_meta {
	struct seq_file *seq;
};

struct bpf_iter__task {
	struct bpf_iter_meta *meta;
	struct task_struct *task;
};

struct task_struct___state {
	__s64 state; /* until 5.13 */
	__u32 __state;
	__u32 flags;
	__s32 exit_state;
};

#pragma clang attribute pop

#define TASK_SLEEPS 3 /* interruptible or not, and neither stopped nor traced */
#define TASK_STOPPED 12
#define NO_USER_SIDE 0x204010 /* PF_KTHREAD, PF_USER_WORKER, PF_IO_WORKER */

static __always_inline __u32 state_of(struct task_struct *task)
{
	struct task_struct___state *holder = (void *)task;

	if (bpf_core_field_exists(holder->__state))
		return READ(false, holder, __state);
	return READ(false, holder, state);
}

/* Fills in a call that began before we looked; false if the task is in none. */
static __always_inline bool begun_before(struct stuck *stuck, struct task_struct *task,
					 struct pt_regs *regs)
{
	struct task_struct___state *holder = (void *)task;
	long nr;

	/* A task that runs has left in its registers whatever it did last. */
	if (!(stuck->state & TASK_SLEEPS) || stuck->state & TASK_STOPPED ||
	    READ(false, holder, flags) & NO_USER_SIDE)
		return false;
	nr = call_number(regs);
	if (nr < 0)
		return false;
	stuck->begin_ns = 0;
	stuck->nr = nr;
	stuck->compat = is_compat(task, false);
	return task_asked_for(task, false) && stuck->now_ns - watched_since >= stuck_ns;
}

static __always_inline bool begun_since(struct stuck *stuck, struct call *call, struct pt_regs *regs)
{
	stuck->begin_ns = call->begin_ns;
	stuck->nr = call->nr;
	stuck->compat = call->compat;
	barrier();
	/* Another call, if it returned just now; and none, if its exit escaped us. */
	if (!stuck->begin_ns || stuck->begin_ns != *(volatile __u64 *)&call->begin_ns ||
	    call_number(regs) != stuck->nr)
		return false;
	return stuck->begin_ns < stuck->now_ns && stuck->now_ns - stuck->begin_ns >= stuck_ns;
}

static __always_inline int look(struct bpf_iter__task *ctx, struct task_struct *task, struct call *call)
{
	struct task_struct___state *holder = (void *)task;
	struct stuck stuck = { .now_ns = bpf_ktime_get_ns() };
	struct pt_regs *regs = regs_of(task);
	__u8 kind;

	if (READ(false, holder, exit_state))
		return 0;
	stuck.state = state_of(task);
	if (!(call ? begun_since(&stuck, call, regs) : begun_before(&stuck, task, regs)))
		return 0;
	kind = choice[index_of(stuck.nr, stuck.compat)];
	if (!(kind & CHOSEN) || (!waits && kind & WAITS))
		return 0;
	if (call && kind & EXEC)
		recall(stuck.args, call);
	else
		call_args(stuck.args, regs, stuck.compat, false);
	if (kind & BY_FILE)
		stuck.fd_type = fd_type_of(task, stuck.args[0]);
	if (!waits && (stuck.fd_type || shared_waits(kind, stuck.args[0])))
		return 0;
	task_describe(&stuck.task, task, false);
	bpf_seq_write(ctx->meta->seq, &stuck, sizeof(stuck));
	return 0;
}

SEC("iter/task")
int each_task(struct bpf_iter__task *ctx)
{
	struct task_struct *task = ctx->task;

	return task ? look(ctx, task, call_of(task, READ(false, task, pid))) : 0;
}

char LICENSE[] SEC("license") = "GPL";
