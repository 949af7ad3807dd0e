/* text_case.h - golden tokenizers and texts for tests (files -> memory) */
/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Why:   several tests need a tokenizer of a family and a whole text decoded.
 * Files: tests/golden-text/NAME/tokenizer.json, made by
 *        tools/text/make_text_goldens.py; tests run in the tree's root.
 * A file that is missing ends the test program: nothing could be tested.
 */
#ifndef HEDDLE_TESTS_TEXT_CASE_H
#define HEDDLE_TESTS_TEXT_CASE_H

#include <jansson.h>
#include <stddef.h>
#include <stdint.h>

#include "dataplane/detokenizer.h"
#include "dataplane/tokenizer.h"

#define TEXT_FOLDER "tests/golden-text"

/* All bytes of a file, a NUL behind them; release with free(). */
char *text_file(const char *path, size_t *length);

/* The tokenizer of a family; release with tokenizer_destroy(). */
struct tokenizer *text_tokenizer(const char *family);
json_t *text_tokenizer_json(const char *family);

/* A tokenizer of a JSON text that is known to be good. */
struct tokenizer *text_tokenizer_of(const char *json);

/* Encode with no trust and no specials; returns the count. */
size_t text_encode(const struct tokenizer *tok, const char *text, size_t length,
	uint32_t *ids, size_t capacity);

/* All ids through a detokenizer; returns the bytes put into out. */
size_t text_decode(const struct tokenizer *tok, const uint32_t *ids,
	size_t count, bool skip_special, char *out);

#endif
