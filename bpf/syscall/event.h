/* SPDX-License-Identifier: GPL-2.0 */
/* A call that took as long as min_ns, told by itself. */
#ifndef TELEPIPE_SYSCALL_EVENT_H
#define TELEPIPE_SYSCALL_EVENT_H

#include "../files.h"
#include "../map.h"
#include "../task.h"
#include "call.h"

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

#endif
