/* step.c - what one step of the engine is (scheduler -> forward -> sampling) */
/* SPDX-License-Identifier: Apache-2.0 */
#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "engine/step.h"

/* Zeroed array of count elements; *failed remembers a failure. */
static void *take(size_t count, size_t size_bytes, bool *failed)
{
	void *memory = calloc(count ? count : 1, size_bytes);

	if (!memory)
		*failed = true;
	return memory;
}

int step_init(struct step *step, const struct step_capacity *capacity)
{
	bool failed = false;
	size_t rows = capacity->row_count;
	size_t samples = capacity->sample_count;
	size_t table;

	assert(rows > 0 && rows <= STEP_ROW_COUNT_MAX);
	assert(capacity->sequence_count > 0 &&
		capacity->sequence_count <= STEP_SEQUENCE_COUNT_MAX);
	*step = (struct step){.capacity = *capacity};
	if (!mul_ok(capacity->sequence_count, capacity->table_stride, &table))
		return -ENOMEM;
	step->token = take(rows, sizeof(uint32_t), &failed);
	step->position = take(rows, sizeof(uint32_t), &failed);
	step->sequence = take(rows, sizeof(uint32_t), &failed);
	step->instance = take(rows, sizeof(uint32_t), &failed);
	step->lora = take(rows, sizeof(uint32_t), &failed);
	step->block_table = take(table, sizeof(uint32_t), &failed);
	step->page_count =
		take(capacity->sequence_count, sizeof(uint32_t), &failed);
	step->sample_row = take(samples, sizeof(uint32_t), &failed);
	step->sample = take(samples, sizeof(*step->sample), &failed);
	step->result = take(samples, sizeof(*step->result), &failed);
	if (failed) {
		step_release(step);
		return -ENOMEM;
	}
	return 0;
}

void step_release(struct step *step)
{
	free(step->token);
	free(step->position);
	free(step->sequence);
	free(step->instance);
	free(step->lora);
	free(step->block_table);
	free(step->page_count);
	free(step->sample_row);
	free(step->sample);
	free(step->result);
	*step = (struct step){0};
}

void step_clear(struct step *step, uint64_t epoch, uint32_t rank)
{
	step->epoch = epoch;
	step->rank = rank;
	step->row_count = 0;
	step->sequence_count = 0;
	step->page_count_max = 0;
	step->sample_count = 0;
	step->has_lora = false;
}

uint32_t step_add_row(struct step *step, uint32_t token, uint32_t position,
	uint32_t sequence, uint32_t instance)
{
	uint32_t row = step->row_count++;

	assert(row < step->capacity.row_count);
	step->token[row] = token;
	step->position[row] = position;
	step->sequence[row] = sequence;
	step->instance[row] = instance;
	step->lora[row] = LORA_NONE;
	return row;
}

uint32_t step_add_sequence(
	struct step *step, const uint32_t *pages, uint32_t page_count)
{
	uint32_t sequence = step->sequence_count++;
	uint32_t *table;

	assert(sequence < step->capacity.sequence_count);
	assert(page_count <= step->capacity.table_stride);
	table = step->block_table +
		(size_t)sequence * step->capacity.table_stride;
	memcpy(table, pages, page_count * sizeof(*table));
	step->page_count[sequence] = page_count;
	if (page_count > step->page_count_max)
		step->page_count_max = page_count;
	return sequence;
}

uint32_t step_add_sample(
	struct step *step, uint32_t row, const struct sample_params *params)
{
	uint32_t sample = step->sample_count++;

	assert(sample < step->capacity.sample_count);
	step->sample_row[sample] = row;
	step->sample[sample] = *params;
	return sample;
}

/* Does the position of a row have pages? */
static int check_pages(const struct step *step,
	const struct step_bounds *bounds, uint32_t row, struct error *err)
{
	uint32_t position = step->position[row];
	uint32_t first =
		position / bounds->block_tokens * bounds->pages_per_block;
	uint32_t sequence = step->sequence[row];
	const uint32_t *table = step->block_table +
				(size_t)sequence * step->capacity.table_stride +
				first;

	if (first + bounds->pages_per_block > step->page_count[sequence])
		return error_set(err, EINVAL,
			"step row %u: position %u lies "
			"beyond the block table",
			row, position);
	for (uint32_t i = 0; i < bounds->pages_per_block; i++)
		if (table[i] >= bounds->page_count)
			return error_set(err, EINVAL,
				"step row %u: position "
				"%u has no page in the block table",
				row, position);
	return 0;
}

static int check_row(const struct step *step, const struct step_bounds *bounds,
	uint32_t row, struct error *err)
{
	uint32_t position = step->position[row];
	uint32_t sequence = step->sequence[row];

	if (step->token[row] >= bounds->vocab)
		return error_set(err, EINVAL,
			"step row %u: token %u, but the "
			"vocabulary has %u",
			row, step->token[row], bounds->vocab);
	if (position >= bounds->position_count)
		return error_set(err, EINVAL,
			"step row %u: position %u, but "
			"the model has %u",
			row, position, bounds->position_count);
	if (sequence >= step->sequence_count)
		return error_set(err, EINVAL, "step row %u: sequence %u of %u",
			row, sequence, step->sequence_count);
	if (step->instance[row] >= bounds->instance_count ||
		!bounds->published[step->instance[row]])
		return error_set(err, EINVAL,
			"step row %u: adapter instance "
			"%u is not published",
			row, step->instance[row]);
	return 0;
}

/* Rows that stand in the block of the row before need no second look. */
static int check_rows(const struct step *step, const struct step_bounds *bounds,
	struct error *err)
{
	uint32_t sequence = UINT32_MAX; /* of the block looked at last */
	uint32_t first = 0; /* its first position */

	for (uint32_t row = 0; row < step->row_count; row++) {
		int rc = check_row(step, bounds, row, err);
		bool known = step->sequence[row] == sequence &&
			     step->position[row] - first < bounds->block_tokens;

		if (rc == 0 && !known)
			rc = check_pages(step, bounds, row, err);
		if (rc)
			return rc;
		if (known)
			continue;
		sequence = step->sequence[row];
		first = step->position[row] -
			step->position[row] % bounds->block_tokens;
	}
	return 0;
}

/* Rows of one sequence stand together, at consecutive positions. */
static int check_order(const struct step *step, struct error *err)
{
	uint8_t seen[STEP_SEQUENCE_COUNT_MAX] = {0};

	for (uint32_t row = 0; row < step->row_count; row++) {
		uint32_t sequence = step->sequence[row];
		bool goes_on = row > 0 && step->sequence[row - 1] == sequence;

		if (!goes_on && seen[sequence])
			return error_set(err, EINVAL,
				"step row %u: sequence "
				"%u appears twice",
				row, sequence);
		seen[sequence] = 1;
		if (goes_on &&
			step->position[row] != step->position[row - 1] + 1)
			return error_set(err, EINVAL,
				"step row %u: position "
				"%u does not follow %u",
				row, step->position[row],
				step->position[row - 1]);
	}
	return 0;
}

int step_check(const struct step *step, const struct step_bounds *bounds,
	struct error *err)
{
	int rc;

	if (step->row_count > step->capacity.row_count ||
		step->sequence_count > step->capacity.sequence_count ||
		step->sample_count > step->capacity.sample_count)
		return error_set(err, EINVAL,
			"step: %u rows, %u sequences, "
			"%u samples exceed its capacity",
			step->row_count, step->sequence_count,
			step->sample_count);
	rc = check_rows(step, bounds, err);
	if (rc)
		return rc;
	for (uint32_t i = 0; i < step->sample_count; i++)
		if (step->sample_row[i] >= step->row_count)
			return error_set(err, EINVAL,
				"step sample %u: row %u "
				"of %u",
				i, step->sample_row[i], step->row_count);
	return check_order(step, err);
}
