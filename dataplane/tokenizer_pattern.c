/* tokenizer_pattern.c - regexes compiled and matched (pattern -> places) */
/* SPDX-License-Identifier: Apache-2.0 */
#define PCRE2_CODE_UNIT_WIDTH 8
#include <assert.h>
#include <errno.h>
#include <pcre2.h>
#include <stdlib.h>
#include <string.h>

#include "dataplane/tokenizer_pattern.h"

#define ASCII_COUNT 128

struct pattern {
	pcre2_code *code; /* owned */
	pcre2_code *ascii; /* owned; NULL: only the one above */
	bool jit; /* both are compiled to machine code */
	bool looks_back;
	uint8_t single[ASCII_COUNT][ASCII_COUNT / 8]; /* bit [a][b]: where a is
		followed by b, the match is a */
};

struct pattern_state {
	pcre2_match_data *data; /* owned, all of them */
	pcre2_match_context *context;
	pcre2_jit_stack *stack;
};

/* PCRE2's memory comes through here, so that tests can fail it. */
static void *take(PCRE2_SIZE size, void *unused)
{
	(void)unused;
	return malloc(size);
}

static void give(void *memory, void *unused)
{
	(void)unused;
	free(memory);
}

/* --- compiling ----------------------------------------------------------------- */

static int refuse(int code, size_t offset, struct error *err)
{
	PCRE2_UCHAR text[128];

	if (code == PCRE2_ERROR_HEAP_FAILED || code == PCRE2_ERROR_NOMEMORY)
		return error_set(err, ENOMEM, "regex: no memory");
	if (pcre2_get_error_message(code, text, sizeof(text)) < 0)
		text[0] = '\0';
	return error_set(err, EINVAL, "regex: %s (at byte %zu as translated)",
		(const char *)text, offset);
}

static int compile_in(const char *text, size_t length, uint32_t options,
	pcre2_general_context *memory, pcre2_code **out, struct error *err)
{
	pcre2_compile_context *context = pcre2_compile_context_create(memory);
	PCRE2_SIZE offset;
	int code;

	if (!context)
		return error_set(err, ENOMEM, "regex: no memory");
	pcre2_set_newline(context, PCRE2_NEWLINE_LF);
	pcre2_set_parens_nest_limit(context, 50);
	*out = pcre2_compile(
		(PCRE2_SPTR)text, length, options, &code, &offset, context);
	pcre2_compile_context_free(context);
	return *out ? 0 : refuse(code, offset, err);
}

static int compile(const char *text, size_t length, uint32_t options,
	pcre2_code **out, struct error *err)
{
	pcre2_general_context *memory =
		pcre2_general_context_create(take, give, NULL);
	int rc;

	if (!memory)
		return error_set(err, ENOMEM, "regex: no memory");
	rc = compile_in(text, length, options, memory, out, err);
	pcre2_general_context_free(memory);
	return rc;
}

/* Which ASCII characters a class has: ask PCRE2, one by one. */
static int class_members(const char *text, size_t length, uint8_t set[16])
{
	pcre2_match_data *data;
	pcre2_code *code = NULL;
	int rc = compile(text, length, PCRE2_UTF | PCRE2_UCP, &code, NULL);

	if (rc)
		return rc;
	data = pcre2_match_data_create(1, NULL);
	memset(set, 0, 16);
	for (unsigned c = 0; data && c < ASCII_COUNT; c++) {
		const PCRE2_UCHAR subject = (PCRE2_UCHAR)c;

		if (pcre2_match(code, &subject, 1, 0, 0, data, NULL) >= 0)
			set[c / 8] = (uint8_t)(set[c / 8] | 1u << c % 8);
	}
	rc = data ? 0 : -ENOMEM;
	pcre2_match_data_free(data);
	pcre2_code_free(code);
	return rc;
}

/* Fill single[]: where two bytes give a match that did not look further. */
static int find_singles(struct pattern *pattern)
{
	pcre2_match_data *data = pcre2_match_data_create(1, NULL);

	if (!data)
		return -ENOMEM;
	for (unsigned i = 0; i < ASCII_COUNT * ASCII_COUNT; i++) {
		const unsigned a = i / ASCII_COUNT;
		const unsigned b = i % ASCII_COUNT;
		const PCRE2_UCHAR subject[2] = {(PCRE2_UCHAR)a, (PCRE2_UCHAR)b};
		const PCRE2_SIZE *places = pcre2_get_ovector_pointer(data);

		if (pcre2_match(pattern->ascii, subject, 2, 0,
			    PCRE2_PARTIAL_HARD, data, NULL) >= 0 &&
			places[0] == 0 && places[1] == 1)
			pattern->single[a][b / 8] =
				(uint8_t)(pattern->single[a][b / 8] |
					  1u << b % 8);
	}
	pcre2_match_data_free(data);
	return 0;
}

/* The second code. What it cannot say is said by the first one alone. */
static int compile_ascii(
	struct pattern *pattern, const char *translated, struct error *err)
{
	char *text = malloc(PATTERN_TRANSLATED_BYTES_MAX + 1);
	int rc = text ? pattern_translate_ascii(translated, text, class_members)
		      : -ENOMEM;

	if (rc == 0)
		rc = compile(text, strlen(text), PCRE2_NEVER_BACKSLASH_C,
			&pattern->ascii, NULL);
	free(text);
	if (rc == 0 && !pattern->looks_back)
		rc = find_singles(pattern);
	if (rc == -ENOMEM)
		return error_set(err, ENOMEM, "regex: no memory");
	return 0;
}

static bool jit_compile(pcre2_code *code)
{
	return pcre2_jit_compile(
		       code, PCRE2_JIT_COMPLETE | PCRE2_JIT_PARTIAL_HARD) == 0;
}

static int compile_regex(struct pattern *pattern, const char *source,
	size_t length, struct error *err)
{
	char *text = malloc(PATTERN_TRANSLATED_BYTES_MAX + 1);
	uint32_t may_be_empty = 1;
	uint32_t back = 1;
	int rc;

	if (!text)
		return error_set(err, ENOMEM, "regex: no memory");
	rc = pattern_translate(source, length, text, err);
	if (rc == 0)
		rc = compile(text, strlen(text),
			PCRE2_UTF | PCRE2_UCP | PCRE2_NEVER_BACKSLASH_C,
			&pattern->code, err);
	if (rc == 0) {
		(void)pcre2_pattern_info(
			pattern->code, PCRE2_INFO_MATCHEMPTY, &may_be_empty);
		(void)pcre2_pattern_info(
			pattern->code, PCRE2_INFO_MAXLOOKBEHIND, &back);
		pattern->looks_back = back != 0;
		if (may_be_empty)
			rc = error_set(err, ENOTSUP,
				"regex: it may match the empty string");
	}
	if (rc == 0)
		rc = compile_ascii(pattern, text, err);
	free(text);
	return rc;
}

int pattern_create(const char *source, size_t length, bool literal,
	struct pattern **out, struct error *err)
{
	struct pattern *pattern;
	int rc;

	if (length == 0)
		return error_set(
			err, ENOTSUP, "regex: it may match the empty string");
	if (length > PATTERN_BYTES_MAX)
		return error_set(err, E2BIG, "regex: longer than %d bytes",
			PATTERN_BYTES_MAX);
	pattern = calloc(1, sizeof(*pattern));
	if (!pattern)
		return error_set(err, ENOMEM, "regex: no memory");
	if (literal)
		rc = compile(source, length, PCRE2_UTF | PCRE2_LITERAL,
			&pattern->code, err);
	else
		rc = compile_regex(pattern, source, length, err);
	if (rc) {
		pattern_destroy(pattern);
		return rc;
	}
	/* Without the JIT (forbidden, or no memory) the interpreter runs. */
	pattern->jit = jit_compile(pattern->code) &&
		       (!pattern->ascii || jit_compile(pattern->ascii));
	*out = pattern;
	return 0;
}

void pattern_destroy(struct pattern *pattern)
{
	if (!pattern)
		return;
	pcre2_code_free(pattern->ascii);
	pcre2_code_free(pattern->code);
	free(pattern);
}

/* --- matching ------------------------------------------------------------------ */

int pattern_state_create(struct pattern_state **out)
{
	struct pattern_state *state = calloc(1, sizeof(*state));
	pcre2_general_context *memory =
		pcre2_general_context_create(take, give, NULL);

	if (!state || !memory)
		goto err_free;
	state->data = pcre2_match_data_create(1, memory);
	state->context = pcre2_match_context_create(memory);
	state->stack =
		pcre2_jit_stack_create(32768, PATTERN_JIT_STACK_BYTES, memory);
	if (!state->data || !state->context)
		goto err_free;
	pcre2_set_match_limit(state->context, PATTERN_MATCH_LIMIT);
	pcre2_set_depth_limit(state->context, PATTERN_DEPTH_LIMIT);
	pcre2_set_heap_limit(state->context, PATTERN_HEAP_KIB_MAX);
	/* No stack: the JIT keeps to 32 KiB of the machine's. */
	if (state->stack)
		pcre2_jit_stack_assign(state->context, NULL, state->stack);
	pcre2_general_context_free(memory);
	*out = state;
	return 0;
err_free:
	pcre2_general_context_free(memory);
	pattern_state_destroy(state);
	return -ENOMEM;
}

void pattern_state_destroy(struct pattern_state *state)
{
	if (!state)
		return;
	pcre2_match_data_free(state->data);
	pcre2_match_context_free(state->context);
	pcre2_jit_stack_free(state->stack);
	free(state);
}

/* Find the stretch of ASCII at `from`, where it is not known. */
static void find_ascii(struct pattern_text *text, size_t from)
{
	size_t end = from;
	uint64_t eight;

	if (from < text->ascii_end)
		return;
	for (; text->length - end >= sizeof(eight); end += sizeof(eight)) {
		memcpy(&eight, text->text + end, sizeof(eight));
		if (eight & UINT64_C(0x8080808080808080))
			break;
	}
	while (end < text->length && !(text->text[end] & 0x80))
		end++;
	/* A stretch that goes on where the last one ended is the same. */
	if (from != text->ascii_end)
		text->ascii_start = from;
	text->ascii_end = end;
}

static bool is_single(const struct pattern *pattern, const char *text)
{
	const unsigned a = (unsigned char)text[0];
	const unsigned b = (unsigned char)text[1];

	return (pattern->single[a][b / 8] >> b % 8 & 1) != 0;
}

static int run(const struct pattern *pattern, const pcre2_code *code,
	struct pattern_state *state, const struct pattern_text *text,
	size_t from, uint32_t options)
{
	const size_t end =
		options & PCRE2_PARTIAL_HARD ? text->ascii_end : text->length;
	PCRE2_SPTR subject = (PCRE2_SPTR)text->text;

	if (pattern->jit)
		return pcre2_jit_match(code, subject, end, from,
			PCRE2_NO_UTF_CHECK | options, state->data,
			state->context);
	return pcre2_match(code, subject, end, from,
		PCRE2_NO_UTF_CHECK | options, state->data, state->context);
}

int pattern_find(const struct pattern *pattern, struct pattern_state *state,
	struct pattern_text *text, size_t from, size_t match[2])
{
	const PCRE2_SIZE *places = pcre2_get_ovector_pointer(state->data);
	int rc = PCRE2_ERROR_PARTIAL;

	assert(from <= text->length);
	find_ascii(text, from);
	if (from + 1 < text->ascii_end &&
		is_single(pattern, text->text + from)) {
		match[0] = from;
		match[1] = from + 1;
		return 1;
	}
	if (pattern->ascii && from < text->ascii_end &&
		(!pattern->looks_back || text->ascii_start == 0)) {
		bool whole = text->ascii_end == text->length;

		rc = run(pattern, pattern->ascii, state, text, from,
			whole ? 0 : PCRE2_PARTIAL_HARD);
		if (rc == PCRE2_ERROR_NOMATCH && !whole)
			rc = PCRE2_ERROR_PARTIAL;
	}
	if (rc == PCRE2_ERROR_PARTIAL)
		rc = run(pattern, pattern->code, state, text, from, 0);
	if (rc == PCRE2_ERROR_NOMATCH)
		return 0;
	if (rc < 0)
		return -E2BIG;
	assert(places[0] >= from && places[1] > places[0] &&
		places[1] <= text->length);
	match[0] = places[0];
	match[1] = places[1];
	return 1;
}
