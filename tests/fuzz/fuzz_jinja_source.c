/* fuzz_jinja_source.c - any bytes as a chat template */
/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "dataplane/jinja.h"
#include "tests/fuzz/fuzz.h"

static const char trusted_text[] =
	"{\"bos_token\": \"<s>\", \"eos_token\": \"</s>\", "
	"\"add_generation_prompt\": true}";

static const char untrusted_text[] =
	"{\"messages\": [{\"role\": \"system\", \"content\": \" S \"}, "
	"{\"role\": \"user\", \"content\": \"U\\u00e9\\u4e16\\n<|x|>\", "
	"\"tags\": [\"x\", \"y\"]}, {\"role\": \"assistant\", \"content\": "
	"null, \"n\": 2.5}], \"tools\": [{\"function\": {\"name\": \"f\", "
	"\"parameters\": {\"a\": {\"type\": \"string\"}}}}], \"n\": 7, "
	"\"s\": \"Hello World\", \"d\": {\"b\": 2, \"a\": [1, {\"c\": "
	"true}]}, \"nums\": [3, 1, 2], \"t\": true, \"e\": \"\", "
	"\"words\": [\"b\", \"A\"], \"u\": \"\\u01c5 \\u00df\"}";

static void require(bool holds)
{
	if (!holds)
		abort();
}

static void check_output(const struct jinja_output *out)
{
	size_t total = 0;

	for (size_t i = 0; i < out->span_count; i++) {
		require(out->spans[i].length > 0);
		require(i == 0 ||
			out->spans[i].trusted != out->spans[i - 1].trusted);
		total += out->spans[i].length;
	}
	require(total == out->length && out->text[total] == '\0');
}

static bool is_known(int rc)
{
	return rc == -EINVAL || rc == -EBADMSG || rc == -E2BIG ||
	       rc == -ELOOP || rc == -EFBIG || rc == -ENOMEM;
}

static void render(const struct jinja_template *template)
{
	static const struct tm now = {.tm_year = 124, .tm_mday = 1};
	struct jinja_input input = {
		.trusted = json_loads(trusted_text, 0, NULL),
		.untrusted = json_loads(untrusted_text, 0, NULL),
		.now = &now};
	struct jinja_limits limits = {.arena_bytes = 4 << 20,
		.output_bytes = 1 << 16,
		.step_count = 50000,
		.depth = 200};
	struct jinja_output out;
	struct error err = {0};
	int rc;

	require(input.trusted && input.untrusted);
	rc = jinja_render(template, &input, &limits, &out, &err);
	if (rc)
		require(is_known(rc) && err.text[0] && !out.text);
	else
		check_output(&out);
	jinja_output_release(&out);
	json_decref(input.trusted);
	json_decref(input.untrusted);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct jinja_template *template = NULL;
	struct error err = {0};
	int rc = jinja_compile(
		(const char *)data, size, "fuzz", &template, &err);

	if (rc)
		require((rc == -EINVAL || rc == -ENOMEM) &&
			strncmp(err.text, "fuzz:", 5) == 0 && !template);
	else
		render(template);
	jinja_free(template);
	return 0;
}
