/* SPDX-License-Identifier: GPL-2.0 */
/*
 * A program that is never attached: the tracer runs it once, itself, and so tells the
 * others which process and process group are its own. The numbers that it knows itself
 * would not do: in a container they are not those that the kernel's tasks have.
 */
#ifndef TELEPIPE_SELF_H
#define TELEPIPE_SELF_H

#include "task.h"

SEC("raw_tp/telepipe_self")
int know_self(__u64 *ctx)
{
	(void)ctx;
	own_group = group_of((struct task_struct *)bpf_get_current_task(), false);
	own_pid = bpf_get_current_pid_tgid() >> 32;
	return 0;
}

#endif
