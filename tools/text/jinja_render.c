/* jinja_render.c - templates rendered for comparison (JSON -> JSON) */
/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Reads lines {"template", "now": [year, month, day, hour, minute, second]}
 * with {"trusted", "untrusted"} for jinja_render(), or {"messages", "tools",
 * "documents", "kwargs", "add_generation_prompt"} for chat_render(), and
 * writes a line {"output", "spans"} or {"error"} for each. compare_chat.py
 * drives it; tests have the same cases as files.
 */
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "dataplane/chat.h"

static struct tm read_now(const json_t *now)
{
	struct tm tm = {.tm_isdst = -1};

	tm.tm_year = (int)json_integer_value(json_array_get(now, 0)) - 1900;
	tm.tm_mon = (int)json_integer_value(json_array_get(now, 1)) - 1;
	tm.tm_mday = (int)json_integer_value(json_array_get(now, 2));
	tm.tm_hour = (int)json_integer_value(json_array_get(now, 3));
	tm.tm_min = (int)json_integer_value(json_array_get(now, 4));
	tm.tm_sec = (int)json_integer_value(json_array_get(now, 5));
	timegm(&tm);
	return tm;
}

static json_t *write_spans(const struct jinja_output *output)
{
	json_t *spans = json_array();

	for (size_t i = 0; i < output->span_count; i++)
		json_array_append_new(spans,
			json_pack("[I, b]", (json_int_t)output->spans[i].length,
				output->spans[i].trusted));
	return spans;
}

static int render_chat(json_t *request, const struct tm *now,
	struct jinja_output *output, struct error *err)
{
	json_t *source = json_object_get(request, "template");
	struct chat_source none = {NULL, 0};
	struct chat_source jinja = {
		json_string_value(source), json_string_length(source)};
	struct chat_request chat = {
		.messages = json_object_get(request, "messages"),
		.tools = json_object_get(request, "tools"),
		.documents = json_object_get(request, "documents"),
		.kwargs = json_object_get(request, "kwargs"),
		.add_generation_prompt = json_is_true(
			json_object_get(request, "add_generation_prompt")),
		.now = now};
	struct jinja_limits limits = jinja_limits_default();
	struct chat_template *template = NULL;
	int rc = chat_template_load(none, jinja, "template", &template, err);

	if (!rc)
		rc = chat_render(template, &chat, &limits, output, err);
	chat_template_free(template);
	return rc;
}

static int render_plain(json_t *request, const struct tm *now,
	struct jinja_output *output, struct error *err)
{
	json_t *source = json_object_get(request, "template");
	struct jinja_input input = {
		.trusted = json_object_get(request, "trusted"),
		.untrusted = json_object_get(request, "untrusted"),
		.now = now};
	struct jinja_limits limits = jinja_limits_default();
	struct jinja_template *template = NULL;
	int rc = jinja_compile(json_string_value(source),
		json_string_length(source), "template", &template, err);

	if (!rc)
		rc = jinja_render(template, &input, &limits, output, err);
	jinja_free(template);
	return rc;
}

static json_t *render(json_t *request)
{
	struct tm now = read_now(json_object_get(request, "now"));
	struct jinja_output output = {0};
	struct error err = {0};
	json_t *answer;
	int rc;

	if (json_object_get(request, "messages"))
		rc = render_chat(request, &now, &output, &err);
	else
		rc = render_plain(request, &now, &output, &err);
	if (rc)
		return json_pack("{s: s}", "error", err.text);
	answer = json_pack("{s: s%, s: o}", "output", output.text,
		output.length, "spans", write_spans(&output));
	jinja_output_release(&output);
	return answer;
}

int main(void)
{
	char *line = NULL;
	size_t size = 0;
	ssize_t length;

	while ((length = getline(&line, &size, stdin)) > 0) {
		json_t *request = json_loadb(line, (size_t)length, 0, NULL);
		json_t *answer = request ? render(request) : NULL;

		if (!answer)
			answer = json_pack("{s: s}", "error", "bad request");
		json_dumpf(answer, stdout, JSON_COMPACT);
		putchar('\n');
		fflush(stdout);
		json_decref(request);
		json_decref(answer);
	}
	free(line);
	return 0;
}
