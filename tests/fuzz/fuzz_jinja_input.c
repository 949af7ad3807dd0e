/* fuzz_jinja_input.c - any JSON as a conversation, through real templates */
/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The templates are those of tests/golden-text/chat. Beside the bounds it is
 * checked that the text does not depend on who is trusted, and that without
 * trust no byte of a marker that only the conversation has is trusted.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "dataplane/chat.h"
#include "tests/fuzz/fuzz.h"

#define FOLDER "tests/golden-text/chat/"
#define MARKER "\xe2\x98\x83" /* a snowman: in no template */

static const char *const names[] = {"chatml", "blocks_style", "command_style",
	"deepseek3_style", "gemma_style", "granite_style", "harmony_style",
	"llama3_style", "mixtral_style", "qwen25_style", "qwen3_style"};

#define TEMPLATE_COUNT (sizeof(names) / sizeof(names[0]))

static void require(bool holds)
{
	if (!holds)
		abort();
}

static struct chat_template *load(const char *name)
{
	static const char config[] = "{\"bos_token\": \"<s>\", \"eos_token\": "
				     "\"</s>\"}";
	struct chat_source tokens = {config, sizeof(config) - 1}, source;
	struct chat_template *chat = NULL;
	char path[256], *text = calloc(1, 1 << 16);
	FILE *file;

	snprintf(path, sizeof(path), FOLDER "%s.jinja", name);
	file = fopen(path, "rb");
	require(file && text);
	source.text = text;
	source.length = fread(text, 1, (1 << 16) - 1, file);
	fclose(file);
	require(chat_template_load(tokens, source, name, &chat, NULL) == 0);
	free(text);
	return chat;
}

static void check_marker(const struct jinja_output *out)
{
	size_t span = 0, end = out->span_count ? out->spans[0].length : 0;

	for (size_t at = 0; at < out->length; at++) {
		for (; at >= end; end += out->spans[span].length)
			span++;
		if (strncmp(out->text + at, MARKER, strlen(MARKER)) == 0)
			require(!out->spans[span].trusted);
	}
}

static void render(
	const struct chat_template *chat, struct chat_request *request)
{
	struct jinja_limits limits = {.arena_bytes = 16 << 20,
		.output_bytes = 1 << 20,
		.step_count = 200000,
		.depth = 300};
	struct jinja_output plain, trusted;
	struct error err = {0};
	int rc, again;

	request->trust = CHAT_TRUST_TEMPLATE;
	rc = chat_render(chat, request, &limits, &plain, &err);
	require((rc == 0) == (err.text[0] == '\0') &&
		(rc == 0) == !!plain.text);
	request->trust = CHAT_TRUST_ALL;
	again = chat_render(chat, request, &limits, &trusted, NULL);
	if (rc == 0 && again == 0) {
		require(plain.length == trusted.length &&
			memcmp(plain.text, trusted.text, plain.length) == 0);
		require(trusted.span_count == (trusted.length > 0));
		check_marker(&plain);
	}
	jinja_output_release(&plain);
	jinja_output_release(&trusted);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct chat_template *templates[TEMPLATE_COUNT];
	static const struct tm now = {.tm_year = 124, .tm_mday = 1};
	json_t *root = json_loadb((const char *)data, size, 0, NULL);
	struct chat_request request = {.now = &now};

	for (size_t i = 0; i < TEMPLATE_COUNT && !templates[i]; i++)
		templates[i] = load(names[i]);
	request.messages = json_object_get(root, "messages");
	request.tools = json_object_get(root, "tools");
	request.documents = json_object_get(root, "documents");
	request.client_kwargs = json_object_get(root, "kwargs");
	request.add_generation_prompt =
		json_is_true(json_object_get(root, "add_generation_prompt"));
	for (size_t i = 0; root && i < TEMPLATE_COUNT; i++)
		render(templates[i], &request);
	json_decref(root);
	return 0;
}
