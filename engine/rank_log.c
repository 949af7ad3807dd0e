/* rank_log.c - an engine's payload pages (prompt ids in, token records out) */
/* SPDX-License-Identifier: Apache-2.0 */
#include <string.h>

#include "engine/rank.h"

/* Pages of a chain of stop ids. */
#define STOP_PAGE_COUNT_MAX 8u

static const struct payload_page *page_at(
	const struct rank *rank, uint32_t page)
{
	if (page >= rank->segment->shape.page_count)
		return NULL;
	return segment_page(rank->segment, page);
}

static uint32_t page_after(const struct payload_page *page)
{
	return __atomic_load_n(&page->next, __ATOMIC_RELAXED);
}

/* The first `count` ids of a page, copied out and checked. */
static bool read_page(const struct payload_page *page, uint32_t count,
	uint32_t vocab, uint32_t *out)
{
	uint32_t ids[PAYLOAD_IDS_PER_PAGE];
	uint32_t over = 0;

	memcpy(ids, page->bytes, count * sizeof(ids[0]));
	for (uint32_t i = 0; i < count; i++)
		over |= ids[i] >= vocab;
	if (out)
		memcpy(out, ids, count * sizeof(ids[0]));
	return over == 0;
}

bool rank_read_ids(const struct rank *rank, uint32_t first_page, uint32_t count,
	uint32_t *out)
{
	uint32_t at = first_page, done = 0;

	while (done < count) {
		const struct payload_page *page = page_at(rank, at);
		uint32_t part = count - done;

		if (part > PAYLOAD_IDS_PER_PAGE)
			part = (uint32_t)PAYLOAD_IDS_PER_PAGE;
		if (!page || !read_page(page, part, rank->config.vocab,
				     out ? out + done : NULL))
			return false;
		done += part;
		at = page_after(page);
	}
	return true;
}

bool rank_read_log(const struct rank *rank, uint32_t slot_index, uint32_t *out)
{
	uint32_t count = rank->requests[slot_index].output_count;
	uint32_t at = rank->requests[slot_index].log_page;
	struct token_record records[PAYLOAD_RECORDS_PER_PAGE];

	for (uint32_t done = 0; done < count;) {
		const struct payload_page *page = page_at(rank, at);
		uint32_t part = count - done;

		if (!page)
			return false;
		if (part > PAYLOAD_RECORDS_PER_PAGE)
			part = (uint32_t)PAYLOAD_RECORDS_PER_PAGE;
		memcpy(records, page->bytes, part * sizeof(records[0]));
		for (uint32_t i = 0; i < part; i++) {
			out[done] = records[i].token_flags & TOKEN_ID_MASK;
			if (out[done++] >= rank->config.vocab)
				return false;
		}
		at = page_after(page);
	}
	return true;
}

/* Go on by `count` records; false: the chain ends before. */
static bool skip(
	const struct rank *rank, struct rank_cursor *cursor, uint64_t count)
{
	while (count > PAYLOAD_RECORDS_PER_PAGE) {
		const struct payload_page *page = page_at(rank, cursor->page);

		if (!page)
			return false;
		cursor->page = page_after(page);
		count -= PAYLOAD_RECORDS_PER_PAGE;
	}
	cursor->used = (uint32_t)count;
	return count == 0 || page_at(rank, cursor->page) != NULL;
}

bool rank_recover_log(
	struct rank *rank, uint32_t slot_index, uint32_t output_count)
{
	struct rank_request *request = &rank->requests[slot_index];
	uint64_t tops = (uint64_t)output_count * rank_top_count(request);

	if (output_count > request->params.output_max) {
		request->output_count = 0;
		return false;
	}
	request->output_count = output_count;
	return skip(rank, &request->log, output_count) &&
	       skip(rank, &request->top, tops);
}

/* --- stop ids ---------------------------------------------------------------- */

uint32_t rank_stop_ids(const struct rank *rank,
	const struct rank_request *request, uint32_t *out, uint32_t max)
{
	uint32_t at = request->params.stop_page, count = 0;

	for (uint32_t i = 0; i < STOP_PAGE_COUNT_MAX; i++) {
		const struct payload_page *page = page_at(rank, at);
		uint32_t used;

		if (!page)
			break;
		used = __atomic_load_n(&page->used_bytes, __ATOMIC_RELAXED);
		if (used > sizeof(page->bytes))
			break;
		used /= sizeof(*out);
		if (used > max - count)
			used = max - count;
		memcpy(out + count, page->bytes, used * sizeof(*out));
		count += used;
		at = page_after(page);
	}
	return count;
}

static bool in_stop_pages(const struct rank *rank,
	const struct rank_request *request, uint32_t id)
{
	uint32_t ids[STOP_PAGE_COUNT_MAX * PAYLOAD_IDS_PER_PAGE];
	uint32_t count =
		rank_stop_ids(rank, request, ids, sizeof(ids) / sizeof(ids[0]));

	for (uint32_t i = 0; i < count; i++)
		if (ids[i] == id)
			return true;
	return false;
}

bool rank_is_stop(const struct rank *rank, const struct rank_request *request,
	uint32_t id)
{
	if (!request->params.ignore_eos)
		for (uint32_t i = 0; i < rank->config.eos_count; i++)
			if (rank->config.eos[i] == id)
				return true;
	return request->params.stop_page != PAYLOAD_NONE &&
	       in_stop_pages(rank, request, id);
}

/* --- the log -------------------------------------------------------------------- */

/* Append a record to a chain; false: it has no further page. */
static bool put(const struct rank *rank, struct rank_cursor *cursor,
	struct token_record record)
{
	struct payload_page *page;

	if (cursor->page >= rank->segment->shape.page_count)
		return false;
	page = segment_page(rank->segment, cursor->page);
	if (cursor->used == PAYLOAD_RECORDS_PER_PAGE) {
		uint32_t next = page_after(page);

		if (next >= rank->segment->shape.page_count)
			return false;
		*cursor = (struct rank_cursor){next, 0};
		page = segment_page(rank->segment, next);
	}
	memcpy(page->bytes + cursor->used * sizeof(record), &record,
		sizeof(record));
	cursor->used++;
	return true;
}

static bool put_top(const struct rank *rank, struct rank_request *request,
	const struct token_record *top)
{
	uint32_t count = rank_top_count(request);

	for (uint32_t k = 0; k < count; k++)
		if (!put(rank, &request->top, top[k]))
			return false;
	return true;
}

bool rank_append(struct rank *rank, uint32_t slot_index,
	struct token_record record, const struct token_record *top,
	struct mono now)
{
	struct rank_request *request = &rank->requests[slot_index];
	struct request_slot *slot = segment_slot(rank->segment, slot_index);

	if (rank_top_count(request) > 0) {
		if (!put_top(rank, request, top))
			return false;
		record.token_flags |= TOKEN_FLAG_TOP;
	}
	if (!put(rank, &request->log, record))
		return false;
	if (request->output_count++ == 0)
		request->times.first_token_ns = now.ns;
	request->times.last_token_ns = now.ns;
	__atomic_store_n(
		&slot->engine_times.last_token_ns, now.ns, __ATOMIC_RELAXED);
	/* Pairs with the dataplane's acquire load: the records are whole. */
	__atomic_store_n(
		&slot->output_count, request->output_count, __ATOMIC_RELEASE);
	counter_add(&rank->counters->output_tokens_total, 1);
	rank_send(rank, RING_TOKENS, slot_index, request->output_count);
	return true;
}
