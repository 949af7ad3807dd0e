/* api_route.c - paths, methods and keys (request head -> route, or refusal) */
/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <openssl/sha.h>
#include <string.h>
#include <strings.h>

#include "dataplane/api.h"

#define KEY_BYTES_MAX 512
#define MODEL_PREFIX "/v1/models/"

enum where { ON_API = 1, ON_ADMIN = 2, ON_BOTH = 3 };

static const struct {
	const char *path;
	enum api_route route;
	enum where where;
	bool post;
} routes[] = {
	{"/v1/completions", API_COMPLETIONS, ON_API, true},
	{"/v1/chat/completions", API_CHAT, ON_API, true},
	{"/tokenize", API_TOKENIZE, ON_API, true},
	{"/detokenize", API_DETOKENIZE, ON_API, true},
	{"/v1/models", API_MODELS, ON_API, false},
	{"/live", API_LIVE, ON_BOTH, false},
	{"/ping", API_LIVE, ON_BOTH, false},
	{"/ready", API_READY, ON_BOTH, false},
	{"/health", API_HEALTH, ON_BOTH, false},
	{"/version", API_VERSION, ON_BOTH, false},
	{"/metrics", API_METRICS, ON_ADMIN, false},
	{"/v1/load_lora_adapter", API_LOAD_ADAPTER, ON_ADMIN, true},
	{"/v1/unload_lora_adapter", API_UNLOAD_ADAPTER, ON_ADMIN, true},
};

#define ROUTE_COUNT (sizeof(routes) / sizeof(routes[0]))

static bool text_is(struct http_text text, const char *string)
{
	return text.length == strlen(string) &&
	       memcmp(text.text, string, text.length) == 0;
}

static bool model_path(struct http_text path, struct http_text *out)
{
	size_t prefix = strlen(MODEL_PREFIX);

	if (path.length <= prefix ||
		memcmp(path.text, MODEL_PREFIX, prefix) != 0)
		return false;
	out->text = path.text + prefix;
	out->length = path.length - prefix;
	return true;
}

static bool is_post(enum api_route route)
{
	for (size_t i = 0; i < ROUTE_COUNT; i++)
		if (routes[i].route == route)
			return routes[i].post;
	return false;
}

const char *api_route_methods(enum api_route route)
{
	return is_post(route) ? "POST" : "GET, HEAD";
}

static enum api_route route_of(
	struct http_text path, enum where where, struct http_text *out_model)
{
	for (size_t i = 0; i < ROUTE_COUNT; i++)
		if (((unsigned)routes[i].where & (unsigned)where) &&
			text_is(path, routes[i].path))
			return routes[i].route;
	if (where == ON_API && model_path(path, out_model))
		return API_MODEL;
	return API_NONE;
}

int api_route_find(const struct http_request *request,
	enum front_service service, struct api_target *out,
	struct api_error *error)
{
	enum where where = service == FRONT_ADMIN ? ON_ADMIN : ON_API;
	bool get = request->method == HTTP_GET || request->method == HTTP_HEAD;

	*out = (struct api_target){0};
	out->route = route_of(request->path, where, &out->model);
	if (out->route == API_NONE)
		return api_fail_code(
			error, 404, "not_found", "there is no such path here");
	if (is_post(out->route) ? request->method != HTTP_POST : !get)
		return api_fail(error, 405, NULL, "this path takes %s",
			api_route_methods(out->route));
	return 0;
}

bool api_route_needs_key(enum api_route route)
{
	return route != API_LIVE && route != API_READY && route != API_HEALTH;
}

/* The token of "Authorization: Bearer TOKEN". */
static struct http_text bearer(const struct http_request *request)
{
	static const char scheme[] = "bearer ";
	const struct http_header *header = http_find(request, "authorization");
	struct http_text none = {"", 0}, value;

	if (!header || header->value.length < sizeof(scheme) - 1 ||
		strncasecmp(header->value.text, scheme, sizeof(scheme) - 1) !=
			0)
		return none;
	value = header->value;
	value.text += sizeof(scheme) - 1;
	value.length -= sizeof(scheme) - 1;
	while (value.length > 0 && value.text[0] == ' ') {
		value.text++;
		value.length--;
	}
	return value.length <= KEY_BYTES_MAX ? value : none;
}

int api_key_find(const struct front_key *keys, uint32_t count,
	const struct http_request *request)
{
	struct http_text key = bearer(request);
	uint8_t digest[SHA256_DIGEST_LENGTH];
	int found = -1;

	if (key.length == 0)
		return -1;
	SHA256((const unsigned char *)key.text, key.length, digest);
	/* All are compared, and each in constant time. */
	for (uint32_t i = 0; i < count; i++) {
		int same = CRYPTO_memcmp(
				   digest, keys[i].sha256, sizeof(digest)) == 0;

		found = same && found < 0 ? (int)i : found;
	}
	return found;
}

bool api_tenant_key(const uint8_t secret[32], const char *tenant,
	const char *salt, uint8_t out[32])
{
	/* A NUL between the two: neither can contain one, so no pair of
	 * tenant and salt is another pair's text. */
	unsigned char text[64 + 1 + API_SALT_BYTES_MAX + 1];
	size_t tenant_bytes = strnlen(tenant, 64);
	size_t salt_bytes = strnlen(salt, API_SALT_BYTES_MAX);
	unsigned int length = 32;

	memcpy(text, tenant, tenant_bytes);
	text[tenant_bytes] = '\0';
	memcpy(text + tenant_bytes + 1, salt, salt_bytes);
	return HMAC(EVP_sha256(), secret, 32, text,
		       tenant_bytes + 1 + salt_bytes, out, &length) != NULL;
}
