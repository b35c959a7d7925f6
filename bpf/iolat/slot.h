/* SPDX-License-Identifier: GPL-2.0 */
/* Which slot counts a device and operation, of those that all CPUs share. */
#ifndef TELEPIPE_IOLAT_SLOT_H
#define TELEPIPE_IOLAT_SLOT_H

#include "../kernel.h"
#include "../map.h"

#define MAX_SLOTS 1024
#define MAX_DEVICES 16

/* Set before loading; what is off is removed by the verifier. */
const volatile __u32 slot_bits;     /* 1 << slot_bits slots per shard */
const volatile bool aggregate;      /* all devices in one */
const volatile bool filter_devices; /* only those in wanted_devices */

/* Shared with user space while running. */
volatile __u32 wanted_devices[MAX_DEVICES];
volatile __u64 keys[MAX_SLOTS]; /* what each slot counts: device and operation */
__u64 lost_slots;               /* requests that found no slot */

/* Who owns a slot: decides between CPUs that want the same one, once per slot. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, MAX_SLOTS);
	__type(key, __u32);
	__type(value, __u64);
} owners SEC(".maps");

static __always_inline bool device_wanted(__u32 device)
{
	for (int i = 0; i < MAX_DEVICES; i++)
		if (wanted_devices[i] == device)
			return true;
	return false;
}

/* The index, in a way that the verifier follows and the compiler does not reason away. */
static __always_inline __u32 bounded(__u32 index)
{
	barrier_var(index);
	return index & (MAX_SLOTS - 1);
}

/* Finds or takes a slot; negative if there is none. The hash map stands in for
 * compare-and-exchange, which kernels before 5.12 do not have. */
static __noinline int claim(__u64 key)
{
	__u32 mask = (1U << slot_bits) - 1, home = home_of(key);

	for (__u32 n = 0; n < PROBES; n++) {
		__u32 index = bounded((home + n) & mask);
		__u32 at = index; /* a copy of which helpers may have the address */
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

static __always_inline int slot_of(__u32 device, __u32 op)
{
	__u64 key = 1ULL << 63 | (__u64)(aggregate ? 0 : device) << 3 | op;
	__u32 home = bounded(home_of(key) & ((1U << slot_bits) - 1));

	return keys[home] == key ? home : claim(key);
}

#endif
