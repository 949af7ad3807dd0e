/* front_admit.c - the worst case reserved, or 429 (prompts -> slots, pages) */
/* SPDX-License-Identifier: Apache-2.0 */
/*
 * All or nothing: what a request can need at most is taken before the engine
 * hears of it, so that neither side ever runs out in the middle.
 */
#include <assert.h>
#include <string.h>

#include "base/check.h"
#include "dataplane/front_private.h"

uint32_t front_rank_choose(struct front *front, uint32_t mask)
{
	uint32_t best = FRONT_NONE;

	for (uint32_t i = 0; i < front->segment->shape.rank_count; i++) {
		const struct front_rank *rank = &front->ranks[i];

		front_rank_look(front, i);
		if (!rank->healthy || !rank->ready ||
			!(mask >> i & UINT32_C(1)))
			continue;
		if (best == FRONT_NONE ||
			rank->active < front->ranks[best].active)
			best = i;
	}
	return best;
}

/* --- how much ------------------------------------------------------------------- */

struct need {
	uint64_t log_pages; /* of each choice */
	uint64_t top_pages; /* of each choice */
	uint64_t pages; /* in all */
	uint32_t slots;
};

static uint64_t prompt_pages(const struct api_prompt *prompt)
{
	return div_up(prompt->id_count, PAYLOAD_IDS_PER_PAGE);
}

static void count_need(const struct text_request *text, struct need *need)
{
	const struct api_sampling *sampling = &text->api.sampling;
	uint64_t tops =
		(uint64_t)sampling->output_max * sampling->logprob_count;

	*need = (struct need){.slots = text->choice_count};
	need->log_pages =
		div_up(sampling->output_max, PAYLOAD_RECORDS_PER_PAGE);
	need->top_pages = div_up(tops, PAYLOAD_RECORDS_PER_PAGE);
	need->pages = need->slots * (need->log_pages + need->top_pages);
	for (uint32_t i = 0; i < text->api.prompt_count; i++)
		need->pages += prompt_pages(&text->api.prompts[i]) +
			       (sampling->bias_count > 0) +
			       (sampling->stop_id_count > 0);
}

static int check_need(const struct front *front, const struct need *need,
	uint32_t rank, struct api_error *error)
{
	uint32_t slots = front->slot_share.count;
	uint32_t pages = front->page_share.count;
	uint32_t slots_left = slots - front->slot_used;

	if (need->slots > slots || need->pages > pages)
		return api_fail(error, 400, NULL,
			"the request needs %u slots and %llu pages; this "
			"server has %u and %u",
			need->slots, (unsigned long long)need->pages, slots,
			pages);
	/* One slot is the request's already. */
	if (need->slots - 1 > slots_left)
		return api_fail(error, 429, NULL,
			"not enough request slots are free; try again");
	if (need->pages > front_pages_left(front))
		return api_fail(error, 429, NULL,
			"not enough memory for requests is free; try again");
	if (front->ranks[rank].waiting > 0)
		return api_fail(error, 429, NULL,
			"the engine's queue is full; try again");
	return 0;
}

/* --- filling ---------------------------------------------------------------------- */

/* `count` records of `size` bytes into a chain that was just taken. */
static void fill_chain(struct front *front, uint32_t first, const void *data,
	size_t size, uint32_t count)
{
	size_t per_page = sizeof(((struct payload_page *)0)->bytes) / size;
	const char *from = data;
	uint32_t at = first;

	while (count > 0) {
		struct payload_page *page = segment_page(front->segment, at);
		uint32_t n = count < per_page ? count : (uint32_t)per_page;

		memcpy(page->bytes, from, n * size);
		page->used_bytes = (uint32_t)(n * size);
		from += n * size;
		count -= n;
		at = front->page_next[at];
	}
}

static uint32_t make_chain(
	struct front *front, const void *data, size_t size, uint32_t count)
{
	size_t per_page = sizeof(((struct payload_page *)0)->bytes) / size;
	uint32_t first;

	if (count == 0)
		return FRONT_NONE;
	first = front_pages_take(front, (uint32_t)div_up(count, per_page));
	assert(first != FRONT_NONE);
	fill_chain(front, first, data, size, count);
	return first;
}

static void fill_params(struct front *front, const struct exchange *exchange,
	const struct front_slot *slot, struct request_params *out)
{
	const struct text_request *text = exchange->text;
	const struct api_sampling *sampling = &text->api.sampling;
	const struct text_choice *choice = &text->choices[slot->choice];

	*out = (struct request_params){.seed = sampling->seed,
		.deadline_ns = exchange->received_ns +
			       front->setup.limits.request_timeout_ns,
		.prompt_count = text->api.prompts[choice->prompt].id_count,
		.output_max = sampling->output_max,
		.output_min = sampling->output_min,
		.top_k = sampling->top_k,
		.temperature = sampling->temperature,
		.top_p = sampling->top_p,
		.min_p = sampling->min_p,
		.repetition_penalty = sampling->repetition_penalty,
		.presence_penalty = sampling->presence_penalty,
		.frequency_penalty = sampling->frequency_penalty,
		.choice = slot->choice % sampling->choice_count,
		.logprob_count = sampling->logprob_count,
		.priority = sampling->priority,
		.bias_page = PAYLOAD_NONE,
		.stop_page = PAYLOAD_NONE,
		.mask = PAYLOAD_NONE,
		.ignore_eos = sampling->ignore_eos,
		.want_logprob = sampling->want_logprob};
}

/* A prompt's first choice owns what all of its choices share. */
static void fill_shared_pages(struct front *front,
	const struct exchange *exchange, struct front_slot *slot)
{
	const struct api_request *api = &exchange->text->api;
	const struct text_choice *choice =
		&exchange->text->choices[slot->choice];
	const struct api_prompt *prompt = &api->prompts[choice->prompt];

	slot->prompt_page = make_chain(
		front, prompt->ids, sizeof(*prompt->ids), prompt->id_count);
	slot->bias_page = make_chain(front, api->sampling.bias,
		sizeof(api->sampling.bias[0]), api->sampling.bias_count);
	slot->stop_page = make_chain(front, api->sampling.stop_ids,
		sizeof(api->sampling.stop_ids[0]), api->sampling.stop_id_count);
}

static void fill_slot(struct front *front, struct exchange *exchange,
	struct front_slot *slot, const uint8_t tenant[32])
{
	struct request_slot *shared =
		segment_slot(front->segment, slot_index(front, slot));
	const struct front_slot *owner =
		slot->parent == FRONT_NONE ? slot : &front->slots[slot->parent];

	shared->rank = slot->rank;
	shared->epoch = exchange->serial;
	shared->instance = exchange->instance;
	shared->name = exchange->name;
	shared->parent = slot->parent == FRONT_NONE ? SLOT_NONE : slot->parent;
	shared->prompt_page = owner->prompt_page;
	shared->log_page = slot->log_page;
	shared->top_page = slot->top_page;
	shared->finish_at = UINT32_MAX;
	fill_params(front, exchange, slot, &shared->params);
	shared->params.bias_page = owner->bias_page;
	shared->params.stop_page = owner->stop_page;
	memcpy(shared->params.tenant, tenant, sizeof(shared->params.tenant));
	shared->times =
		(struct request_times){.received_ns = exchange->received_ns,
			.parsed_ns = front->now_ns,
			.submitted_ns = front->now_ns};
}

/* --- submitting ---------------------------------------------------------------------
 */

static void prepare_slot(struct front *front, struct exchange *exchange,
	struct front_slot *slot, const struct need *need)
{
	struct text_request *text = exchange->text;
	struct text_choice *choice = &text->choices[slot->choice];

	slot->exchange = exchange->index;
	slot->name = exchange->name;
	slot->output_max = text->api.sampling.output_max;
	slot->submitted_ns = front->now_ns;
	slot->life = front->ranks[slot->rank].life;
	slot->finish_at = UINT32_MAX;
	slot->log_page = front_pages_take(front, (uint32_t)need->log_pages);
	assert(slot->log_page != FRONT_NONE);
	if (need->top_pages > 0)
		slot->top_page =
			front_pages_take(front, (uint32_t)need->top_pages);
	choice->log_page = slot->log_page;
	choice->top_page = slot->top_page;
	front->ranks[slot->rank].active++;
}

static void submit(struct front *front, struct front_slot *slot)
{
	slot_set_state(front, slot, FRONT_SUBMITTED);
	slot->submit_due = true;
	slot_pump(front, slot, false);
}

/* Slots 1.. of the exchange; the row keeps the order of the choices. */
static void take_slots(struct front *front, struct exchange *exchange,
	uint32_t rank, const struct need *need)
{
	uint32_t n = exchange->text->api.sampling.choice_count;
	struct front_slot *slot = &front->slots[exchange->first_slot];
	uint32_t parent = FRONT_NONE;

	for (uint32_t i = 0; i < need->slots; i++) {
		if (i > 0) {
			struct front_slot *before = slot;

			slot = slot_take(front);
			assert(slot);
			before->next = slot_index(front, slot);
			exchange->slot_count++;
		}
		slot->rank = rank;
		slot->choice = i;
		prepare_slot(front, exchange, slot, need);
		if (i % n == 0) {
			parent = slot_index(front, slot);
			fill_shared_pages(front, exchange, slot);
		} else {
			slot->parent = parent;
			front->slots[parent].children++;
		}
	}
}

static void submit_all(struct front *front, struct exchange *exchange,
	const uint8_t tenant[32])
{
	uint32_t at;

	exchange->known_to_out = true;
	for (at = exchange->first_slot; at != FRONT_NONE;
		at = front->slots[at].next)
		fill_slot(front, exchange, &front->slots[at], tenant);
	for (at = exchange->first_slot; at != FRONT_NONE;) {
		struct front_slot *slot = &front->slots[at];

		at = slot->next;
		submit(front, slot);
	}
}

/*
 * What it stays with to its end. The text worker has seen the name; that it
 * is gone meanwhile is found here.
 */
static int bind_model(struct front *front, struct exchange *exchange,
	uint32_t *out_mask, struct api_error *error)
{
	const char *model = exchange->text->api.model;
	const struct adapter_entry *entry;

	*out_mask = UINT32_MAX;
	if (api_model_known(&front->setup.model, model, strlen(model)))
		return 0;
	front_names_refresh(front);
	exchange->name = front_names_find(front, model);
	if (exchange->name == 0)
		return api_fail_code(error, 404, "model_not_found",
			"the model '%s' does not exist", model);
	entry = &front->names.entries[exchange->name];
	exchange->instance = entry->instance;
	exchange->serial = entry->serial;
	*out_mask = entry->rank_mask;
	if (entry->rank_mask == 0)
		return api_fail_code(error, 503, "adapter_not_ready",
			"the adapter '%s' is being loaded; try again", model);
	return 0;
}

static void count_admitted(struct front *front, const struct exchange *exchange)
{
	const struct api_request *api = &exchange->text->api;
	struct name_counters *name = &front->counters->names[exchange->name];

	counter_add(&name->requests_total, 1);
	for (uint32_t i = 0; i < api->prompt_count; i++) {
		counter_add(&front->counters->prompt_tokens_total,
			api->prompts[i].id_count);
		counter_add(
			&name->prompt_tokens_total, api->prompts[i].id_count);
	}
}

int front_admit(
	struct front *front, struct exchange *exchange, struct api_error *error)
{
	struct text_request *text = exchange->text;
	uint32_t rank, mask;
	uint8_t tenant[32];
	struct need need;

	if (bind_model(front, exchange, &mask, error))
		return error->status;
	rank = front_rank_choose(front, mask);
	/* A death of the life that was just seen is known before it is told
	 * to a request: see segment.h. */
	front_control_poll(front);
	if (rank == FRONT_NONE)
		return api_fail_code(error, 503, "engine_not_ready",
			"no engine is ready to serve");
	count_need(text, &need);
	if (check_need(front, &need, rank, error))
		return error->status;
	if (!api_tenant_key(front->setup.secret, exchange->tenant,
		    text->api.sampling.salt, tenant))
		return api_fail(error, 500, NULL, "HMAC-SHA-256 failed");
	if (!text->api.sampling.has_seed)
		text->api.sampling.seed = front_random(front);
	exchange->streams = text->api.sampling.stream;
	take_slots(front, exchange, rank, &need);
	count_admitted(front, exchange);
	submit_all(front, exchange, tenant);
	return 0;
}
