/* eval.h - what the commands of heddle-eval share */
/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Why:   heddle-eval runs the engine with no server around it, to prove and
 *        to look: score, generate, inspect; and it turns adapters into
 *        checkpoints and back: merge, diff; it signs them: sign, verify.
 * Errors: commands return 0 or -errno with a text in struct error; only
 *        main() prints it, as one line, and exits with 1.
 * Threads: one, beside the back end's workers.
 */
#ifndef HEDDLE_CONTROL_EVAL_H
#define HEDDLE_CONTROL_EVAL_H

#include <stdint.h>

#include "base/error.h"
#include "engine/adapter.h"
#include "engine/forward.h"
#include "gpu/cpu/cpu.h"
#include "engine/load.h"
#include "engine/step.h"
#include "memmgr/vmm.h"

#define EVAL_CORE_COUNT_MAX 1024

/* Processor cores that threads are bound to, one each. */
struct eval_cores {
	uint32_t core[EVAL_CORE_COUNT_MAX];
	uint32_t count; /* 0 = threads are not bound */
};

/* --adapter NAME=DIR; without NAME= it is the directory's last part. */
struct eval_adapter {
	char name[ADAPTER_NAME_BYTES];
	const char *directory;
};

#define EVAL_ADAPTER_BASE UINT32_MAX /* the base itself */

struct eval_options {
	const char *model; /* directory */
	const char *base; /* merge, diff: directory */
	const char *out; /* merge, diff: directory to be made */
	struct eval_adapter adapters[INSTANCE_COUNT_MAX - 1];
	uint32_t adapter_count;
	const char *directory; /* sign, verify: of the adapter */
	const char *key; /* sign: file of the private key */
	const char *keys; /* verify: public keys */
	const char *name; /* sign, verify: of the adapter, NULL = any */
	const char *input; /* score: JSON lines, "-" = standard input */
	const char *ids; /* generate: token ids of the prompt */
	enum dtype kv_type;
	uint32_t thread_count; /* 0 = one per core */
	struct eval_cores cores;
	uint32_t chunk_rows; /* rows of a prefill step */
	uint64_t page_size_bytes; /* 0 = by the model's size */
	uint32_t top_count; /* alternatives to print */
	uint32_t token_max; /* generate: tokens to draw */
	const char *text; /* generate: prompt as text */
	bool parse_special; /* the caller vouches for special tokens in text */
	bool keep_special; /* detokenize: special tokens appear in the text */
	bool no_special; /* do not add what the model puts around a text */
	bool ignore_eos;
	bool has_sampling; /* some sampling option was given */
	struct sample_params sampling;
};

/* A loaded model with everything that a step needs. */
struct eval_session {
	struct vmm vmm;
	struct model *model;
	enum cpu_isa isa;
	struct ops ops;
	struct forward *forward;
	struct step step;
	struct adapter_set *adapters; /* NULL: none were given */
	uint32_t instances[INSTANCE_COUNT_MAX - 1]; /* [adapter_count] */
	uint32_t instance_count;
	uint32_t instance; /* that the rows of a step carry */
	/* the one sequence that runs */
	uint32_t *blocks; /* [block_count] */
	uint32_t block_count;
	uint32_t *pages; /* [block_count][pages_per_block] */
	uint32_t block_max;
};

/*
 * Load the model for sequences of up to token_max tokens and steps of
 * options->chunk_rows rows, each of which may be sampled.
 */
int eval_session_open(const struct eval_options *options, uint32_t token_max,
	struct eval_session *out, struct error *err);
void eval_session_close(struct eval_session *session);

/* Take blocks until the sequence has room for token_count tokens. */
int eval_session_grow(
	struct eval_session *session, uint32_t token_count, struct error *err);

/* Forget the sequence. */
void eval_session_reset(struct eval_session *session);

/*
 * Fill session->step with tokens [first, first + count) of `ids`, without
 * samples; the caller adds those and runs it.
 */
void eval_session_fill(struct eval_session *session, const uint32_t *ids,
	uint32_t first, uint32_t count);

/* Rows carry that adapter of the options from now on, or EVAL_ADAPTER_BASE. */
void eval_session_use(struct eval_session *session, uint32_t adapter);

/* "NAME=DIR" or "DIR" -> one more adapter; -EINVAL, also a name twice. */
int eval_add_adapter(
	struct eval_options *options, const char *text, struct error *err);

/* Check every adapter against the base and make room for it in `out`. */
int eval_adapters_measure(const struct eval_options *options,
	const struct model_files *base, struct model_options *out,
	struct error *err);

/* Load all of them; eval_adapters_close() also after an error. */
int eval_adapters_open(const struct eval_options *options,
	struct eval_session *session, uint32_t lane_count, struct error *err);
void eval_adapters_close(struct eval_session *session);

/*
 * The adapter that a line of input asks for: the one whose name its "adapter"
 * says, null for the base; without the field the only one, or the base where
 * there is none.
 */
int eval_adapter_of_line(const struct eval_options *options, const char *line,
	size_t length, const char *where, uint32_t *out, struct error *err);

/* "0-3,8" -> 0, 1, 2, 3, 8; -EINVAL: no such list, or a core twice. */
int eval_parse_cores(
	const char *text, struct eval_cores *out, struct error *err);

/* Open and read only the configuration. */
int eval_read_config(const char *model, struct model_config *config,
	struct generation_config *generation, struct error *err);

/* "[id, logprob], ..." as %.9g. */
void eval_print_top(const struct sample_result *result);

/* A number as JSON: %.9g, or null where JSON has none. */
void eval_print_number(double value);

struct token_list {
	uint32_t *ids; /* owned by whoever holds the list */
	uint32_t count;
};

/*
 * Token ids, each below the vocabulary, from the text of a JSON array or of
 * an object with such an array as "ids". where names the place in errors.
 */
int eval_parse_ids(const char *text, size_t length, const char *where,
	uint32_t vocab, struct token_list *out, struct error *err);

int eval_tokenize(const struct eval_options *options, struct error *err);
int eval_detokenize(const struct eval_options *options, struct error *err);
int eval_chat(const struct eval_options *options, struct error *err);
int eval_score(const struct eval_options *options, struct error *err);
int eval_generate(const struct eval_options *options, struct error *err);
int eval_inspect(const struct eval_options *options, struct error *err);
int eval_merge(const struct eval_options *options, struct error *err);
int eval_diff(const struct eval_options *options, struct error *err);
int eval_sign(const struct eval_options *options, struct error *err);
int eval_verify(const struct eval_options *options, struct error *err);

#endif
