/* SPDX-License-Identifier: GPL-2.0 */
/* Which calls are followed, by number and by task, and which of them wait by design. */
#ifndef TELEPIPE_SYSCALL_CHOICE_H
#define TELEPIPE_SYSCALL_CHOICE_H

#include "../kernel.h"
#include "../task.h"

#define NUMBERS 512 /* of calls, per table; the last stands for all that are beyond */

/* What is known of a number beforehand; above these bits, which of waiting_calls is for it. */
enum choice { CHOSEN = 1, WAITS = 2, BY_FILE = 4, EXEC = 8, SHARED = 16 };

/* Set before loading. */
const volatile __u8 choice[2 * NUMBERS]; /* native calls, then 32-bit ones */
const volatile bool waits;               /* tell those too that wait by design */
const volatile __u32 waiting_calls[4];   /* of calls that share a number: a bit for each first argument that waits */

static __always_inline __u32 index_of(__s32 nr, bool compat)
{
	__u32 index = (__u32)nr < NUMBERS ? nr : NUMBERS - 1;

	if (compat)
		index += NUMBERS;
	barrier_var(index);
	return index & (2 * NUMBERS - 1);
}

/* Whether a call that begins is one to follow. */
static __always_inline __u8 follow(struct task_struct *task, long nr, bool compat, bool direct)
{
	return task_asked_for(task, direct) ? choice[index_of(nr, compat)] : 0;
}

/* Whether it is one that waits by design, of those that share a number (socketcall). */
static __always_inline bool shared_waits(__u8 kind, __u64 which)
{
	return waiting_calls[kind / SHARED & 3] >> (which & 31) & 1;
}

#endif
