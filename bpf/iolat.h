/* SPDX-License-Identifier: GPL-2.0 */
/* A request of the block layer: its operation, its device and when it began, on kernels since 5.10. */
#ifndef TELEPIPE_IOLAT_H
#define TELEPIPE_IOLAT_H

#include "kernel.h"

#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)

/* include/linux/blk-mq.h, since 6.11; the value is that of the running kernel */
enum rqf_flags {
	__RQF_IO_STAT = 8,
};

/* include/linux/blkdev.h */
struct gendisk {
	int major;
	int first_minor;
};

struct request_queue {
	struct gendisk *disk; /* since 5.14; before, in the request */
};

struct block_device {
	__u32 bd_dev;
};

struct device {
	__u32 devt;
};

/* include/linux/blk-mq.h */
struct request {
	struct request_queue *q;
	__u32 cmd_flags;
	__u32 rq_flags;
	__u32 __data_len;
	__u64 __sector;
	struct block_device *part; /* since 5.11 */
	__u64 start_time_ns;
	__u64 io_start_time_ns;
};

struct request___rq_disk { /* until 5.16 */
	struct gendisk *rq_disk;
};

struct hd_struct { /* until 5.10: the type of request.part */
	struct device __dev;
};

struct request___hd_struct {
	struct hd_struct *part;
};

#pragma clang attribute pop

/* Op in src/bpf/iolat/table.rs. */
enum op { OP_READ, OP_WRITE, OP_FLUSH, OP_DISCARD, OP_NONE };
const enum op *op; /* unused: puts the type into BTF, for src/bpf/iolat */

/* Set before loading. */
const volatile bool by_partition; /* partitions count as devices */

/*
 * A table of four bits for each REQ_OP_* below 16. Write same, zone append and write zeroes are
 * writes, secure erase is a discard; zone management and passthrough are not counted.
 */
static __always_inline __u32 op_of(__u32 cmd_flags)
{
	__u32 op = cmd_flags & 0xff;

	if (op == 0 || op == 1)
		return op;
	return op > 15 ? OP_NONE : (0x4414441414343210ULL >> (op * 4)) & 15;
}

/* The device number, with the minor number in the low 20 bits; 0 if the request belongs to no disk. */
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

/*
 * When the request began; 0 if it does not record that. Since 6.11 statistics can be off for a
 * single request, which then keeps an old time; flushes never have the flag and are always timed.
 */
static __always_inline __u64 start_of(struct request *rq, __u32 op, bool direct)
{
	if (bpf_core_type_exists(enum rqf_flags) && op != OP_FLUSH) {
		__u32 timed = 1U << bpf_core_enum_value(enum rqf_flags, __RQF_IO_STAT);

		if (!(READ(direct, rq, rq_flags) & timed))
			return 0;
	}
	return READ(direct, rq, start_time_ns);
}

#endif
