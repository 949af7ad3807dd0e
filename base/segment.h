/* segment.h - the shared memory that joins the roles of a node */
/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Why:   control, dataplane and engine ranks are processes of their own; all
 *        that they share is one memory file that control makes: request
 *        slots, payload pages, rings, beats and counters. A role that dies
 *        leaves it whole, its successor attaches to the same bytes.
 *
 * Fronts: the dataplane is one loop or more (fronts), which share nothing: each
 *        has a share of the slots and of the payload pages, a pair of rings
 *        with every rank, a control ring, a beat, a wake word and counters.
 *        What is said of the dataplane below is true of each. A struct
 *        segment sees the dataplane of one front: the first, or, made by
 *        segment_view(), another. All else is the same in all views.
 *
 * Layout: a header page with shape and offsets, then the areas in the order
 *        of the functions below, each on a page of its own kind of writer.
 *        Indices and offsets only. The header is written once, before any
 *        other role attaches, and copied by each role at attach: what another
 *        process does to it later has no effect.
 *
 * Sleep: each role has a wake word; whoever pushes to one of its rings posts
 *        it once per burst (base/wake.h). A front sleeps on a bell: whoever
 *        makes the segment makes the bells and gives each role descriptors.
 *
 * Death of a rank: control sets its beat to BEAT_DEAD, fails its slots in its
 *        name (engine_state FAILED, FINISH_ENGINE_LOST), and tells the
 *        dataplane RING_CLOSE {value: rank, generation: the `life` that
 *        ended}, all before it starts the next life. The dataplane fails
 *        every request that it gave to that rank in that life or before,
 *        whatever its engine_state is, and frees its slots. It submits only
 *        to a rank whose beat says BEAT_READY, after it has emptied its
 *        control ring. The next life drops what is left in the request ring
 *        before it is BEAT_READY, so no request is served twice.
 *
 * Resume: a rank that keeps enough to go on (control decides, and tells the
 *        next life) leaves its slots as they are: no RING_CLOSE, engine_state
 *        stays QUEUED, RUNNING or PREEMPTED, and the dataplane waits as for a
 *        slow step. Before it is BEAT_READY the next life looks at every slot
 *        of its rank that the dataplane has submitted:
 *          not begun (engine_generation is not the slot's): as if RING_SUBMIT
 *              came now; the message itself, should it still come, is known;
 *          begun: goes on behind the last record of its log, of which
 *              RING_TOKENS tells the count again; RUNNING becomes PREEMPTED;
 *          ended: RING_DONE is said again;
 *          closed by the dataplane: ends at once.
 *        The request ring is kept. What is said twice changes nothing: a count
 *        that is known, or a RING_DONE of an earlier generation. Lives that
 *        follow each other without a step are not resumed for ever: then it is
 *        as above.
 *
 * Writers: slots: base/request.h. A request ring: the dataplane pushes, its
 *        rank pops; a token ring: the rank pushes, the dataplane pops; a
 *        control ring: control pushes, the role pops. A beat and a counter
 *        block: the role of that index. The adapters' table and books:
 *        base/adapters.h. Payload pages: whoever the dataplane
 *        gave them to (its free list is private to it).
 *
 * Ownership: the mapping belongs to struct segment; the descriptor stays the
 *        caller's.
 * Threads: attach and create by one; afterwards any thread reads.
 */
#ifndef HEDDLE_BASE_SEGMENT_H
#define HEDDLE_BASE_SEGMENT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/adapters.h"
#include "base/counters.h"
#include "base/error.h"
#include "base/limits.h"
#include "base/request.h"
#include "base/ring.h"
#include "base/wake.h"

/* Roles by index: control, dataplane, then the ranks. */
enum { ROLE_INDEX_CONTROL, ROLE_INDEX_FRONT, ROLE_INDEX_RANK0 };

#define ROLE_INDEX_COUNT_MAX (ROLE_INDEX_RANK0 + RANK_COUNT_MAX)

struct segment_shape {
	uint32_t slot_count; /* 1 .. REQUEST_SLOT_COUNT_MAX */
	uint32_t page_count; /* payload pages */
	uint32_t ring_count; /* entries of each ring, a power of two */
	uint32_t rank_count; /* 1 .. RANK_COUNT_MAX */
	uint32_t front_count; /* 1 .. FRONT_COUNT_MAX; <= slots, pages */
};

enum beat_state {
	BEAT_ABSENT, /* not started */
	BEAT_STARTING,
	BEAT_READY,
	BEAT_DRAINING,
	BEAT_DEAD, /* control saw it end */
	BEAT_STATE_COUNT
};

/*
 * A role's sign of life. A role beats at least every 200 ms, also when it is
 * idle. A rank with pending > 0 whose progress stands still for 2 s, or whose
 * beat is 2 s old, is unhealthy.
 */
struct role_beat {
	_Alignas(CACHE_LINE_BYTES) uint32_t state; /* enum beat_state */
	uint32_t pid;
	uint64_t beat_ns; /* monotonic */
	uint64_t progress; /* steps done */
	uint64_t pending; /* requests that could run now */
	uint32_t life; /* times that the role was started */
	uint32_t reserved;
};

struct segment {
	struct segment_shape shape; /* this role's copy */
	void *base;
	size_t size_bytes;
	/* offsets, computed from the shape by this role, never read back */
	size_t beats, wakes, counters, adapters, rings, slots, pages;
	size_t ring_stride;
	uint32_t front; /* whose dataplane this view shows */
	/* Eventfds of the fronts, of this process; -1 = not given to it. */
	int bell_fds[FRONT_COUNT_MAX];
	bool owns_bells;
};

/* Indices from `first` on. */
struct segment_share {
	uint32_t first, count;
};

/* Bytes of a segment; -EINVAL for a shape out of bounds. */
int segment_size(const struct segment_shape *shape, size_t *out);

/*
 * A new memory file, sealed against growing and shrinking, mapped and made
 * ready: every slot free, every ring empty; and the fronts' bells. *out_fd is
 * the caller's to close (close on exec is set on all). -EINVAL, -ENOMEM, or of
 * memfd_create, mmap and eventfd.
 */
int segment_create(const struct segment_shape *shape, struct segment *out,
	int *out_fd, struct error *err);

/*
 * Map what another role made, after checking its size, magic and shape. The
 * bells are set by the caller, and stay its own.
 */
int segment_attach(int fd, struct segment *out, struct error *err);

void segment_detach(struct segment *segment);

/*
 * The same mapping as front `front` sees it; it is never detached, and valid as
 * long as *segment.
 */
struct segment segment_view(const struct segment *segment, uint32_t front);
/* What of the slots and of the payload pages is this view's front's. */
struct segment_share segment_slot_share(const struct segment *segment);
struct segment_share segment_page_share(const struct segment *segment);
/* Whose a slot is. */
uint32_t segment_slot_front(const struct segment *segment, uint32_t slot_index);

struct request_slot *segment_slot(
	const struct segment *segment, uint32_t index);
struct payload_page *segment_page(
	const struct segment *segment, uint32_t index);
struct role_beat *segment_beat(const struct segment *segment, uint32_t role);
/* What the role of that index sleeps on. */
struct wake *segment_wake(const struct segment *segment, uint32_t role);
/* The bell of this view's front, or -1. */
int segment_bell(const struct segment *segment);
/* There is something to do for this view's front. */
void segment_ring_bell(const struct segment *segment);
/* Of this view's front with the rank, and what control tells it. */
struct ring *segment_request_ring(const struct segment *segment, uint32_t rank);
struct ring *segment_token_ring(const struct segment *segment, uint32_t rank);
struct ring *segment_control_ring(const struct segment *segment, uint32_t role);

struct front_counters *segment_front_counters(const struct segment *segment);
/*
 * What all fronts count, together. Of the port, which is one, the first front's
 * gauges; of a capture the first front's.
 */
void segment_front_total(
	const struct segment *segment, struct front_counters *out);
struct engine_counters *segment_engine_counters(
	const struct segment *segment, uint32_t rank);

struct adapter_table *segment_adapter_table(const struct segment *segment);
struct rank_books *segment_rank_books(
	const struct segment *segment, uint32_t rank);

#endif
