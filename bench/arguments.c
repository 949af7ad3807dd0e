/* arguments.c - values of a benchmark's options (text -> numbers, parts) */
/* SPDX-License-Identifier: Apache-2.0 */
#include <stdlib.h>
#include <string.h>

#include "bench/arguments.h"

bool argument_count(const char *text, uint32_t most, uint32_t *out)
{
	char *end;
	unsigned long value = strtoul(text, &end, 10);

	*out = (uint32_t)value;
	return *text >= '1' && *text <= '9' && *end == '\0' && value <= most;
}

bool argument_parts(char *list, const char *const *names, uint32_t *out)
{
	char *name;

	*out = 0;
	while ((name = strsep(&list, ","))) {
		uint32_t i = 0;

		while (names[i] && strcmp(names[i], name) != 0)
			i++;
		if (!names[i])
			return false;
		*out |= 1u << i;
	}
	return true;
}
