/* ahead.h - memory made ready before it is written (places -> pages) */
/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Why:   the first touch of a page of the system costs more than writing it
 *        does. A load from a disk has the time: threads prepare (vmm.h) its
 *        memory in large blocks, in the order in which it will be written,
 *        while the lanes of the reader wait. A block whose last place is
 *        being written already is left out.
 * Invariant: a block is prepared at most once; it has no more beside its
 *        places than gaps of AHEAD_GAP_BYTES between them.
 * Ownership: places are read by ahead_begin() alone; the vmm is borrowed until
 *        ahead_end().
 * Threads: one begins and ends; ahead_reached() by any in between.
 */
#ifndef HEDDLE_ENGINE_AHEAD_H
#define HEDDLE_ENGINE_AHEAD_H

#include <pthread.h>
#include <stdint.h>

#include "base/limits.h"
#include "memmgr/vmm.h"

#define AHEAD_BLOCK_BYTES ((uint64_t)16 << 20) /* of addresses; a multiple */
#define AHEAD_GAP_BYTES ((uint64_t)PAGE_SIZE_BYTES_MIN) /* beside a place */
#define AHEAD_THREAD_COUNT_MAX 8

/* Memory that is written, in the order of an array of these; may overlap. */
struct ahead_place {
	vmm_addr at;
	uint64_t size_bytes;
};

struct ahead_block {
	vmm_addr begin, end; /* of places, in one block */
	uint32_t first, last; /* of these places */
};

struct ahead {
	struct vmm *vmm;
	struct ahead_block *blocks; /* owned; by `first` */
	uint32_t count;
	uint32_t next; /* atomic; blocks that were taken */
	uint32_t reached; /* atomic; a place */
	pthread_t threads[AHEAD_THREAD_COUNT_MAX];
	uint32_t thread_count; /* that run */
};

/*
 * Threads that cannot be started are done without; so are all, where there is
 * nothing to prepare. -ENOMEM, -EOVERFLOW: the blocks cannot be counted in 32
 * bits. *out stays where it is until ahead_end().
 */
int ahead_begin(struct vmm *vmm, const struct ahead_place *places,
	uint32_t count, uint32_t thread_count, struct ahead *out);

/* `place` is being written. Of several threads the last word counts. */
void ahead_reached(struct ahead *ahead, uint32_t place);

/* Begin no further block, wait for the threads. A zeroed struct is allowed. */
void ahead_end(struct ahead *ahead);

#endif
