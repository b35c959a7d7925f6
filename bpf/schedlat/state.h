/* SPDX-License-Identifier: GPL-2.0 */
/* Whether a task could run, and whether it does: fields that have changed from kernel to kernel. */
#ifndef TELEPIPE_SCHEDLAT_STATE_H
#define TELEPIPE_SCHEDLAT_STATE_H

#include "../kernel.h"

/* Set before loading; what is off is removed by the verifier. */
const volatile bool state_argument; /* sched_switch tells the state that prev left in */

static __always_inline bool is_running(struct task_struct *task, bool direct)
{
	struct task_struct___old *old = (void *)task;

	if (bpf_core_field_exists(old->state))
		return !READ(direct, old, state);
	return !READ(direct, task, __state);
}

/* What the hook of sched_switch says that prev left in: 0 if it could go on. */
static __always_inline long state_of(__u64 *ctx, struct task_struct *prev, bool direct)
{
	if (state_argument)
		return (__u32)ctx[3];
	return is_running(prev, direct) ? 0 : 1;
}

static __always_inline bool on_cpu(struct task_struct *task, bool direct)
{
	struct task_struct___on_cpu_byte *byte = (void *)task;
	struct task_struct___on_cpu *word = (void *)task;

	if (bpf_core_field_size(byte->on_cpu) == sizeof(byte->on_cpu))
		return READ(direct, byte, on_cpu);
	return READ(direct, word, on_cpu);
}

#endif
