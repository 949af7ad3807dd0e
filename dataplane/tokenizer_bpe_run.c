/* tokenizer_bpe_run.c - a piece that repeats a few bytes (word, count -> ids) */
/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A megabyte of one character is merged without being written out. As long as
 * the piece is a word of a few symbols repeated, a merge inside the word
 * happens in every repetition alike; once the word is one symbol A, the piece
 * is A repeated and a short tail, and merging A with A halves it. That is
 * what the general way does, step by step, where no merge makes a pair of a
 * rank that is not above its own. Where one does, or two places are equal, the
 * state that was reached is written out for the general way to go on from.
 */
#include <string.h>

#include "dataplane/tokenizer_private.h"

static uint32_t rank_of(
	const struct tokenizer *tok, uint32_t left, uint32_t right)
{
	const struct merge *merge = merge_find(tok, left, right);

	return merge ? merge->rank : BPE_END;
}

size_t bpe_run_period(const char *piece, size_t length)
{
	for (size_t period = 1; period <= BPE_RUN_WORD; period++)
		if (length % period == 0 && length > period &&
			((unsigned char)piece[period] & 0xc0) != 0x80 &&
			memcmp(piece, piece + period, length - period) == 0)
			return period;
	return 0;
}

/* --- a word of several symbols -------------------------------------------------- */

/*
 * The rank of symbols i and i + 1 of the word; for the last one, with the
 * first of the next repetition.
 */
static uint32_t word_rank(
	const struct tokenizer *tok, const struct bpe_run *run, uint32_t i)
{
	return rank_of(
		tok, run->word[i], run->word[(i + 1) % run->word_symbols]);
}

/* Where the lowest rank is; in how many places. */
static uint32_t find_lowest_in_word(const struct tokenizer *tok,
	const struct bpe_run *run, uint32_t *place, uint32_t *lowest)
{
	uint32_t places = 0;

	*lowest = BPE_END;
	for (uint32_t i = 0; i < run->word_symbols; i++) {
		uint32_t rank = word_rank(tok, run, i);

		places = rank < *lowest ? 1 : places + (rank == *lowest);
		if (rank < *lowest) {
			*lowest = rank;
			*place = i;
		}
	}
	return places;
}

/* Merge inside the word, in each repetition; false: not the same in each. */
static bool merge_in_word(const struct tokenizer *tok, struct bpe_run *run,
	uint32_t at, uint32_t rank)
{
	const uint32_t last = run->word_symbols - 1;
	struct bpe_run next = *run;

	if (at == last)
		return false;
	next.word[at] = merge_find(tok, run->word[at], run->word[at + 1])->id;
	for (uint32_t i = at + 1; i < last; i++)
		next.word[i] = run->word[i + 1];
	next.word_symbols--;
	for (uint32_t i = 0; i < next.word_symbols; i++)
		if (word_rank(tok, &next, i) <= rank)
			return false;
	/* For a moment it stands before a repetition as it was. */
	if (at + 1 == last && rank_of(tok, next.word[at], run->word[0]) <= rank)
		return false;
	*run = next;
	return true;
}

/* --- one symbol, and a tail ----------------------------------------------------- */

/* Symbol i from the last one of the repetition on. */
static uint32_t end_symbol(const struct bpe_run *run, size_t i)
{
	return i ? run->tail[i - 1] : run->word[0];
}

static void drop_from_tail(struct bpe_run *run, uint32_t at)
{
	run->tail_symbols--;
	memmove(&run->tail[at], &run->tail[at + 1],
		(run->tail_symbols - at) * sizeof(*run->tail));
}

/* One merge of end_symbol(place) with the next one. */
static void merge_at_end(
	const struct tokenizer *tok, struct bpe_run *run, uint32_t place)
{
	uint32_t id = merge_find(
		tok, end_symbol(run, place), end_symbol(run, place + 1))
			      ->id;

	if (place) {
		run->tail[place - 1] = id;
		drop_from_tail(run, place);
	} else if (run->count > 1) {
		run->tail[0] = id;
		run->count--;
	} else {
		run->word[0] = id;
		drop_from_tail(run, 0);
	}
}

/* All repetitions by twos from the left; an odd one is left to the tail. */
static bool halve(
	const struct tokenizer *tok, struct bpe_run *run, uint32_t rank)
{
	const uint32_t one = run->word[0];
	const uint32_t two = merge_find(tok, one, one)->id;
	const uint32_t first = run->tail_symbols ? run->tail[0] : one;

	if (run->tail_symbols == BPE_RUN_TAIL ||
		rank_of(tok, two, two) <= rank ||
		rank_of(tok, two, one) <= rank ||
		rank_of(tok, two, first) <= rank)
		return false;
	if (run->count % 2) {
		memmove(&run->tail[1], &run->tail[0],
			run->tail_symbols * sizeof(*run->tail));
		run->tail[0] = one;
		run->tail_symbols++;
	}
	run->word[0] = two;
	run->count /= 2;
	return true;
}

/* Where the lowest rank from the last repetition on is. */
static uint32_t find_lowest_at_end(
	const struct tokenizer *tok, const struct bpe_run *run, uint32_t *place)
{
	uint32_t lowest = BPE_END;

	for (uint32_t i = 0; i < run->tail_symbols; i++) {
		uint32_t rank = rank_of(
			tok, end_symbol(run, i), end_symbol(run, i + 1));

		if (rank < lowest) {
			lowest = rank;
			*place = i;
		}
	}
	return lowest;
}

static bool fold_symbol(const struct tokenizer *tok, struct bpe_run *run)
{
	for (;;) {
		uint32_t place = 0;
		uint32_t lowest = find_lowest_at_end(tok, run, &place);
		uint32_t own = BPE_END;

		if (run->tail_symbols && run->tail[0] == run->word[0])
			return false;
		if (run->count > 1)
			own = rank_of(tok, run->word[0], run->word[0]);
		if (own == BPE_END && lowest == BPE_END)
			return true;
		if (lowest < own)
			merge_at_end(tok, run, place);
		else if (lowest == own || !halve(tok, run, own))
			return false;
	}
}

bool bpe_run_fold(const struct tokenizer *tok, struct bpe_run *run)
{
	uint32_t lowest;
	uint32_t at = 0;

	while (run->word_symbols > 1) {
		uint32_t places = find_lowest_in_word(tok, run, &at, &lowest);

		if (lowest == BPE_END)
			return true;
		if (places > 1 || !merge_in_word(tok, run, at, lowest))
			return false;
	}
	return fold_symbol(tok, run);
}
