/* api_json.h - typed fields of a client's JSON (object -> values, or refusal) */
/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Why:   every field is read through one of these, so each has a type, a
 *        range, and its name in the error's `param`.
 * Use:   read all, then look at error->status: after a failure everything
 *        read is its default. null counts as absent, as OpenAI's clients send
 *        it.
 * Threads: pure functions; strings live as long as the object.
 */
#ifndef HEDDLE_DATAPLANE_API_JSON_H
#define HEDDLE_DATAPLANE_API_JSON_H

#include "dataplane/api.h"

struct api_fields {
	json_t *object; /* borrowed */
	struct api_error *error; /* borrowed */
};

/* The value, or NULL where absent or null. */
json_t *api_field(const struct api_fields *fields, const char *key);

int64_t api_field_integer(const struct api_fields *fields, const char *key,
	int64_t min, int64_t max, int64_t absent);
uint32_t api_field_u32(const struct api_fields *fields, const char *key,
	uint32_t min, uint32_t max, uint32_t absent);

/* In [min, max], or in (min, max] where `open`. */
struct api_range {
	double min, max;
	bool open;
};
float api_field_float(const struct api_fields *fields, const char *key,
	struct api_range range, float absent);
bool api_field_bool(
	const struct api_fields *fields, const char *key, bool absent);

/* At most bytes_max long; NULL where absent. */
const char *api_field_text(
	const struct api_fields *fields, const char *key, size_t bytes_max);

/* NULL where absent. */
json_t *api_field_array(
	const struct api_fields *fields, const char *key, size_t count_max);
json_t *api_field_object(const struct api_fields *fields, const char *key);

/* A token id below `vocab`, an element of `key`. */
bool api_token_id(const struct api_fields *fields, const char *key,
	const json_t *value, uint32_t vocab, uint32_t *out);

/* The sampler's and the stream's fields (api_sampling.c). */
void api_sampling_parse(const struct api_fields *fields, enum api_route route,
	const struct api_context *context, struct api_sampling *out);

/* Refuse by name what is known and not supported (api_unsupported.c). */
void api_unsupported_check(
	const struct api_fields *fields, enum api_route route);

/*
 * Check `messages` and make every content a plain string; *out is a new
 * reference (api_messages.c).
 */
void api_messages_parse(const struct api_fields *fields, json_t **out);

/* `prompt` in its four shapes (api_prompt.c). */
void api_prompts_parse(const struct api_fields *fields,
	const struct api_context *context, struct api_request *out);

/* `tokens` of /detokenize: one prompt of ids. */
void api_tokens_parse(const struct api_fields *fields,
	const struct api_context *context, struct api_request *out);

#endif
