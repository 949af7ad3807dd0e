/* options_value.c - what an option's text means (text -> number) */
/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "base/clock.h"
#include "control/options.h"

struct unit {
	const char *name;
	uint64_t factor;
};

/* Largest first, as numbers are printed. */
static const struct unit byte_units[] = {
	{"GiB", UINT64_C(1) << 30},
	{"MiB", UINT64_C(1) << 20},
	{"KiB", UINT64_C(1) << 10},
	{"", 1},
};

static const struct unit time_units[] = {
	{"h", 3600 * NS_PER_S},
	{"m", 60 * NS_PER_S},
	{"s", NS_PER_S},
	{"ms", NS_PER_MS},
	{"us", NS_PER_US},
};

static const struct unit no_units[] = {{"", 1}};

struct units {
	const struct unit *list;
	size_t count;
	const char *what; /* in errors */
};

static struct units units_of(enum option_kind kind)
{
	switch (kind) {
	case OPTION_KIND_BYTES:
		return (struct units){byte_units,
			sizeof(byte_units) / sizeof(byte_units[0]),
			"a size, such as 65536, 64KiB, 16MiB"};
	case OPTION_KIND_DURATION:
		return (struct units){time_units,
			sizeof(time_units) / sizeof(time_units[0]),
			"a time with its unit, such as 500us, 20ms, 30s, 5m"};
	default:
		return (struct units){no_units, 1, "a whole number"};
	}
}

void option_print_number(
	const struct option_spec *spec, uint64_t number, char out[64])
{
	struct units units = units_of(spec->kind);
	size_t i = 0;

	while (i + 1 < units.count &&
		(number == 0 || number % units.list[i].factor != 0))
		i++;
	snprintf(out, 64, "%" PRIu64 "%s", number / units.list[i].factor,
		units.list[i].name);
}

static bool find_unit(
	const struct units *units, const char *name, uint64_t *out)
{
	for (size_t i = 0; i < units->count; i++)
		if (strcmp(units->list[i].name, name) == 0) {
			*out = units->list[i].factor;
			return true;
		}
	return false;
}

static int parse_number(const struct option_spec *spec, const char *text,
	uint64_t *out, struct error *err)
{
	struct units units = units_of(spec->kind);
	char *end = NULL, low[64], high[64];
	uint64_t factor = 0;
	size_t value = 0;
	bool fits;

	errno = 0;
	if (text[0] >= '0' && text[0] <= '9')
		value = strtoull(text, &end, 10);
	if (!end || !find_unit(&units, end, &factor))
		return error_set(
			err, EINVAL, "\"%s\" is not %s", text, units.what);
	fits = errno == 0 && mul_ok(value, factor, &value);
	if (!fits || value < spec->min || value > spec->max) {
		option_print_number(spec, spec->min, low);
		option_print_number(spec, spec->max, high);
		return error_set(err, EINVAL, "%s is not between %s and %s",
			text, low, high);
	}
	*out = value;
	return 0;
}

/* Index among words that are separated by single spaces, or -1. */
static int find_choice(const char *choices, const char *text)
{
	size_t length = strlen(text);
	int index = 0;

	for (const char *at = choices; at; index++) {
		const char *space = strchr(at, ' ');
		size_t word = space ? (size_t)(space - at) : strlen(at);

		if (word == length && memcmp(at, text, length) == 0)
			return index;
		at = space ? space + 1 : NULL;
	}
	return -1;
}

static int parse_choice(const struct option_spec *spec, const char *text,
	uint64_t *out, struct error *err)
{
	int index = find_choice(spec->choices, text);

	if (index < 0)
		return error_set(err, EINVAL, "\"%s\" is none of: %s", text,
			spec->choices);
	*out = (uint64_t)index;
	return 0;
}

int option_parse(const struct option_spec *spec, const char *text,
	uint64_t *out, struct error *err)
{
	*out = 0;
	if (text[0] == '\0')
		return error_set(err, EINVAL, "is empty");
	if (strlen(text) > OPTION_TEXT_BYTES_MAX)
		return error_set(err, EINVAL, "is longer than %d bytes",
			OPTION_TEXT_BYTES_MAX);
	for (const char *c = text; *c; c++)
		if ((unsigned char)*c < 0x20 || *c == 0x7f)
			return error_set(
				err, EINVAL, "holds a control character");
	if (spec->choices)
		return parse_choice(spec, text, out, err);
	if (spec->kind == OPTION_KIND_TEXT || spec->kind == OPTION_KIND_LIST)
		return 0;
	return parse_number(spec, text, out, err);
}
