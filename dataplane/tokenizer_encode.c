/* tokenizer_encode.c - one text through all steps (text, spans -> ids) */
/* SPDX-License-Identifier: Apache-2.0 */
#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "dataplane/tokenizer_private.h"

#define TEXT_GROWTH 4 /* a space becomes 3 bytes; NFC grows no more */
#define TEXT_SLACK 4096 /* for what steps put in front */

struct tokenizer_scratch {
	const struct tokenizer *tok; /* borrowed until destroyed */
	size_t text_bytes_max;
	char *memory; /* owned: all texts and flags below are parts of it */
	char *clean; /* [text_bytes_max] well-formed text */
	uint8_t *trust; /* [text_bytes_max] its flags */
	struct normalize_work normalize;
	char *prefixed; /* [normalize.capacity] */
	struct bpe_work bpe; /* its arrays are owned */
	struct pattern_state *state; /* owned */
};

/* One call's view of the scratch. */
struct encoding {
	struct tokenizer_scratch *scratch;
	const struct tokenizer_input *input;
	struct split_run run;
};

static int create_texts(struct tokenizer_scratch *scratch)
{
	size_t text = scratch->text_bytes_max;
	size_t grown = TEXT_GROWTH * text + TEXT_SLACK;
	char *at = malloc(2 * text + 5 * grown);

	if (!at)
		return -ENOMEM;
	scratch->memory = at;
	scratch->clean = at;
	scratch->trust = (uint8_t *)(at + text);
	at += 2 * text;
	scratch->normalize.text[0] = at;
	scratch->normalize.text[1] = at + grown;
	scratch->normalize.trust[0] = (uint8_t *)(at + 2 * grown);
	scratch->normalize.trust[1] = (uint8_t *)(at + 3 * grown);
	scratch->prefixed = at + 4 * grown;
	scratch->normalize.capacity = grown;
	return 0;
}

/* The code points of a stretch lie where the symbols will, later. */
static int create_work(struct tokenizer_scratch *scratch)
{
	struct bpe_work *bpe = &scratch->bpe;
	size_t ranks = scratch->tok->merge_count + 1u;

	bpe->symbol_capacity = scratch->text_bytes_max + TEXT_SLACK;
	bpe->symbols = malloc(bpe->symbol_capacity * sizeof(*bpe->symbols));
	bpe->entries = malloc(3 * bpe->symbol_capacity * sizeof(*bpe->entries));
	bpe->bucket = calloc(ranks, sizeof(*bpe->bucket));
	bpe->ranks = malloc(ranks * sizeof(*bpe->ranks));
	bpe->cache = calloc(CACHE_SLOT_COUNT, sizeof(*bpe->cache));
	if (!bpe->symbols || !bpe->entries || !bpe->bucket || !bpe->ranks ||
		!bpe->cache)
		return -ENOMEM;
	scratch->normalize.points = (int32_t *)(void *)bpe->symbols;
	scratch->normalize.point_capacity =
		bpe->symbol_capacity * sizeof(*bpe->symbols) / sizeof(int32_t);
	return 0;
}

int tokenizer_scratch_create(const struct tokenizer *tok, size_t text_bytes_max,
	struct tokenizer_scratch **out)
{
	struct tokenizer_scratch *scratch;

	if (text_bytes_max == 0 || text_bytes_max > TOKENIZER_TEXT_BYTES_MAX)
		return -EINVAL;
	scratch = calloc(1, sizeof(*scratch));
	if (!scratch)
		return -ENOMEM;
	scratch->tok = tok;
	scratch->text_bytes_max = text_bytes_max;
	if (create_texts(scratch) || create_work(scratch) ||
		pattern_state_create(&scratch->state)) {
		tokenizer_scratch_destroy(scratch);
		return -ENOMEM;
	}
	*out = scratch;
	return 0;
}

void tokenizer_scratch_destroy(struct tokenizer_scratch *scratch)
{
	if (!scratch)
		return;
	pattern_state_destroy(scratch->state);
	free(scratch->bpe.cache);
	free(scratch->bpe.ranks);
	free(scratch->bpe.bucket);
	free(scratch->bpe.entries);
	free(scratch->bpe.symbols);
	free(scratch->memory);
	free(scratch);
}

/* --- text and trust ----------------------------------------------------------- */

/* Is there anything in the tokenizer that trust decides about? */
static bool trust_matters(const struct tokenizer *tok)
{
	return tok->raw.has_control || tok->normalized.has_control;
}

/* Write one flag per byte; false where the spans do not cover the text. */
static bool spread_trust(
	const struct tokenizer_input *input, uint8_t *trust, bool *all)
{
	size_t at = 0;

	*all = input->spans || !input->length;
	if (!input->spans) {
		memset(trust, 0, input->length);
		return true;
	}
	for (size_t i = 0; i < input->span_count; i++) {
		const struct text_span *span = &input->spans[i];

		if (span->length > input->length - at)
			return false;
		memset(trust + at, span->trusted, span->length);
		*all &= span->trusted;
		at += span->length;
	}
	return at == input->length;
}

static int put_clean(struct tokenizer_scratch *scratch, size_t *used,
	const char *bytes, size_t length)
{
	if (scratch->text_bytes_max - *used < length)
		return -E2BIG;
	memcpy(scratch->clean + *used, bytes, length);
	*used += length;
	return 0;
}

/*
 * Replace what is not UTF-8. A replacement is never trusted: no token of the
 * server's is made of bytes that are no text. Flags move to higher places, so
 * they are written anew, from the spans.
 */
static int clean_text(struct tokenizer_scratch *scratch,
	const struct tokenizer_input *input, struct text_view *view)
{
	size_t span_left = input->spans ? input->spans[0].length : SIZE_MAX;
	size_t span = 0;
	size_t used = 0;

	for (size_t i = 0; i < input->length;) {
		struct utf8_item item =
			utf8_next(input->text + i, input->length - i);
		bool good = item.kind == UTF8_CHAR;
		size_t before = used;
		int rc = put_clean(scratch, &used,
			good ? input->text + i : UTF8_REPLACEMENT,
			good ? item.size_bytes : UTF8_REPLACEMENT_BYTES);

		if (rc)
			return rc;
		if (!view->trust) {
			i += item.size_bytes;
			continue;
		}
		for (size_t end = i + item.size_bytes; i < end; i++) {
			bool trusted;

			while (span_left == 0)
				span_left = input->spans[++span].length;
			span_left--;
			trusted = good && input->spans &&
				  input->spans[span].trusted;
			if (good)
				scratch->trust[before++] = trusted;
		}
		memset(scratch->trust + before, 0, used - before);
	}
	view->text = scratch->clean;
	view->length = used;
	return 0;
}

static int open_text(struct tokenizer_scratch *scratch,
	const struct tokenizer_input *input, struct text_view *view)
{
	bool all;

	if (input->length > scratch->text_bytes_max)
		return -E2BIG;
	if (!spread_trust(input, scratch->trust, &all))
		return -EINVAL;
	/* A view has an address, also where it has no bytes. */
	*view = (struct text_view){input->length ? input->text : "",
		all || !trust_matters(scratch->tok) ? NULL : scratch->trust,
		input->length};
	if (utf8_valid_prefix(view->text, view->length) == view->length)
		return 0;
	return clean_text(scratch, input, view);
}

/* --- the steps ---------------------------------------------------------------- */

static struct text_view part_of(
	const struct text_view *view, size_t start, size_t end)
{
	return (struct text_view){view->text + start,
		view->trust ? view->trust + start : NULL, end - start};
}

/* Metaspace, or ByteLevel's space: into scratch->prefixed. */
static int put_prefix(const struct tokenizer *tok,
	struct tokenizer_scratch *scratch, bool at_start,
	struct text_view *view)
{
	const struct prefix_step *step = &tok->prefix;
	size_t size = step->prefix_bytes;
	size_t used = 0;
	bool wanted = step->scheme == PREPEND_ALWAYS ||
		      (step->scheme == PREPEND_FIRST && at_start);
	bool begins = (step->replace_spaces && view->text[0] == ' ') ||
		      (view->length >= size &&
			      memcmp(view->text, step->prefix, size) == 0);

	if (wanted && !begins) {
		memcpy(scratch->prefixed, step->prefix, size);
		used = size;
	}
	for (size_t i = 0; i < view->length; i++) {
		if (scratch->normalize.capacity - used < UTF8_BYTES_MAX)
			return -E2BIG;
		if (view->text[i] != ' ' || !step->replace_spaces) {
			scratch->prefixed[used++] = view->text[i];
			continue;
		}
		memcpy(scratch->prefixed + used, step->prefix, size);
		used += size;
	}
	*view = (struct text_view){scratch->prefixed, NULL, used};
	return 0;
}

/* Text without added tokens. */
static int encode_words(
	struct encoding *e, struct text_view view, bool at_start)
{
	const struct tokenizer *tok = e->scratch->tok;

	if (view.length == 0)
		return 0;
	if (tok->prefix.prefix_bytes) {
		int rc = put_prefix(tok, e->scratch, at_start, &view);

		if (rc)
			return rc;
	}
	return split_text(&e->run, view.text, view.length);
}

static int put_id(struct id_list *out, uint32_t id)
{
	if (out->count == out->capacity)
		return -ENOSPC;
	out->ids[out->count++] = id;
	return 0;
}

/* Search a view for the tokens of a trie; `between` gets what lies between. */
static int encode_around(struct encoding *e, const struct trie *trie,
	struct text_view view, bool at_start)
{
	bool is_raw = trie == &e->scratch->tok->raw;
	struct added_scan scan = {.tok = e->scratch->tok,
		.trie = trie,
		.view = view,
		.markup_everywhere = e->input->markup_everywhere};
	struct added_match match;
	size_t done = 0;

	for (;;) {
		bool found = added_scan_next(&scan, &match);
		size_t end = found ? match.start : view.length;
		int rc = 0;

		if (done < end) {
			struct text_view part = part_of(&view, done, end);
			bool first = at_start && done == 0;

			if (!is_raw) {
				rc = encode_words(e, part, first);
			} else {
				if (!e->scratch->tok->normalized.has_control)
					part.trust = NULL;
				rc = normalize_text(e->scratch->tok,
					&e->scratch->normalize, part, &part);
				if (rc == 0)
					rc = encode_around(e,
						&e->scratch->tok->normalized,
						part, first);
			}
		}
		if (rc == 0 && found)
			rc = put_id(e->run.out, match.id);
		if (rc || !found)
			return rc;
		done = match.end;
	}
}

static int put_template(
	struct id_list *out, bool wanted, const uint32_t *ids, uint32_t count)
{
	int rc = 0;

	for (uint32_t i = 0; wanted && rc == 0 && i < count; i++)
		rc = put_id(out, ids[i]);
	return rc;
}

int tokenizer_encode(struct tokenizer_scratch *scratch,
	const struct tokenizer_input *input, uint32_t *ids, size_t capacity,
	size_t *count)
{
	const struct tokenizer *tok = scratch->tok;
	struct id_list out = {.capacity = capacity};
	struct encoding e = {
		scratch, input, {tok, scratch->state, &scratch->bpe, &out}};
	struct text_view view;
	int rc;

	out.ids = ids;
	*count = 0;
	rc = open_text(scratch, input, &view);
	if (rc == 0)
		rc = put_template(&out, input->add_special, tok->before_ids,
			tok->before_count);
	if (rc == 0)
		rc = encode_around(&e, &tok->raw, view, true);
	if (rc == 0)
		rc = put_template(&out, input->add_special, tok->after_ids,
			tok->after_count);
	if (rc == 0)
		*count = out.count;
	return rc;
}
