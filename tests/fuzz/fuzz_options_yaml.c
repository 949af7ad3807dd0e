/* fuzz_options_yaml.c - any bytes as a configuration file */
/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "control/options.h"
#include "tests/fuzz/fuzz.h"

static void require(bool holds)
{
	if (!holds)
		abort();
}

/* What everything after the parser relies on. */
static void check(const struct options *options)
{
	for (int i = 0; i < OPTION_ID_COUNT; i++) {
		const struct option_spec *spec = option_spec((enum option_id)i);
		const struct option_value *value = &options->value[i];

		require(value->count <= OPTION_ITEM_COUNT_MAX);
		require(spec->kind == OPTION_KIND_LIST || value->count <= 1);
		require(value->count > 0 || !spec->initial ||
			spec->kind == OPTION_KIND_LIST);
		for (uint32_t k = 0; k < value->count; k++)
			require(value->items[k][0] != '\0');
		if (spec->kind == OPTION_KIND_NUMBER ||
			spec->kind == OPTION_KIND_BYTES ||
			spec->kind == OPTION_KIND_DURATION)
			require(value->number >= spec->min &&
				value->number <= spec->max);
	}
}

/* What is shown reads back. */
static void check_shown(const struct options *options)
{
	struct options back;
	struct error err = {0};
	char *text = NULL;
	size_t length = 0;
	FILE *out = open_memstream(&text, &length);

	require(out != NULL);
	options_print(options, out);
	require(fclose(out) == 0);
	require(options_init(&back, &err) == 0);
	require(options_parse_yaml(&back, text, length, "shown", &err) == 0 ||
		err.code == -EFBIG);
	options_release(&back);
	free(text);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct options options;
	struct error err = {0};
	char *text = malloc(size ? size : 1);

	require(text && options_init(&options, &err) == 0);
	if (size)
		memcpy(text, data, size);
	if (options_parse_yaml(&options, text, size, "f.yaml", &err))
		require(error_is_set(&err) &&
			strncmp(err.text, "f.yaml:", 7) == 0);
	else
		check_shown(&options);
	check(&options);
	options_release(&options);
	free(text);
	return 0;
}
