/* eval_cores.c - a list of processor cores ("0-3,8" -> numbers) */
/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <sched.h>
#include <stdlib.h>

#include "control/eval.h"

/* One number at *text, which moves behind it. */
static bool take_number(const char **text, uint32_t *out)
{
	uint32_t value = 0;

	if (**text < '0' || **text > '9')
		return false;
	while (**text >= '0' && **text <= '9') {
		value = value * 10 + (uint32_t)(*(*text)++ - '0');
		if (value >= CPU_SETSIZE)
			return false;
	}
	*out = value;
	return true;
}

static bool add_core(struct eval_cores *cores, uint32_t core)
{
	for (uint32_t i = 0; i < cores->count; i++)
		if (cores->core[i] == core)
			return false;
	if (cores->count == EVAL_CORE_COUNT_MAX)
		return false;
	cores->core[cores->count++] = core;
	return true;
}

int eval_parse_cores(
	const char *text, struct eval_cores *out, struct error *err)
{
	const char *at = text;

	*out = (struct eval_cores){0};
	for (;;) {
		uint32_t first = 0, last;
		bool ok = take_number(&at, &first);

		last = first;
		if (ok && *at == '-') {
			at++;
			ok = take_number(&at, &last) && last >= first;
		}
		for (; ok && first <= last; first++)
			ok = add_core(out, first);
		if (ok && *at == '\0')
			return 0;
		if (!ok || *at++ != ',')
			return error_set(err, EINVAL,
				"--cores: \"%.64s\" is no list of different "
				"cores such as 0-3,8",
				text);
	}
}
