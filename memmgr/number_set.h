/* number_set.h - a set of small numbers that gives its lowest one */
/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Why:   free pages, free KV blocks and free expert slots are all "the lowest
 *        number that nobody has": low numbers first keeps neighbours together,
 *        so runs stay contiguous and mappings merge. A list would lose the
 *        order and a plain bitmap would be searched from its start.
 * Cost:  add, take and has are a walk over at most six words: bit n of a
 *        level says that word n of the level below is not zero. 1.016 bits
 *        per number.
 * Invariants: number_set_check().
 * Ownership: the set owns its words, from init to release.
 * Threads: one thread.
 */
#ifndef HEDDLE_MEMMGR_NUMBER_SET_H
#define HEDDLE_MEMMGR_NUMBER_SET_H

#include <stdbool.h>
#include <stdint.h>

#define NUMBER_NONE UINT32_MAX
#define NUMBER_SET_LEVEL_MAX 6 /* 64^6 > 2^32 */

struct number_set {
	uint64_t *words; /* owned; all levels, lowest first */
	uint32_t first_word[NUMBER_SET_LEVEL_MAX];
	uint32_t level_count;
	uint32_t bound; /* numbers are 0 .. bound - 1 */
	uint32_t count; /* numbers in the set */
};

/* An empty set of numbers below `bound` (may be 0). 0 or -ENOMEM. */
int number_set_init(struct number_set *set, uint32_t bound);

/* A zeroed struct is allowed. */
void number_set_release(struct number_set *set);

/* Put in a number that is not in the set. */
void number_set_add(struct number_set *set, uint32_t number);

/* Take out the lowest number; NUMBER_NONE when the set is empty. */
uint32_t number_set_take(struct number_set *set);

bool number_set_has(const struct number_set *set, uint32_t number);

/* Assert all invariants; cost linear in the bound. */
void number_set_check(const struct number_set *set);

#endif
