/* range.h - a reserved virtual range into which page runs come and go */
/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Why:   "addresses are forever, pages move": a layer's tensor of expert
 *        slots keeps its address while runs of pages are mapped into it and
 *        out of it. Mapping is where other systems corrupt memory (stale
 *        mappings, half-mapped tensors, unmap under a running kernel), so it
 *        has a state machine of its own.
 *
 * States of a run:   ABSENT -> MAPPING -> MAPPED -> VISIBLE -> RETIRING
 *                       ^_________|__________|___________________|
 *        MAPPING   pages are being mapped; on failure all are unmapped again
 *        MAPPED    accessible, its bytes are being written and verified
 *        VISIBLE   kernels may read it
 *        RETIRING  no new step may read it; unmapped after the fence
 *        range_run_set_state() is the only writer and asserts the edge.
 *
 * Invariants: runs do not overlap, lie on page boundaries and inside the
 *        reservation. A page may be mapped in more than one run.
 * Ownership: the range owns the reservation and the mappings; pages remain
 *        the pool's, on loan to whoever took them.
 * Threads: one thread (the rank's).
 */
#ifndef HEDDLE_MEMMGR_RANGE_H
#define HEDDLE_MEMMGR_RANGE_H

#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"
#include "memmgr/pages.h"

enum run_state {
	RUN_ABSENT,
	RUN_MAPPING,
	RUN_MAPPED,
	RUN_VISIBLE,
	RUN_RETIRING
};

/*
 * One run: consecutive pages of a range. Lives in the owner's storage; zeroed
 * is a run that is ABSENT, and an ABSENT run has no pages.
 */
struct range_run {
	uint64_t offset_bytes; /* from the start of the range */
	uint32_t page_count;
	enum run_state state;
};

struct range {
	struct page_pool *pool; /* borrowed until release */
	vmm_addr addr; /* 0 = not reserved */
	uint64_t size_bytes;
	uint32_t mapped_page_count;
};

/* Reserve size_bytes (a multiple of the page size). */
int range_init(struct range *range, struct page_pool *pool, uint64_t size_bytes,
	struct error *err);

/* Every run must be ABSENT. A zeroed struct is allowed. */
void range_release(struct range *range);

/*
 * Map `pages` one after another at offset_bytes, then set access once:
 * ABSENT -> MAPPING -> MAPPED, or, if any call fails, everything that was
 * mapped is unmapped again, the run is ABSENT and the error is returned.
 */
int range_map(struct range *range, struct range_run *run, uint64_t offset_bytes,
	const uint32_t *pages, uint32_t page_count);

/* The same for a whole extent of the pool (base weights). */
int range_map_extent(struct range *range, struct range_run *run,
	uint64_t offset_bytes, uint32_t extent);

/* MAPPED -> VISIBLE: the bytes have been written and verified. */
void range_publish(struct range *range, struct range_run *run);

/* VISIBLE -> RETIRING: called when no new step can name the run. */
void range_retire(struct range *range, struct range_run *run);

/*
 * MAPPED or RETIRING -> ABSENT. Calls the fence first, so that no running
 * step can touch the pages; -EIO if the fence fails: then the run stays as
 * it is, because unmapping under running work is the one thing never done.
 */
int range_unmap(struct range *range, struct range_run *run);

/*
 * The same without the fence, for one of two callers: one that called it
 * itself after the last step that could name the run (a single fence for many
 * runs), or one that told nobody the run's address since it was mapped (a
 * rollback). Cannot fail.
 */
void range_unmap_fenced(struct range *range, struct range_run *run);

/*
 * The last page_count pages of the run, by the same rules; the others stay as
 * they are, and a run of which none is left is ABSENT. What is not MAPPED any
 * more must be RETIRING: nobody may read half a run.
 */
void range_unmap_last(
	struct range *range, struct range_run *run, uint32_t page_count);

vmm_addr range_address(const struct range *range, const struct range_run *run);

const char *run_state_name(enum run_state state);

#endif
