/* adapter_fill.h - an adapter's bytes into its slots (plan -> memory) */
/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Why:   the one long part of loading an adapter. It touches only the slots of
 *        an instance that nobody can see yet, so it may run beside steps, on
 *        a thread of its own.
 * Types: what is stored in the type of the base's experts is moved as it is,
 *        by all lanes at once. Anything else is converted, one matrix after
 *        the other (the first rounding that the adapter's training did not
 *        see: to nearest even, and a value for which the base's type has no
 *        room is refused).
 * Proof: files that have a hash (files.h) are read once more, from end to end,
 *        and the bytes that go into the slots are those that are hashed; when
 *        they do not fit the call fails, and nobody has seen the slots.
 * Invariants: after success every byte of every slot is written, the few
 *        between two matrices as zeros.
 * Ownership: everything is borrowed for the call.
 * Threads: any one; of vmm only copy_in, prepare and host_pointer are called.
 */
#ifndef HEDDLE_ENGINE_ADAPTER_FILL_H
#define HEDDLE_ENGINE_ADAPTER_FILL_H

#include <stdint.h>

#include "engine/adapter_plan.h"
#include "engine/reader.h"
#include "memmgr/experts.h"

struct adapter_fill {
	const struct adapter_files *files;
	const struct adapter_plan *plan;
	const struct expert_shape *shape;
	struct vmm *vmm;
	const vmm_addr *slots; /* [plan->config.total] */
	uint32_t lane_count; /* 1 .. READER_LANE_COUNT_MAX */
	const struct adapter_pace *pace; /* NULL = as fast as it goes */
	uint64_t *done_bytes; /* grows with relaxed stores, for whoever looks */
};

/* -EIO, -ENOMEM, -EBADMSG, -ERANGE (a value without room), each by name; what the pace
 * says. */
int adapter_fill_run(const struct adapter_fill *fill, struct reader_info *out,
	struct error *err);

#endif
