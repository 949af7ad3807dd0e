/* detokenizer.c - token ids to text as they come (ids -> UTF-8, stop strings) */
/* SPDX-License-Identifier: Apache-2.0 */
#include <assert.h>
#include <string.h>

#include "dataplane/detokenizer.h"
#include "dataplane/tokenizer_private.h"

void detokenizer_init(struct detokenizer *d, const struct tokenizer *tok,
	const struct stop_set *stops, bool skip_special)
{
	/* Only what is read before it is written: text[] is large. */
	memset(&d->states, 0, sizeof(d->states));
	d->tok = tok;
	d->stops = stops && stops->count ? stops : NULL;
	d->skip_special = skip_special;
	d->is_first = true;
	d->strip_left = tok->decoder.strip_count;
	d->run_bytes = 0;
	d->partial_bytes = 0;
	d->text_bytes = 0;
	d->taken_bytes = 0;
	d->token_count = 0;
	d->sent_bytes = 0;
	d->stop_token = 0;
	d->stop = -1;
}

/* --- from UTF-8 to what may be sent ------------------------------------------- */

/*
 * Text that is whole UTF-8. After a stop nothing is added: the stop string's
 * own bytes are cut off and text_bytes stays where it began.
 */
static void add_text(struct detokenizer *d, const char *text, size_t length)
{
	if (d->stop >= 0)
		return;
	assert(length <= sizeof(d->text) - d->text_bytes);
	if (!d->stops) {
		memcpy(d->text + d->text_bytes, text, length);
		d->text_bytes += (uint32_t)length;
		return;
	}
	for (size_t i = 0; i < length; i++) {
		d->text[d->text_bytes++] = text[i];
		d->stop = stop_set_step(d->stops, &d->states, text[i]);
		if (d->stop >= 0) {
			d->text_bytes -= d->stops->length[d->stop];
			return;
		}
	}
}

/* --- from bytes to UTF-8 ------------------------------------------------------- */

/* The Strip decoder: up to strip_count of one character, at the very front. */
static void strip_text(struct detokenizer *d, const char *text, size_t length)
{
	const struct decoder *decoder = &d->tok->decoder;
	size_t size = decoder->strip_bytes;

	while (d->strip_left && length) {
		if (length < size || memcmp(text, decoder->strip, size) != 0) {
			d->strip_left = 0;
			break;
		}
		d->strip_left--;
		text += size;
		length -= size;
	}
	add_text(d, text, length);
}

static void add_bad(struct detokenizer *d)
{
	strip_text(d, UTF8_REPLACEMENT, UTF8_REPLACEMENT_BYTES);
}

/* Finish a character with the first bytes of a token; returns how many. */
static size_t complete_partial(
	struct detokenizer *d, const char *bytes, size_t length)
{
	size_t had = d->partial_bytes;
	size_t more = UTF8_BYTES_MAX - had;
	struct utf8_item item;

	if (more > length)
		more = length;
	memcpy(d->partial + had, bytes, more);
	item = utf8_next(d->partial, had + more);
	if (item.kind == UTF8_PARTIAL) {
		d->partial_bytes = (uint32_t)(had + more);
		return more;
	}
	d->partial_bytes = 0;
	if (item.kind == UTF8_CHAR)
		strip_text(d, d->partial, item.size_bytes);
	else
		add_bad(d);
	/* What was held is good so far, so the item covers at least that. */
	assert(item.size_bytes >= had);
	return item.size_bytes - had;
}

static void add_bytes(struct detokenizer *d, const char *bytes, size_t length)
{
	while (length) {
		size_t done;

		if (d->partial_bytes) {
			done = complete_partial(d, bytes, length);
		} else {
			done = utf8_valid_prefix(bytes, length);
			strip_text(d, bytes, done);
		}
		bytes += done;
		length -= done;
		if (length && !d->partial_bytes) {
			struct utf8_item item = utf8_next(bytes, length);

			if (item.kind == UTF8_CHAR)
				continue;
			if (item.kind == UTF8_BROKEN)
				add_bad(d);
			else
				memcpy(d->partial, bytes, item.size_bytes);
			if (item.kind == UTF8_PARTIAL)
				d->partial_bytes = item.size_bytes;
			bytes += item.size_bytes;
			length -= item.size_bytes;
		}
	}
}

/* --- from token to bytes ------------------------------------------------------- */

/* The end of a run of byte tokens: UTF-8 as a whole, or all of it bad. */
static void end_run(struct detokenizer *d)
{
	size_t length = d->run_bytes;

	d->run_bytes = 0;
	if (utf8_valid_prefix(d->run, length) == length) {
		strip_text(d, d->run, length);
		return;
	}
	for (size_t i = 0; i < length; i++)
		add_bad(d);
}

/* A run that has become too long: its whole characters go. */
static void shorten_run(struct detokenizer *d)
{
	size_t good = utf8_valid_prefix(d->run, d->run_bytes);
	size_t rest = d->run_bytes - good;

	if (rest >= UTF8_BYTES_MAX) {
		end_run(d);
		return;
	}
	strip_text(d, d->run, good);
	memmove(d->run, d->run + good, rest);
	d->run_bytes = (uint32_t)rest;
}

static void add_run_byte(struct detokenizer *d, char byte)
{
	if (d->run_bytes == DETOKENIZER_RUN_BYTES)
		shorten_run(d);
	d->run[d->run_bytes++] = byte;
}

/* Metaspace: the first token loses its blocks, by now spaces, everywhere. */
static void add_first_metaspace(
	struct detokenizer *d, const struct token *token)
{
	const struct decoder *decoder = &d->tok->decoder;
	const char *text = blob_at(d->tok, token->text);
	size_t size = decoder->metaspace_bytes;
	size_t i = 0;

	while (i < token->text_bytes) {
		size_t left = token->text_bytes - i;
		uint32_t step;

		if (left >= size &&
			memcmp(text + i, decoder->metaspace, size) == 0) {
			i += size;
			continue;
		}
		(void)utf8_get(text + i, &step);
		add_bytes(d, text + i, step);
		i += step;
	}
}

static void add_token(struct detokenizer *d, uint32_t id)
{
	const struct token *token;
	bool is_first = d->is_first;

	if (id >= d->tok->token_count)
		return;
	token = &d->tok->tokens[id];
	if (!(token->flags & TOKEN_EXISTS) ||
		(d->skip_special && token->flags & TOKEN_SPECIAL))
		return;
	d->is_first = false;
	if (token->flags & TOKEN_FALLBACK) {
		add_run_byte(d, *blob_at(d->tok, token->out));
		return;
	}
	if (d->run_bytes)
		end_run(d);
	if (is_first && d->tok->decoder.drop_first)
		add_first_metaspace(d, token);
	else
		add_bytes(d, blob_at(d->tok, token->out), token->out_bytes);
}

/* --- calls --------------------------------------------------------------------- */

/* Drop what the last call returned; what was held moves to the front. */
static void drop_taken(struct detokenizer *d)
{
	d->text_bytes -= d->taken_bytes;
	memmove(d->text, d->text + d->taken_bytes, d->text_bytes);
	d->taken_bytes = 0;
}

static struct detokenizer_text give_text(struct detokenizer *d, bool all)
{
	struct detokenizer_text out = {.text = d->text, .stop = d->stop};
	size_t held = 0;

	if (!all && d->stops && d->stop < 0)
		held = stop_set_held(d->stops, &d->states);
	assert(held <= d->text_bytes);
	out.length = d->text_bytes - held;
	d->taken_bytes = (uint32_t)out.length;
	d->sent_bytes += out.length;
	if (d->stop >= 0) {
		out.stop_token = d->stop_token;
		out.stop_offset = d->sent_bytes;
	}
	return out;
}

struct detokenizer_text detokenizer_push(struct detokenizer *d, uint32_t id)
{
	drop_taken(d);
	if (d->stop < 0) {
		add_token(d, id);
		if (d->stop >= 0)
			d->stop_token = d->token_count;
		d->token_count++;
	}
	return give_text(d, false);
}

struct detokenizer_text detokenizer_finish(struct detokenizer *d)
{
	drop_taken(d);
	if (d->stop < 0) {
		end_run(d);
		if (d->partial_bytes)
			add_bad(d);
		d->partial_bytes = 0;
		if (d->stop >= 0)
			d->stop_token = d->token_count;
	}
	return give_text(d, true);
}

size_t detokenizer_held(const struct detokenizer *d)
{
	return d->text_bytes - d->taken_bytes;
}
