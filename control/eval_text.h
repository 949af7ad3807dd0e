/* eval_text.h - text for heddle-eval (tokenizer.json <-> token ids) */
/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Why:   score and generate take text as well as ids, and tokenize,
 *        detokenize and chat show what the server will do with it.
 * Trust: text from the caller is a client's: what is written like a special
 *        token in it stays text, unless --parse-special vouches for it.
 * Threads: one.
 */
#ifndef HEDDLE_CONTROL_EVAL_TEXT_H
#define HEDDLE_CONTROL_EVAL_TEXT_H

#include <jansson.h>
#include <stdbool.h>

#include "base/error.h"
#include "control/eval.h"
#include "dataplane/text_span.h"
#include "dataplane/tokenizer.h"

struct eval_text {
	struct tokenizer *tokenizer;
	struct tokenizer_scratch *scratch;
};

/* -ENOENT when the directory has no tokenizer.json. */
int eval_text_open(const char *model, struct eval_text *out, struct error *err);
void eval_text_close(struct eval_text *text); /* a zeroed struct is allowed */

struct eval_prompt {
	const char *text;
	size_t length;
	const struct text_span *spans; /* NULL: none of it is trusted */
	size_t span_count;
	bool add_special; /* what the model's post-processor adds */
};

/* The ids are the caller's to free. where names the place in errors. */
int eval_text_encode(struct eval_text *text, const struct eval_prompt *prompt,
	const char *where, struct token_list *out, struct error *err);

/*
 * The tokens of one line of input, {"ids": [...]} or {"text": "..."}, each id
 * below `vocab`. The tokenizer of `model` is opened at the first text.
 */
struct eval_source {
	const struct eval_options *options;
	struct eval_text text; /* closed by eval_source_close() */
	uint32_t vocab;
};

int eval_source_line(struct eval_source *source, const char *line,
	size_t length, const char *where, struct token_list *out,
	struct error *err);
void eval_source_close(struct eval_source *source);

/* The same for a text that is no line of JSON; it must become some token. */
int eval_source_text(struct eval_source *source, const char *text,
	size_t length, const char *where, struct token_list *out,
	struct error *err);

/* The tokenizer's answer alone: of any vocabulary, and none for "". */
int eval_source_encode(struct eval_source *source, const char *text,
	size_t length, const char *where, struct token_list *out,
	struct error *err);

struct eval_decoding {
	struct token_list tokens; /* borrowed */
	uint32_t context_count; /* first ones whose text is not wanted */
	bool skip_special;
};

/* The text of the ids, to be freed by the caller. */
int eval_text_decode(const struct eval_text *text,
	const struct eval_decoding *decoding, char **out, size_t *out_length,
	struct error *err);

/* A JSON string, escaped. */
void eval_print_string(const char *text, size_t length);

/*
 * Call `take` for each line that is not blank; `where` is "FILE:LINE". Ends
 * with the first error. -EINVAL when there is no such line.
 */
int eval_each_line(const char *path,
	int (*take)(void *arg, const char *line, size_t length,
		const char *where, struct error *err),
	void *arg, struct error *err);

#endif
