/* api.h - the OpenAI protocol: what a client asked for (JSON -> request) */
/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What:  takes the body of a POST and makes struct api_request of it: every
 *        field checked for type and range, nothing of the client's left
 *        unchecked behind it. Unknown fields are ignored; fields that are
 *        known but not supported are refused by name, never in silence: so
 *        is logprobs with echo, as engines have none of the prompt. A string
 *        with a NUL (U+0000) is refused too.
 * Errors: struct api_error: the HTTP status and the four keys of OpenAI's
 *        error object. The first failure wins.
 * Ownership: an api_request owns everything in it, api_request_release().
 *        It borrows the body for the call only.
 * Limits: front_limits, base/limits.h, stop_set.h.
 * Threads: pure functions over their arguments.
 */
#ifndef HEDDLE_DATAPLANE_API_H
#define HEDDLE_DATAPLANE_API_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "dataplane/api_text.h"
#include "dataplane/front.h"
#include "dataplane/http.h"
#include "dataplane/stop_set.h"

#define API_PARAM_BYTES 64
#define API_MESSAGE_BYTES 1024
#define API_ID_BYTES 48 /* "chatcmpl-" and 128 bits in hex */
#define API_STOP_ID_COUNT_MAX 1000
#define API_SALT_BYTES_MAX 256
#define API_ADAPTER_BODY_BYTES_MAX 65536
#define API_MESSAGE_COUNT_MAX 4096

enum api_route {
	API_NONE, /* unknown path */
	API_COMPLETIONS,
	API_CHAT,
	API_TOKENIZE,
	API_DETOKENIZE,
	API_MODELS,
	API_MODEL, /* /v1/models/{id} */
	API_LIVE,
	API_READY,
	API_HEALTH,
	API_VERSION,
	API_METRICS,
	API_LOAD_ADAPTER, /* admin: vLLM's form */
	API_UNLOAD_ADAPTER,
	API_ROUTE_COUNT
};

struct api_error {
	int status; /* HTTP; 0 = no error */
	const char *type; /* constant */
	const char *code; /* constant; NULL = null */
	char param[API_PARAM_BYTES]; /* "" = null */
	char message[API_MESSAGE_BYTES];
};

struct api_bias {
	uint32_t id;
	float bias;
};

_Static_assert(sizeof(struct api_bias) == 8, "layout of the bias page");

/* What completions and chat share: the sampler's and the stream's fields. */
struct api_sampling {
	uint32_t choice_count; /* n */
	uint32_t output_max; /* 0 = the client said none */
	uint32_t output_min;
	uint32_t top_k; /* 0 = none */
	float temperature, top_p, min_p;
	float repetition_penalty, presence_penalty, frequency_penalty;
	uint64_t seed;
	bool has_seed;
	uint32_t priority; /* lower goes first; 2^31 = the client's 0 */
	bool want_logprob;
	uint32_t logprob_count; /* alternatives */
	bool ignore_eos;
	bool skip_special;
	bool stream, include_usage, continuous_usage;
	bool echo;
	uint32_t bias_count;
	struct api_bias bias[LOGIT_BIAS_COUNT_MAX];
	uint32_t stop_id_count;
	uint32_t stop_ids[API_STOP_ID_COUNT_MAX];
	struct stop_set *stops; /* owned; NULL = none */
	char salt[API_SALT_BYTES_MAX + 1]; /* "" = none */
};

/* One prompt: a text or ids. */
struct api_prompt {
	char *text; /* owned; NULL where the client gave ids */
	size_t length;
	uint32_t *ids; /* owned */
	uint32_t id_count;
};

struct api_request {
	enum api_route route;
	char model[FRONT_NAME_BYTES_MAX]; /* as the client named it */
	struct api_sampling sampling;
	/* completions, tokenize, detokenize */
	struct api_prompt *prompts; /* owned array */
	uint32_t prompt_count;
	/* chat, and tokenize of a conversation */
	json_t *messages; /* owned, contents made plain strings */
	json_t *documents; /* owned or NULL */
	json_t *kwargs; /* owned or NULL: chat_template_kwargs */
	bool add_generation_prompt;
	bool add_special;
	bool return_token_strs;
};

/* What a request is checked against. */
struct api_context {
	const struct front_model *model;
	const struct front_limits *limits;
	const struct adapter_table *adapters; /* more models; NULL = none */
};

/*
 * Parse a body. Returns 0, or -EINVAL with *error set (its status is 400, 404,
 * or 500 for want of memory); then *out is { 0 }.
 */
int api_request_parse(enum api_route route, const char *body, size_t length,
	const struct api_context *context, struct api_request *out,
	struct api_error *error);
void api_request_release(struct api_request *request);

/* Fill an error once; later ones are echoes. Returns -EINVAL. */
int api_fail(struct api_error *error, int status, const char *param,
	const char *format, ...) __attribute__((format(printf, 4, 5)));

/* Type and code by status, where api_fail() is not enough. */
int api_fail_code(struct api_error *error, int status, const char *code,
	const char *format, ...) __attribute__((format(printf, 4, 5)));

/* {"error":{"message":...,"type":...,"param":...,"code":...}} */
void api_error_write(const struct api_error *error, struct api_text *out);

/* What a path and a method mean. */
struct api_target {
	enum api_route route;
	struct http_text model; /* API_MODEL: the id in the path */
};

/*
 * 0, or -EINVAL with 404 or 405 in *error. HEAD counts as GET. `service`: the
 * metrics are the admin listener's, /v1 and the tokenizers the API's.
 */
int api_route_find(const struct http_request *request,
	enum front_service service, struct api_target *out,
	struct api_error *error);

/* Does the route need an API key where keys are set? All but health do. */
bool api_route_needs_key(enum api_route route);

/* The methods of a route, for the Allow header: "GET, HEAD" or "POST". */
const char *api_route_methods(enum api_route route);

/*
 * Index of the key that an Authorization header carries, compared in time
 * that does not depend on which one matches; -1 where none does.
 */
int api_key_find(const struct front_key *keys, uint32_t count,
	const struct http_request *request);

/*
 * The prefix cache's key of a tenant and a client's salt: HMAC-SHA-256 under
 * the server's secret. false: the library failed.
 */
bool api_tenant_key(const uint8_t secret[32], const char *tenant,
	const char *salt, uint8_t out[32]);

/* Is this one of the model's names? */
bool api_model_known(
	const struct front_model *model, const char *name, size_t length);

/*
 * Bodies of /v1/models and /v1/models/{id}; `adapters` is a copy of the table,
 * [ADAPTER_ENTRY_COUNT_MAX].
 */
void api_models_write(const struct front_model *model,
	const struct adapter_entry *adapters, struct api_text *out);
int api_model_write(const struct front_model *model,
	const struct adapter_entry *adapters, struct http_text name,
	struct api_text *out, struct api_error *error);

/*
 * The body of a request to load or unload an adapter, but for its id; 0, or
 * -EINVAL with *error set.
 */
int api_adapter_parse(enum api_route route, const char *body, size_t length,
	struct front_ask *out, struct api_error *error);

#endif
