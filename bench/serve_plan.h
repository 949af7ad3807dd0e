/* serve_plan.h - a run, written down before it starts, and what came of it */
/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Why:     whatever is drawn, composed or allocated is done before the clock
 *          starts: the loop only sends bytes that lie ready and stores into
 *          places that exist. That also bounds the memory, which is told.
 * Ownership: serve_plan_release() frees; results borrow nothing but the text
 *          that was asked to be kept, which they own.
 * Threads: the plan is read only during a run; a result and its gaps belong
 *          to the loop that carries its item.
 */
#ifndef HEDDLE_BENCH_SERVE_PLAN_H
#define HEDDLE_BENCH_SERVE_PLAN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "bench/serve_reply.h"

struct serve_item {
	uint64_t due_ns; /* after the start; of no meaning in a closed loop */
	size_t offset, bytes; /* head and body in serve_plan.data */
	size_t gap_offset; /* in serve_plan.gaps */
	uint32_t gap_room;
	uint32_t input_tokens; /* 0: not known */
	uint32_t output_tokens; /* asked for */
	uint32_t model; /* which of the names */
	uint32_t kind; /* the caller's: which sort of request this is */
	uint64_t text_hash; /* 0, or what the text's must be */
};

enum serve_outcome {
	SERVE_NOT_SENT,
	SERVE_RUNNING,
	SERVE_COMPLETED,
	SERVE_FAILED,
	SERVE_CANCELLED /* the run ended first */
};

/* Instants are nanoseconds after the start, 0 = never. */
struct serve_result {
	uint64_t due_ns, sent_ns, first_ns, last_ns, end_ns;
	uint64_t text_hash, text_bytes, byte_count;
	uint32_t chunk_count, gap_count;
	uint32_t prompt_tokens, completion_tokens, cached_tokens;
	uint16_t status;
	uint8_t outcome; /* enum serve_outcome */
	uint8_t fault; /* enum serve_fault */
	uint8_t finish; /* enum serve_finish */
	uint8_t retry_count;
	bool has_usage;
	char *text; /* owned; NULL unless kept */
};

struct serve_plan {
	struct serve_item *items; /* owned, ascending by due_ns */
	struct serve_result *results; /* owned, one per item */
	size_t count;
	char *data; /* owned: the requests' bytes */
	size_t data_bytes;
	uint32_t *gaps; /* owned: ticks between chunks */
	size_t gap_count;
	struct serve_expect expect; /* output_tokens are the item's */
};

/* Frees; a zeroed plan is allowed. */
void serve_plan_release(struct serve_plan *plan);

/*
 * Make room for results and gaps of the items that are there; every item gets
 * gap_room and gap_offset. -ENOMEM.
 */
int serve_plan_seal(struct serve_plan *plan);

/* All that the plan holds, sealed or as it will be. */
size_t serve_plan_bytes(const struct serve_plan *plan);

#endif
