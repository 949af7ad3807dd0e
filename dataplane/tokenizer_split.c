/* tokenizer_split.c - text cut into words by the model's own regexes (text -> pieces) */
/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Each split works on a piece of the one before as if it were a text of its
 * own, so that what looks ahead sees the piece's end. Pieces are passed on as
 * soon as they are known; nothing is stored but the one that a later piece
 * may join.
 */
#include <errno.h>
#include <string.h>

#include "dataplane/tokenizer_private.h"

static int encode_piece(const struct split_run *run, uint32_t level,
	const char *text, size_t length);

/* A text being cut: what is held back, and what came last. */
struct cutting {
	const struct split_run *run;
	uint32_t level; /* of the pieces */
	enum split_behavior behavior;
	const char *text;
	size_t held_start; /* a piece that may still grow; empty: none */
	size_t held_end;
	bool last_is_match;
};

static int pass_on(const struct cutting *cut, size_t start, size_t end)
{
	if (start == end)
		return 0;
	return encode_piece(
		cut->run, cut->level, cut->text + start, end - start);
}

static int release_held(struct cutting *cut)
{
	size_t start = cut->held_start;

	cut->held_start = cut->held_end;
	return pass_on(cut, start, cut->held_end);
}

/* Does this part belong to the piece that is held back? */
static bool joins(const struct cutting *cut, bool is_match)
{
	if (cut->held_start == cut->held_end)
		return false;
	switch (cut->behavior) {
	case SPLIT_CONTIGUOUS:
		return is_match == cut->last_is_match;
	case SPLIT_MERGED_WITH_PREVIOUS:
		return is_match && !cut->last_is_match;
	case SPLIT_MERGED_WITH_NEXT:
		return !is_match && cut->last_is_match;
	case SPLIT_ISOLATED:
	case SPLIT_REMOVED:
	default:
		return false;
	}
}

/* Take the next part of the text, a match or what lies between two. */
static int take_part(
	struct cutting *cut, size_t start, size_t end, bool is_match)
{
	int rc = 0;

	if (start == end)
		return 0;
	if (cut->behavior == SPLIT_ISOLATED)
		return pass_on(cut, start, end);
	if (cut->behavior == SPLIT_REMOVED)
		return is_match ? 0 : pass_on(cut, start, end);
	if (!joins(cut, is_match)) {
		rc = release_held(cut);
		cut->held_start = start;
	}
	cut->held_end = end;
	cut->last_is_match = is_match;
	return rc;
}

static int cut_text(const struct split_run *run, uint32_t level,
	const char *text, size_t length)
{
	const struct split_step *split = &run->tok->splits[level];
	struct cutting cut = {.run = run,
		.level = level + 1,
		.behavior = split->behavior,
		.text = text};
	struct pattern_text subject = {.text = text, .length = length};
	size_t done = 0;
	int rc = 0;

	while (rc == 0 && done < length) {
		size_t match[2];
		int found = pattern_find(
			split->pattern, run->state, &subject, done, match);

		if (found < 0)
			return found;
		if (found == 0)
			break;
		rc = take_part(&cut, done, match[0], split->invert);
		if (rc == 0)
			rc = take_part(
				&cut, match[0], match[1], !split->invert);
		done = match[1];
	}
	if (rc == 0)
		rc = take_part(&cut, done, length, split->invert);
	return rc ? rc : release_held(&cut);
}

static bool is_block(const char *text, size_t length)
{
	const size_t block = sizeof(METASPACE_TEXT) - 1;

	return length >= block && memcmp(text, METASPACE_TEXT, block) == 0;
}

/* Words are short: looking for the block's first byte is enough. */
static size_t next_block(const char *text, size_t length, size_t at)
{
	while (at < length && !is_block(text + at, length - at)) {
		const char *hit = memchr(text + at + 1,
			(unsigned char)METASPACE_TEXT[0], length - at - 1);

		at = hit ? (size_t)(hit - text) : length;
	}
	return at;
}

/*
 * Without a split the whole text would be one piece; where no merge can reach
 * across the front of a word, words are pieces of their own, which gives the
 * same ids and lets the cache work.
 */
static int cut_words(
	const struct split_run *run, const char *text, size_t length)
{
	const size_t block = sizeof(METASPACE_TEXT) - 1;
	size_t done = 0;

	while (done < length) {
		size_t at = done;
		int rc;

		while (is_block(text + at, length - at))
			at += block;
		at = next_block(text, length, at);
		rc = encode_piece(
			run, run->tok->split_count + 1, text + done, at - done);
		if (rc)
			return rc;
		done = at;
	}
	return 0;
}

/* What is left to do with a piece; the level behind the last is a word. */
static int cut_piece(const struct split_run *run, uint32_t level,
	const char *text, size_t length)
{
	if (level < run->tok->split_count)
		return cut_text(run, level, text, length);
	if (run->tok->cut_before_block && level == run->tok->split_count)
		return cut_words(run, text, length);
	return bpe_encode(run->tok, run->bpe, text, length, run->out);
}

static int encode_piece(const struct split_run *run, uint32_t level,
	const char *text, size_t length)
{
	size_t before = run->out->count;
	struct cache_slot *slot;
	bool hit;
	int rc;

	if (length > CACHE_KEY_BYTES)
		return cut_piece(run, level, text, length);
	slot = cache_find(run->bpe->cache, level, text, length, &hit);
	if (hit)
		return put_ids(run->out, slot->ids, slot->id_count);
	rc = cut_piece(run, level, text, length);
	if (rc == 0)
		cache_put(slot, level, text, length, run->out, before);
	return rc;
}

int split_text(const struct split_run *run, const char *text, size_t length)
{
	return length ? encode_piece(run, 0, text, length) : 0;
}
