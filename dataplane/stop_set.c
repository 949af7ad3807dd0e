/* stop_set.c - stop strings sought in a stream of text (bytes -> hit, or hold) */
/* SPDX-License-Identifier: Apache-2.0 */
#include <assert.h>
#include <errno.h>
#include <string.h>

#include "dataplane/stop_set.h"
#include "dataplane/utf8.h"

/* The state after `byte` in state `matched` < length. */
static uint16_t advance(
	const char *text, const uint8_t *border, uint16_t matched, char byte)
{
	while (matched && text[matched] != byte)
		matched = border[matched - 1];
	return (uint16_t)(matched + (text[matched] == byte));
}

static void find_borders(struct stop_set *set, size_t s)
{
	uint16_t matched = 0;

	set->border[s][0] = 0;
	for (size_t i = 1; i < set->length[s]; i++) {
		matched = advance(
			set->text[s], set->border[s], matched, set->text[s][i]);
		set->border[s][i] = (uint8_t)matched;
	}
}

int stop_set_init(struct stop_set *set, const char *const *texts,
	const size_t *lengths, size_t count)
{
	if (count > STOP_COUNT_MAX)
		return -E2BIG;
	for (size_t s = 0; s < count; s++) {
		if (lengths[s] > STOP_BYTES_MAX)
			return -E2BIG;
		if (lengths[s] == 0 ||
			utf8_valid_prefix(texts[s], lengths[s]) != lengths[s])
			return -EINVAL;
	}
	set->count = (uint32_t)count;
	for (size_t s = 0; s < count; s++) {
		set->length[s] = (uint16_t)lengths[s];
		memcpy(set->text[s], texts[s], lengths[s]);
		find_borders(set, s);
	}
	return 0;
}

int stop_set_step(
	const struct stop_set *set, struct stop_states *states, char byte)
{
	int hit = -1;

	for (uint32_t s = 0; s < set->count; s++) {
		uint16_t matched = advance(
			set->text[s], set->border[s], states->matched[s], byte);

		states->matched[s] = matched;
		if (matched < set->length[s])
			continue;
		if (hit < 0 || set->length[s] > set->length[hit])
			hit = (int)s;
		states->matched[s] = set->border[s][matched - 1];
	}
	return hit;
}

size_t stop_set_held(
	const struct stop_set *set, const struct stop_states *states)
{
	size_t held = 0;

	for (uint32_t s = 0; s < set->count; s++) {
		assert(states->matched[s] < set->length[s]);
		if (states->matched[s] > held)
			held = states->matched[s];
	}
	return held;
}
