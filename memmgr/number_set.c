/* number_set.c - a set of small numbers that gives its lowest one */
/* SPDX-License-Identifier: Apache-2.0 */
#include <assert.h>
#include <errno.h>
#include <stdlib.h>

#include "base/check.h"
#include "memmgr/number_set.h"

int number_set_init(struct number_set *set, uint32_t bound)
{
	uint32_t words = 0;
	uint32_t bits = bound;

	*set = (struct number_set){.bound = bound};
	if (bound == 0)
		return 0;
	do {
		assert(set->level_count < NUMBER_SET_LEVEL_MAX);
		set->first_word[set->level_count++] = words;
		bits = (uint32_t)div_up(bits, 64);
		words += bits;
	} while (bits > 1);
	set->words = calloc(words, sizeof(*set->words));
	return set->words ? 0 : -ENOMEM;
}

void number_set_release(struct number_set *set)
{
	free(set->words);
	*set = (struct number_set){0};
}

void number_set_add(struct number_set *set, uint32_t number)
{
	uint32_t place = number;

	assert(number < set->bound);
	assert(!number_set_has(set, number));
	for (uint32_t level = 0; level < set->level_count; level++) {
		uint64_t *word = set->words + set->first_word[level];

		word[place / 64] |= UINT64_C(1) << place % 64;
		place /= 64;
	}
	set->count++;
}

uint32_t number_set_take(struct number_set *set)
{
	uint32_t number = 0;
	uint32_t place;

	if (set->count == 0)
		return NUMBER_NONE;
	for (uint32_t level = set->level_count; level-- > 0;) {
		uint64_t word = set->words[set->first_word[level] + number];

		assert(word != 0);
		number = number * 64 + (uint32_t)__builtin_ctzll(word);
	}
	place = number;
	for (uint32_t level = 0; level < set->level_count; level++) {
		uint64_t *word = set->words + set->first_word[level];

		word[place / 64] &= ~(UINT64_C(1) << place % 64);
		if (word[place / 64] != 0)
			break;
		place /= 64;
	}
	set->count--;
	return number;
}

bool number_set_has(const struct number_set *set, uint32_t number)
{
	assert(number < set->bound);
	return set->words[number / 64] >> number % 64 & 1;
}

void number_set_check(const struct number_set *set)
{
	uint32_t count = 0;
	uint32_t words = (uint32_t)div_up(set->bound, 64);

	for (uint32_t i = 0; i < words; i++)
		count += (uint32_t)__builtin_popcountll(set->words[i]);
	assert(count == set->count);
	assert(set->bound % 64 == 0 ||
		set->words[words - 1] >> set->bound % 64 == 0);
	for (uint32_t level = 1; level < set->level_count; level++) {
		const uint64_t *below = set->words + set->first_word[level - 1];
		const uint64_t *word = set->words + set->first_word[level];

		for (uint32_t i = 0; i < words; i++)
			assert((word[i / 64] >> i % 64 & 1) == (below[i] != 0));
		words = (uint32_t)div_up(words, 64);
	}
}
