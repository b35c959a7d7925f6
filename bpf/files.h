/* SPDX-License-Identifier: GPL-2.0 */
/* What kind of file a descriptor of a task stands for, as far as reading from it may wait. */
#ifndef TELEPIPE_FILES_H
#define TELEPIPE_FILES_H

#include "kernel.h"

#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)

struct super_block___fd { /* include/linux/fs.h */
	unsigned long s_magic;
};

struct inode___fd {
	__u16 i_mode;
	__u32 i_rdev;
	struct super_block___fd *i_sb;
};

struct file_operations___fd {
	void *poll;
};

struct file___fd {
	struct inode___fd *f_inode;
	struct file_operations___fd *f_op;
};

struct fdtable___fd { /* include/linux/fdtable.h */
	__u32 max_fds;
	struct file___fd **fd;
};

struct files_struct___fd {
	struct fdtable___fd *fdt;
};

struct task_struct___fd {
	struct files_struct___fd *files;
};

#pragma clang attribute pop

/* As src/bpf/syscall/layout.rs names them. */
enum fd_type { FD_OTHER, FD_PIPE, FD_SOCKET, FD_TTY, FD_ANON, FD_DEVICE };

#define S_IFMT 0170000
#define S_IFIFO 0010000
#define S_IFCHR 0020000
#define S_IFSOCK 0140000
#define ANON_INODE_FS_MAGIC 0x09041934 /* include/uapi/linux/magic.h */

/* Virtual and pseudo terminals, serial lines, and those on USB (Documentation/admin-guide/devices.txt). */
static __always_inline bool is_terminal(__u32 major)
{
	return major == 4 || major == 5 || (major >= 136 && major <= 143) || major == 166 ||
	       major == 188 || major == 204 || major == 229;
}

/*
 * A device that lets its readers wait for something to happen (/dev/kmsg, /dev/fuse, /dev/input/…) offers to be
 * polled for it; one that is at work meanwhile (memory, tapes) does not.
 */
static __always_inline bool can_be_polled(struct file___fd *file)
{
	struct file_operations___fd *operations = READ(false, file, f_op);

	return READ(false, operations, poll);
}

/* Any task's; the current one holds its files, another's may be going, and is then FD_OTHER. */
static __always_inline enum fd_type fd_type_of(struct task_struct *task, __u32 fd)
{
	struct task_struct___fd *holder = (void *)task;
	struct files_struct___fd *files = READ(false, holder, files);
	struct file___fd **table, *file = NULL;
	struct super_block___fd *super;
	struct fdtable___fd *fdt;
	struct inode___fd *inode;
	__u32 type;

	if (!files)
		return FD_OTHER;
	fdt = READ(false, files, fdt);
	if (fd >= READ(false, fdt, max_fds))
		return FD_OTHER;
	table = READ(false, fdt, fd);
	bpf_probe_read_kernel(&file, sizeof(file), table + fd);
	if (!file)
		return FD_OTHER;
	inode = READ(false, file, f_inode);
	type = READ(false, inode, i_mode) & S_IFMT;
	if (type == S_IFIFO)
		return FD_PIPE;
	if (type == S_IFSOCK)
		return FD_SOCKET;
	if (type == S_IFCHR) {
		if (is_terminal(READ(false, inode, i_rdev) >> 20))
			return FD_TTY;
		return can_be_polled(file) ? FD_DEVICE : FD_OTHER;
	}
	super = READ(false, inode, i_sb);
	return READ(false, super, s_magic) == ANON_INODE_FS_MAGIC ? FD_ANON : FD_OTHER;
}

#endif
