/* batch_steps.c - the engine's own account of its steps (log -> gaps) */
/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bench/batch_steps.h"

#define LINE_BYTES 512
#define ROOM_FIRST 1024

/* Text that must stand at *at, then a number. */
static bool take(const char **at, const char *text, uint64_t *out)
{
	size_t length = strlen(text);
	char *end;

	if (strncmp(*at, text, length) != 0)
		return false;
	*at += length;
	*out = strtoull(*at, &end, 10);
	if (end == *at)
		return false;
	*at = end;
	return true;
}

bool batch_step_parse(const char *line, struct batch_step *out)
{
	const char *at = strstr(line, ": step: ");
	uint64_t decode, prefill, prompts;

	if (!at || !take(&at, ": step: ", &decode) ||
		!take(&at, " decode rows, ", &prefill) ||
		!take(&at, " prompt tokens, context ", &out->context_count) ||
		!take(&at, " and ", &prompts) ||
		!take(&at, "; ", &out->predicted_ns) ||
		!take(&at, " ns expected, ", &out->took_ns) ||
		!take(&at, " taken, end ", &out->end_ns))
		return false;
	out->decode_count = (uint32_t)decode;
	out->prefill_count = (uint32_t)prefill;
	return true;
}

static int add(struct batch_steps *steps, const struct batch_step *step)
{
	if (steps->count == steps->room) {
		size_t room = steps->room ? 2 * steps->room : ROOM_FIRST;
		struct batch_step *more =
			reallocarray(steps->steps, room, sizeof(*steps->steps));

		if (!more)
			return -ENOMEM;
		steps->steps = more;
		steps->room = room;
	}
	steps->steps[steps->count++] = *step;
	return 0;
}

int batch_steps_read(const char *path, long *offset, struct batch_steps *out,
	struct error *err)
{
	FILE *file = fopen(path, "re");
	char line[LINE_BYTES];
	int rc = 0;

	memset(out, 0, sizeof(*out));
	if (!file || fseek(file, *offset, SEEK_SET))
		rc = -errno;
	while (rc == 0 && fgets(line, sizeof(line), file)) {
		struct batch_step step;

		if (batch_step_parse(line, &step))
			rc = add(out, &step);
	}
	if (rc == 0)
		*offset = ftell(file);
	if (file)
		fclose(file);
	if (rc) {
		batch_steps_release(out);
		return error_set(err, -rc, "%s: %s", path, strerror(-rc));
	}
	return 0;
}

void batch_steps_release(struct batch_steps *steps)
{
	free(steps->steps);
	memset(steps, 0, sizeof(*steps));
}

/* The step before must have been one of the same: its rows wait for this. */
static bool counts(const struct batch_steps *steps, size_t at,
	const struct batch_choice *choice)
{
	const struct batch_step *step = &steps->steps[at];

	return at > 0 && step->decode_count >= choice->streams &&
	       steps->steps[at - 1].decode_count >= choice->streams &&
	       step->context_count >= choice->context_min &&
	       step->context_count <= choice->context_max &&
	       (step->prefill_count > 0) ==
		       (choice->kind == BATCH_STEPS_PROMPTS);
}

void batch_steps_range(
	const struct batch_steps *steps, struct batch_choice *choice)
{
	uint64_t least = UINT64_MAX, most = 0;

	choice->context_min = 0;
	choice->context_max = UINT64_MAX;
	for (size_t i = 0; i < steps->count; i++) {
		uint64_t context = steps->steps[i].context_count;

		if (!counts(steps, i, choice))
			continue;
		least = context < least ? context : least;
		most = context > most ? context : most;
	}
	choice->context_min = least;
	choice->context_max = most;
}

static size_t gap_count(
	const struct batch_steps *steps, const struct batch_choice *choice)
{
	size_t count = 0;

	for (size_t i = 0; i < steps->count; i++)
		if (counts(steps, i, choice))
			count += steps->steps[i].decode_count;
	return count;
}

int batch_steps_gaps(const struct batch_steps *steps,
	const struct batch_choice *choice, struct serve_figures *out)
{
	size_t room = gap_count(steps, choice), count = 0;
	double *gaps = calloc(room + 1, sizeof(*gaps));

	memset(out, 0, sizeof(*out));
	if (!gaps)
		return -ENOMEM;
	for (size_t i = 0; i < steps->count; i++) {
		const struct batch_step *step = &steps->steps[i];

		if (!counts(steps, i, choice))
			continue;
		for (uint32_t k = 0; k < step->decode_count; k++)
			gaps[count++] =
				(double)(step->end_ns - step[-1].end_ns) / 1e9;
	}
	if (count)
		serve_figures_of(gaps, count, out);
	free(gaps);
	return 0;
}

int batch_steps_errors(const struct batch_steps *steps,
	const struct batch_choice *choice, struct serve_figures *out)
{
	double *shares = calloc(steps->count + 1, sizeof(*shares));
	size_t count = 0;

	memset(out, 0, sizeof(*out));
	if (!shares)
		return -ENOMEM;
	for (size_t i = 0; i < steps->count; i++) {
		const struct batch_step *step = &steps->steps[i];

		if (counts(steps, i, choice) && step->predicted_ns)
			shares[count++] = (double)step->took_ns /
					  (double)step->predicted_ns;
	}
	if (count)
		serve_figures_of(shares, count, out);
	free(shares);
	return 0;
}
