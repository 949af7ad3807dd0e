/* request.h - the slot in which one request lives, shared by three roles */
/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Why:   a request is one fixed-size slot whose index travels; stages fill
 *        fields, nobody copies it. The dataplane knows text, the engine knows
 *        token ids: this is all that they share.
 *
 * Segment: an array of slots and an array of 4 KiB payload pages in shared
 *        memory. Everything is an index or an offset, never a pointer. A slot
 *        is named by (index, generation); the generation grows at each free,
 *        so a message or a handle of an earlier life is recognised and
 *        dropped.
 *
 * One writer per field: front_state and the parameters are the dataplane's,
 *        engine_state and the token count are the engine's, on cache lines
 *        of their own. Each side changes its state only through its setter,
 *        which asserts the edge on the side's private copy and then
 *        publishes. A value read from the other side is copied once and
 *        validated: a bad one fails the request, it is never asserted.
 *
 *   front:  FREE -> PARSING -> SUBMITTED -> STREAMING -> CLOSED -> FREE
 *                      |___________|____________|__________^
 *           CLOSED means: no byte will be sent any more (all sent, client
 *           gone, or refused).
 *   engine: IDLE -> QUEUED -> RUNNING <-> PREEMPTED
 *                     |_________|____________|--> FINISHED | FAILED
 *           (both terminal) -> IDLE, when the front has freed the slot.
 *
 * Free:  only the dataplane frees, after front_state is CLOSED and
 *        engine_state is terminal (or was never QUEUED). When a role dies,
 *        control closes its half in its name.
 *
 * Payload: chains of pages. The prompt's ids (uint32_t each) are written by
 *        the dataplane before SUBMITTED and never change; children of one
 *        parent (choices of `n`, prompts of a list) share the parent's
 *        prompt chain. The output log is append only, written by the engine:
 *        8-byte records, the count published with release after the record.
 *        Pages of the log are handed over empty by the dataplane at
 *        admission for the worst case, so the engine allocates nothing.
 *
 * Threads: each side's fields belong to one thread of that side.
 */
#ifndef HEDDLE_BASE_REQUEST_H
#define HEDDLE_BASE_REQUEST_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/limits.h"

#define PAYLOAD_NONE UINT32_MAX
#define SLOT_NONE UINT32_MAX

enum front_state {
	FRONT_FREE,
	FRONT_PARSING,
	FRONT_SUBMITTED,
	FRONT_STREAMING,
	FRONT_CLOSED,
	FRONT_STATE_COUNT
};

enum engine_state {
	ENGINE_IDLE,
	ENGINE_QUEUED,
	ENGINE_RUNNING,
	ENGINE_PREEMPTED,
	ENGINE_FINISHED,
	ENGINE_FAILED,
	ENGINE_STATE_COUNT
};

/* Why generation ended; the dataplane turns it into finish_reason. */
enum finish_reason {
	FINISH_NONE,
	FINISH_STOP_TOKEN, /* an end-of-sequence or stop token */
	FINISH_STOP_TEXT, /* the dataplane said "finish at token k" */
	FINISH_LENGTH,
	FINISH_CANCELLED,
	FINISH_DEADLINE,
	FINISH_NO_TOKEN, /* the mask allowed nothing, or logits were not
			    numbers */
	FINISH_ENGINE_LOST, /* the rank died and could not resume it */
	FINISH_REASON_COUNT
};

/* One generated token in the output log. */
struct token_record {
	uint32_t token_flags; /* low 24 bits: id; high 8: TOKEN_* flags */
	float logprob;
};

_Static_assert(sizeof(struct token_record) == 8, "layout of the log");
_Static_assert(MODEL_VOCAB_MAX <= (1u << 24), "an id fits 24 bits");

#define TOKEN_ID_MASK UINT32_C(0x00ffffff)
#define TOKEN_FLAG_LAST (UINT32_C(1) << 24) /* the sequence ends here */
#define TOKEN_FLAG_TOP (UINT32_C(1) << 25) /* alternatives were stored */

/* 4 KiB: a link and 4,088 bytes of records or ids. */
struct payload_page {
	uint32_t next; /* page index or PAYLOAD_NONE */
	uint32_t used_bytes;
	uint8_t bytes[PAYLOAD_PAGE_BYTES - 8];
};

_Static_assert(sizeof(struct payload_page) == PAYLOAD_PAGE_BYTES, "a page");

#define PAYLOAD_IDS_PER_PAGE ((PAYLOAD_PAGE_BYTES - 8) / sizeof(uint32_t))
#define PAYLOAD_RECORDS_PER_PAGE                                               \
	((PAYLOAD_PAGE_BYTES - 8) / sizeof(struct token_record))

/* What the client asked for, checked by the dataplane, sealed at SUBMITTED. */
struct request_params {
	uint64_t seed;
	uint64_t deadline_ns; /* monotonic; 0 = none */
	uint32_t prompt_count; /* tokens */
	uint32_t output_max; /* tokens */
	uint32_t output_min; /* stop tokens are masked before this many */
	uint32_t top_k;
	float temperature, top_p, min_p;
	float repetition_penalty, presence_penalty, frequency_penalty;
	uint32_t choice; /* index among the parent's children */
	uint32_t logprob_count; /* alternatives per token */
	uint32_t priority; /* lower goes first */
	uint32_t bias_page; /* logit_bias pairs, PAYLOAD_NONE = none */
	uint32_t stop_page; /* stop token ids, PAYLOAD_NONE = none */
	uint32_t mask; /* index of a vocabulary mask, PAYLOAD_NONE = none */
	uint8_t tenant[32]; /* HMAC that keys the prefix cache */
	bool ignore_eos;
	bool want_logprob;
	uint8_t pad[6];
};

/* Instants of each stage, nanoseconds of the monotonic clock, 0 = not yet. */
struct request_times {
	uint64_t received_ns, parsed_ns, submitted_ns; /* front */
	uint64_t sent_first_ns, sent_last_ns; /* front */
};

struct engine_times {
	uint64_t queued_ns, scheduled_ns, first_token_ns, last_token_ns;
};

struct request_slot {
	/* the dataplane's: state, identity, sealed parameters */
	_Alignas(CACHE_LINE_BYTES) uint32_t front_state;
	uint32_t generation;
	uint32_t rank; /* engine that serves it */
	uint32_t epoch; /* serial of its adapter instance, 0 = the base */
	uint32_t instance; /* adapter instance, bound at admission */
	uint32_t name; /* entry of the name (base/adapters.h): fairness */
	uint32_t parent; /* slot whose prompt it shares, SLOT_NONE = own */
	uint32_t prompt_page; /* first page of the prompt's ids */
	uint32_t log_page; /* first page of the output log */
	uint32_t top_page; /* alternatives, PAYLOAD_NONE = none: struct
			      token_record, logprob_count of them for each
			      token, best first; written before its count */
	uint32_t finish_at; /* UINT32_MAX, or what RING_FINISH_AT said */
	struct request_params params;
	struct request_times times;
	/* the engine's */
	_Alignas(CACHE_LINE_BYTES) uint32_t engine_state;
	uint32_t finish; /* enum finish_reason, once terminal */
	uint32_t output_count; /* records published in the log */
	uint32_t cached_count; /* prompt tokens found in the prefix cache */
	struct engine_times engine_times;
	uint32_t engine_generation; /* of the request that the fields above
				       are of; written before QUEUED */
};

_Static_assert(
	offsetof(struct request_slot, engine_state) % CACHE_LINE_BYTES == 0,
	"one writer per line");
_Static_assert(sizeof(struct request_slot) <= 384, "a slot stays small");

const char *front_state_name(enum front_state state);
const char *engine_state_name(enum engine_state state);

/* May this side go from one state to the other? */
bool front_edge_ok(enum front_state from, enum front_state to);
bool engine_edge_ok(enum engine_state from, enum engine_state to);

/*
 * Setters: *own is the side's private copy (the truth; shared memory is only
 * told); asserts the edge, then publishes with release. The slot's other
 * fields written before are visible to whoever reads the state with acquire.
 */
void front_set_state(
	struct request_slot *slot, enum front_state *own, enum front_state to);
void engine_set_state(struct request_slot *slot, enum engine_state *own,
	enum engine_state to);

/*
 * The other side's state, copied once. False when the value is not a state:
 * the caller fails the request.
 */
bool front_state_read(const struct request_slot *slot, enum front_state *out);
bool engine_state_read(const struct request_slot *slot, enum engine_state *out);

static inline bool engine_state_terminal(enum engine_state state)
{
	return state == ENGINE_FINISHED || state == ENGINE_FAILED;
}

#endif
