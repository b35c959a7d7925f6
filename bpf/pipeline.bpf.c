// SPDX-License-Identifier: GPL-2.0
/*
 * Finds the processes that read a tracer's output: lists the ends of all pipes, from which user space follows the
 * output. Nothing here is attached to a hook. All numbers of processes are the kernel's, also in a PID namespace.
 */
#include "kernel.h"

#define MAX_ANCESTORS 32
#define S_IFMT 0170000
#define S_IFIFO 0010000

#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)

struct super_block {
	__u32 s_dev;
};

struct inode {
	struct super_block *i_sb;
	unsigned long i_ino;
	__u16 i_mode;
};

struct file {
	struct inode *f_inode;
	__u32 f_mode;
};

struct task_struct___parent {
	__s32 tgid;
	struct task_struct___parent *real_parent;
};

struct seq_file;

struct bpf_iter_meta {
	struct seq_file *seq;
};

struct bpf_iter__task_file {
	struct bpf_iter_meta *meta;
	struct task_struct *task;
	__u32 fd;
	struct file *file;
};

#pragma clang attribute pop

/* An open end of a pipe. */
struct pipe_end {
	__u64 inode;
	__u32 device;
	__u32 pid;
	__u32 fd;
	__u32 mode; /* FMODE_READ 1, FMODE_WRITE 2 */
};

/* The process that ran know_self, its parent, and so on; 0 after the last. */
__u32 ancestors[MAX_ANCESTORS];
/* Puts the type into the BTF of the program, from which the Rust struct is generated. */
const struct pipe_end *pipe_end_type;

SEC("raw_tp/telepipe_self")
int know_self(__u64 *ctx)
{
	struct task_struct___parent *task = (void *)bpf_get_current_task();

	(void)ctx;
	for (int i = 0; i < MAX_ANCESTORS; i++) {
		ancestors[i] = READ(false, task, tgid);
		task = READ(false, task, real_parent);
	}
	return 0;
}

SEC("iter/task_file")
int pipe_ends(struct bpf_iter__task_file *ctx)
{
	struct file *file = ctx->file;
	struct task_struct *task = ctx->task;
	struct pipe_end end = {};
	struct inode *inode;

	if (!file || !task)
		return 0;
	inode = file->f_inode;
	if ((inode->i_mode & S_IFMT) != S_IFIFO)
		return 0;
	end.inode = inode->i_ino;
	end.device = inode->i_sb->s_dev;
	end.pid = task->tgid;
	end.fd = ctx->fd;
	end.mode = file->f_mode & 3;
	bpf_seq_write(ctx->meta->seq, &end, sizeof(end));
	return 0;
}

char LICENSE[] SEC("license") = "GPL";
