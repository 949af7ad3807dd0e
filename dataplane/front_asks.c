/* front_asks.c - what clients ask of control (POST -> control -> answer) */
/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The connection stays open until control has answered; a client that goes
 * away changes nothing about what it asked for. As many as there are places
 * may be under way at once.
 */
#include <assert.h>
#include <string.h>

#include "dataplane/front_private.h"

static const char type_text[] = "text/plain; charset=utf-8";

void front_set_control(struct front *front, const struct front_control *control)
{
	front->control = *control;
}

static struct front_ask_place *free_place(struct front *front)
{
	for (uint32_t i = 0; i < FRONT_ASK_COUNT_MAX; i++)
		if (!front->asks.places[i].used)
			return &front->asks.places[i];
	return NULL;
}

static int begin(struct front *front, struct exchange *exchange,
	struct front_ask *ask, struct api_error *error)
{
	struct front_ask_place *place = free_place(front);

	if (!front->control.ask)
		return api_fail(error, 503, NULL,
			"this server cannot change its adapters");
	if (front->draining)
		return api_fail_code(
			error, 503, "draining", "this server is shutting down");
	if (!place)
		return api_fail(error, 429, NULL,
			"too many adapters are being changed; try again");
	ask->id = ++front->asks.last_id;
	if (front->control.ask(front->control.arg, ask))
		return api_fail(error, 503, NULL, "control is busy; try again");
	*place = (struct front_ask_place){.used = true,
		.id = ask->id,
		.exchange = exchange->index,
		.generation = exchange->generation};
	exchange->asked = true;
	return 0;
}

void exchange_ask(struct front *front, struct exchange *exchange)
{
	struct api_error error = {0};
	struct front_ask ask;

	if (api_adapter_parse(exchange->route,
		    exchange->body ? exchange->body : "", exchange->body_length,
		    &ask, &error) == 0 &&
		begin(front, exchange, &ask, &error) == 0)
		return;
	exchange_refuse(front, exchange, &error);
}

void front_control_answer(
	struct front *front, uint64_t id, int status, const char *text)
{
	struct front_asks *asks = &front->asks;

	pthread_mutex_lock(&asks->lock);
	/* Control answers each ask once, so there is room. */
	if (asks->answer_count < FRONT_ASK_COUNT_MAX) {
		struct front_ask_answer *answer =
			&asks->answers[asks->answer_count++];

		answer->id = id;
		answer->status = status;
		strncpy(answer->text, text, sizeof(answer->text) - 1);
		answer->text[sizeof(answer->text) - 1] = '\0';
	}
	pthread_mutex_unlock(&asks->lock);
	__atomic_store_n(&asks->due, 1, __ATOMIC_RELEASE);
	front->loop.ops->wake(&front->loop);
}

static void reply(struct front *front, struct exchange *exchange,
	const struct front_ask_answer *answer)
{
	const struct http_text body = {answer->text, strlen(answer->text)};
	struct api_error error = {0};

	exchange->asked = false;
	if (answer->status == 200) {
		exchange_answer(front, exchange, 200, type_text, body);
	} else {
		(void)api_fail_code(&error, answer->status,
			answer->status == 404 ? "model_not_found"
					      : "adapter_refused",
			"%s", answer->text);
		exchange_refuse(front, exchange, &error);
	}
	exchange_try_finish(front, exchange);
}

static void take_answer(
	struct front *front, const struct front_ask_answer *answer)
{
	for (uint32_t i = 0; i < FRONT_ASK_COUNT_MAX; i++) {
		struct front_ask_place *place = &front->asks.places[i];
		struct exchange *exchange;

		if (!place->used || place->id != answer->id)
			continue;
		place->used = false;
		exchange =
			exchange_of(front, place->exchange, place->generation);
		if (exchange && exchange->asked)
			reply(front, exchange, answer);
		return;
	}
}

uint32_t front_asks_poll(struct front *front)
{
	struct front_asks *asks = &front->asks;
	uint32_t count;

	/* Each turn looks; only what is due is worth a barrier. */
	if (!__atomic_load_n(&asks->due, __ATOMIC_RELAXED) ||
		!__atomic_exchange_n(&asks->due, 0, __ATOMIC_ACQ_REL))
		return 0;
	pthread_mutex_lock(&asks->lock);
	count = asks->answer_count;
	memcpy(asks->taken, asks->answers, count * sizeof(asks->answers[0]));
	asks->answer_count = 0;
	pthread_mutex_unlock(&asks->lock);
	for (uint32_t i = 0; i < count; i++)
		take_answer(front, &asks->taken[i]);
	return count;
}
