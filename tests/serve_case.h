/* serve_case.h - an engine seen from the other side of its rings, for tests */
/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Why:   tests of serving share the dataplane's part: kinds of requests with
 *        their true records, slots that are filled and heard of, and turns.
 * Use:   one engine in the test's own thread; what it is doing when it is
 *        killed, the next one finds in the slots.
 * Errors: fatal CUnit assertions.
 */
#ifndef HEDDLE_TESTS_SERVE_CASE_H
#define HEDDLE_TESTS_SERVE_CASE_H

#include "engine/null_private.h"
#include "engine/serve_private.h"
#include "tests/adapter_case.h"

#define SERVE_SLOTS 16u
#define SERVE_PAGES 600u
#define SERVE_SLOT_PAGES 32u /* that each slot of the test has for itself */
#define SERVE_RING 256u
#define SERVE_TOP 3u
#define SERVE_KINDS 8u
#define SERVE_OUTPUT_MAX 90u
#define SERVE_PROMPT_MAX 330u

/* What a client asks for. */
struct serve_kind {
	uint32_t prompt[SERVE_PROMPT_MAX];
	uint32_t prompt_count, output_max;
	struct request_params params;
	uint32_t stop_ids[4], stop_count;
	struct logit_bias biases[3];
	uint32_t bias_count;
	/* the truth */
	struct token_record records[SERVE_OUTPUT_MAX],
		top[SERVE_OUTPUT_MAX * SERVE_TOP];
	uint32_t output_count, finish;
};

struct serve_stage {
	struct segment segment;
	int fd;
	struct model_files files;
	struct engine_place place;
	struct engine_serve_options options;
	bool pretends; /* the engine that only does so, instead */
	struct serve *serve;
	struct null_engine null;
	struct rank *rank; /* of either */
	struct rank_adapters *adapters; /* of either, or NULL */
	uint32_t kind[SERVE_SLOTS]; /* that the slot runs; SERVE_KINDS = none */
	bool cancelled[SERVE_SLOTS];
	uint32_t told[SERVE_SLOTS], done[SERVE_SLOTS];
};

/* A small engine of one thread, whose cache is too small for many. */
extern const struct engine_serve_options serve_stage_plain;

/* options NULL: the engine that only pretends. mail may be NULL. */
void serve_stage_open(struct serve_stage *stage, const char *directory,
	const struct engine_serve_options *options, struct engine_mail *mail);

/* Nothing may run any more. */
void serve_stage_close(struct serve_stage *stage);

/* The engine is gone, in whatever it was doing. */
void serve_stage_kill(struct serve_stage *stage);

/* Another one comes. */
void serve_stage_engine(struct serve_stage *stage);

/* An engine that has nothing to do has nothing. */
void serve_stage_check_idle(struct serve_stage *stage);

/* A request in the slot, which the engine has not been told of. */
struct request_slot *serve_stage_prepare(struct serve_stage *stage,
	uint32_t index, const struct serve_kind *kind);

void serve_stage_tell(
	struct serve_stage *stage, enum ring_kind kind, uint32_t index);

/* Take what the token ring says. */
void serve_stage_hear(struct serve_stage *stage);

/* One turn, and the step that it began. */
void serve_stage_turn(struct serve_stage *stage);

bool serve_same_bits(float a, float b);

uint32_t serve_records_different(const struct token_record *a,
	const struct token_record *b, uint32_t count);

/* Records that differ from the truth in some bit. */
uint32_t serve_kind_wrong(struct serve_stage *stage, uint32_t index,
	const struct serve_kind *kind);

/* [SERVE_KINDS]; prompts come in two families that begin alike. */
void serve_kinds_make(struct serve_kind *kinds, uint64_t *state);

/* The truth: by an engine of its own, whose base is merged with that. */
void serve_kind_alone(struct serve_kind *kind, const char *directory,
	const struct adapter_case *merged);

#endif
