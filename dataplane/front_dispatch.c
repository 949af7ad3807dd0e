/* front_dispatch.c - what a request asks for (route -> answer, or worker) */
/* SPDX-License-Identifier: Apache-2.0 */
#include <assert.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "dataplane/front_private.h"

static const char type_json[] = "application/json";
static const char type_metrics[] = "text/plain; version=0.0.4; charset=utf-8";

static bool is_generation(enum api_route route)
{
	return route == API_COMPLETIONS || route == API_CHAT;
}

static bool is_adapter(enum api_route route)
{
	return route == API_LOAD_ADAPTER || route == API_UNLOAD_ADAPTER;
}

/* --- by the head alone --------------------------------------------------------- */

static int check_key(struct front *front, struct exchange *exchange,
	const struct http_request *request, struct api_error *error)
{
	int key;

	if (front->setup.key_count == 0 ||
		!api_route_needs_key(exchange->route))
		return 0;
	key = api_key_find(front->setup.keys, front->setup.key_count, request);
	if (key < 0)
		return api_fail(error, 401, NULL,
			"a valid API key is needed: Authorization: Bearer KEY");
	memcpy(exchange->tenant, front->setup.keys[key].tenant,
		sizeof(exchange->tenant));
	exchange->tenant[sizeof(exchange->tenant) - 1] = '\0';
	return 0;
}

/* The id of /v1/models/{id} waits in `body` until the request is complete. */
static void keep_model(
	struct front *front, struct exchange *exchange, struct http_text model)
{
	if (model.length > 0 && model.length < FRONT_NAME_BYTES_MAX)
		exchange_body(front, exchange, model);
	exchange->discard = true;
}

int exchange_check_head(struct front *front, struct exchange *exchange,
	const struct http_request *request, struct api_error *error)
{
	const struct connection *connection =
		&front->connections[exchange->connection];
	struct api_target target;
	int rc = api_route_find(request, connection->service, &target, error);

	exchange->route = target.route;
	/* Who has no key is not told which paths there are. */
	if (front->setup.key_count > 0 && rc) {
		struct api_error refused = {0};

		if (check_key(front, exchange, request, &refused)) {
			*error = refused;
			return rc;
		}
	}
	if (rc == 0)
		rc = check_key(front, exchange, request, error);
	if (rc)
		return rc;
	if (exchange->route == API_MODEL)
		keep_model(front, exchange, target.model);
	else if (!is_generation(exchange->route) &&
		 !is_adapter(exchange->route) &&
		 exchange->route != API_TOKENIZE &&
		 exchange->route != API_DETOKENIZE)
		exchange->discard = true;
	if (front->draining && is_generation(exchange->route))
		return api_fail_code(
			error, 503, "draining", "this server is shutting down");
	return 0;
}

/* --- answers made here ----------------------------------------------------------- */

static void answer_page(struct front *front, struct exchange *exchange,
	int status, const char *type)
{
	struct http_text body = {front->page.data, front->page.length};
	struct api_error error = {0};

	if (front->page.failed) {
		(void)api_fail(&error, 500, NULL, "out of memory");
		exchange_refuse(front, exchange, &error);
		return;
	}
	exchange_answer(front, exchange, status, type, body);
}

static void answer_model(struct front *front, struct exchange *exchange)
{
	const struct http_text name = {
		exchange->body ? exchange->body : "", exchange->body_length};
	struct api_error error = {0};

	front_names_refresh(front);
	if (api_model_write(&front->setup.model, front->names.entries, name,
		    &front->page, &error))
		exchange_refuse(front, exchange, &error);
	else
		answer_page(front, exchange, 200, type_json);
}

static void answer_status(struct front *front, struct exchange *exchange,
	bool good, const char *word)
{
	api_text_printf(&front->page, "{\"status\":\"%s\"}",
		good ? word : "unavailable");
	answer_page(front, exchange, good ? 200 : 503, type_json);
}

static void answer_here(struct front *front, struct exchange *exchange)
{
	api_text_clear(&front->page);
	switch (exchange->route) {
	case API_MODELS:
		front_names_refresh(front);
		api_models_write(&front->setup.model, front->names.entries,
			&front->page);
		answer_page(front, exchange, 200, type_json);
		break;
	case API_MODEL:
		answer_model(front, exchange);
		break;
	case API_LIVE:
		answer_status(front, exchange, true, "live");
		break;
	case API_READY:
		answer_status(front, exchange, front_is_ready(front), "ready");
		break;
	case API_HEALTH:
		front_health_write(front, &front->page);
		answer_page(front, exchange,
			front_is_healthy(front) ? 200 : 503, type_json);
		break;
	case API_VERSION:
		api_text_puts(&front->page, "{\"version\":");
		api_text_string(&front->page, front->setup.version,
			strnlen(front->setup.version,
				sizeof(front->setup.version)));
		api_text_puts(&front->page, "}");
		answer_page(front, exchange, 200, type_json);
		break;
	default:
		assert(exchange->route == API_METRICS);
		metrics_write(
			&front->setup.model, front->segment, &front->page);
		answer_page(front, exchange, 200, type_metrics);
	}
}

/* --- to the text worker ------------------------------------------------------------
 */

/* A slot at once: whoever finds none hears so before any work is done. */
static int reserve(
	struct front *front, struct exchange *exchange, struct api_error *error)
{
	struct front_slot *slot;

	if (!is_generation(exchange->route))
		return 0;
	if (front_rank_choose(front, UINT32_MAX) == FRONT_NONE)
		return api_fail_code(error, 503, "engine_not_ready",
			"no engine is ready to serve");
	slot = slot_take(front);
	if (!slot)
		return api_fail(error, 429, NULL,
			"all request slots are in use; try again");
	slot->exchange = exchange->index;
	exchange->first_slot = slot_index(front, slot);
	exchange->slot_count = 1;
	return 0;
}

static int hand_over(
	struct front *front, struct exchange *exchange, struct api_error *error)
{
	struct text_request *text;

	text = text_request_create(
		exchange->route, exchange->body, exchange->body_length);
	if (!text)
		return api_fail(error, 500, NULL, "out of memory");
	/* The budget stays with the exchange until the body is parsed. */
	exchange->body = NULL;
	exchange->text = text;
	text->exchange = exchange->index;
	text->generation = exchange->generation;
	text->created_s = (uint64_t)time(NULL);
	snprintf(text->id, sizeof(text->id), "%s%s",
		exchange->route == API_CHAT ? "chatcmpl-" : "cmpl-",
		exchange->id);
	if (front_post_parse(front, exchange))
		return 0;
	text_request_destroy(text);
	exchange->text = NULL;
	return api_fail(
		error, 429, NULL, "too many prompts are waiting; try again");
}

static void release_slot(struct front *front, struct exchange *exchange)
{
	if (exchange->first_slot == FRONT_NONE)
		return;
	slot_close(front, &front->slots[exchange->first_slot]);
	exchange->first_slot = FRONT_NONE;
	exchange->slot_count = 0;
}

void exchange_dispatch(struct front *front, struct exchange *exchange)
{
	struct api_error error = {0};

	if (is_adapter(exchange->route)) {
		exchange_ask(front, exchange);
		return;
	}
	if (!is_generation(exchange->route) &&
		exchange->route != API_TOKENIZE &&
		exchange->route != API_DETOKENIZE) {
		answer_here(front, exchange);
		return;
	}
	if (!exchange->body)
		(void)api_fail_code(&error, 400, "invalid_json",
			"the body is empty; it must be one JSON object");
	else if (reserve(front, exchange, &error) == 0 &&
		 hand_over(front, exchange, &error) == 0)
		return;
	release_slot(front, exchange);
	exchange_refuse(front, exchange, &error);
}
