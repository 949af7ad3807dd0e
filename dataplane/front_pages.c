/* front_pages.c - payload pages, from a list that nobody else sees */
/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The links are kept twice: in shared memory, for the engine to follow, and
 * in page_next[], which alone is believed when pages come back.
 */
#include <assert.h>

#include "dataplane/front_private.h"

uint32_t front_pages_left(const struct front *front)
{
	return front->page_share.count - front->page_used;
}

uint32_t front_pages_take(struct front *front, uint32_t count)
{
	uint32_t first = front->page_free, last = FRONT_NONE, at = first;

	assert(count > 0);
	if (front_pages_left(front) < count)
		return FRONT_NONE;
	for (uint32_t i = 0; i < count; i++) {
		struct payload_page *page = segment_page(front->segment, at);

		last = at;
		at = front->page_next[at];
		page->next = i + 1 < count ? at : PAYLOAD_NONE;
		page->used_bytes = 0;
	}
	front->page_free = at;
	front->page_next[last] = FRONT_NONE;
	front->page_used += count;
	return first;
}

void front_pages_give(struct front *front, uint32_t first)
{
	uint32_t last = first, count = 1;

	if (first == FRONT_NONE)
		return;
	while (front->page_next[last] != FRONT_NONE) {
		last = front->page_next[last];
		count++;
	}
	assert(count <= front->page_used);
	front->page_next[last] = front->page_free;
	front->page_free = first;
	front->page_used -= count;
}
