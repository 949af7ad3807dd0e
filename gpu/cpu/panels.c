/* panels.c - repacking a matrix (rows as in a checkpoint <-> panels) */
/* SPDX-License-Identifier: Apache-2.0 */
#include <assert.h>
#include <stdbool.h>
#include <string.h>

#include "gpu/cpu/panels.h"
#include "gpu/cpu/panels_turn.h"

/* Rows of the source that are laid out together as a matrix [n][k]. */
struct part {
	uint32_t first; /* row of the source */
	uint32_t rows;
	bool across; /* outputs are the source's columns */
	size_t n, k;
	bool paired; /* columns k in pairs */
	size_t size; /* bytes of an element */
	size_t begin; /* its first element in memory */
	unsigned char *out; /* the matrix, where it is written */
};

typedef uint16_t octet __attribute__((vector_size(16)));

static void check(const struct panels *panels)
{
	assert(panels->type == DTYPE_F32 || panels->type == DTYPE_BF16 ||
		panels->type == DTYPE_F16 || panels->layout == WEIGHT_ROWS);
	assert(panels->layout < WEIGHT_LAYOUT_COUNT);
	if (panels->layout == WEIGHT_MLA_PANELS) {
		assert(panels->nope + panels->value > 0);
		assert(panels->rows % (panels->nope + panels->value) == 0);
	}
}

static struct part part_of(const struct panels *panels, uint32_t row)
{
	struct part part = {
		.rows = panels->rows,
		.paired = panels->type == DTYPE_BF16,
		.size = dtype_size(panels->type),
	};

	if (panels->layout == WEIGHT_MLA_PANELS) {
		uint32_t rest = row % (panels->nope + panels->value);

		part.across = rest < panels->nope;
		part.first = row - rest + (part.across ? 0 : panels->nope);
		part.rows = part.across ? panels->nope : panels->value;
	}
	part.n = part.across ? panels->cols : part.rows;
	part.k = part.across ? part.rows : panels->cols;
	part.begin = (size_t)part.first * panels->cols;
	return part;
}

/* Outputs of the panel that holds output n. */
static size_t panel_width(const struct part *part, size_t n)
{
	size_t rest = part->n - n / PANEL_ROWS * PANEL_ROWS;

	return rest < PANEL_ROWS ? rest : PANEL_ROWS;
}

/* Does column k share its places with its neighbour? */
static bool in_pair(const struct part *part, size_t k)
{
	return part->paired && (k | 1) < part->k;
}

/* Place of element (n, k) of the part, in elements of the matrix. */
static size_t place(const struct part *part, size_t n, size_t k)
{
	size_t lane = n % PANEL_ROWS;
	size_t width = panel_width(part, n);
	size_t at = part->begin + (n - lane) * part->k;

	if (in_pair(part, k))
		return at + k / 2 * 2 * width + lane * 2 + k % 2;
	return at + k * width + lane;
}

/* `count` elements of `size` bytes, `step` bytes apart in out. */
static void scatter(unsigned char *out, size_t step, const unsigned char *data,
	size_t size, size_t count)
{
	if (step == size)
		memcpy(out, data, count * size);
	else if (size == 2)
		for (size_t i = 0; i < count; i++)
			memcpy(out + i * step, data + 2 * i, 2);
	else
		for (size_t i = 0; i < count; i++)
			memcpy(out + i * step, data + 4 * i, 4);
}

/* The reverse. */
static void gather(unsigned char *out, const unsigned char *data, size_t step,
	size_t size, size_t count)
{
	for (size_t i = 0; i < count; i++)
		memcpy(out + i * size, data + i * step, size);
}

/*
 * How far a run of elements of row `row` from column `col` on goes by equal
 * steps: elements of `unit` bytes (one or a pair), *count of them, at most
 * `limit` columns in all; returns where it begins.
 */
struct run {
	size_t at; /* bytes from the beginning of the matrix */
	size_t unit, step, count;
};

static struct run run_of(
	const struct part *part, uint32_t row, size_t col, size_t limit)
{
	size_t size = part->size;
	struct run run = {.unit = size};

	row -= part->first;
	if (part->across) {
		size_t rest = PANEL_ROWS - col % PANEL_ROWS;

		run.at = place(part, col, row) * size;
		run.step = in_pair(part, row) ? 2 * size : size;
		run.count = limit < rest ? limit : rest;
		return run;
	}
	run.at = place(part, row, col) * size;
	run.step = panel_width(part, row) * size;
	run.count = limit;
	if (!part->paired)
		return run;
	if (limit > 1 && col % 2 == 0) {
		run.unit = 2 * size;
		run.step *= 2;
		run.count = limit / 2;
	} else {
		run.count = 1;
	}
	return run;
}

/* Columns col .. col + count - 1 of one row. */
static void put_row(const struct part *part, uint32_t row, size_t col,
	size_t count, const unsigned char *data)
{
	while (count > 0) {
		struct run run = run_of(part, row, col, count);
		size_t done = run.count * (run.unit / part->size);

		scatter(part->out + run.at, run.step, data, run.unit,
			run.count);
		data += done * part->size;
		col += done;
		count -= done;
	}
}

/* Sixteen whole rows, the outputs of one panel. */
static void put_panel(
	const struct part *part, uint32_t row, const unsigned char *data)
{
	unsigned char *out =
		part->out + place(part, row - part->first, 0) * part->size;
	size_t cols = part->k;
	size_t stride = cols * part->size;

	if (part->size == 4) {
		panels_turn_words(out, data, stride, cols);
		return;
	}
	if (!part->paired) {
		panels_turn_halves(out, data, stride, cols);
		return;
	}
	panels_turn_words(out, data, stride, cols / 2);
	for (uint32_t i = 0; cols % 2 && i < PANEL_ROWS; i++)
		put_row(part, row + i, cols - 1, 1,
			data + i * stride + 2 * (cols - 1));
}

/* Two whole rows of which every output takes a pair of inputs. */
static void put_pair(
	const struct part *part, uint32_t row, const unsigned char *data)
{
	const unsigned char *other = data + part->n * 2;
	uint32_t k = row - part->first;
	size_t n = 0;

	for (; n + PANEL_ROWS <= part->n; n += PANEL_ROWS) {
		unsigned char *out = part->out + place(part, n, k) * 2;

		for (size_t i = 0; i < PANEL_ROWS; i += 8) {
			octet a, b, low, high;

			memcpy(&a, data + 2 * (n + i), sizeof(a));
			memcpy(&b, other + 2 * (n + i), sizeof(b));
			low = __builtin_shufflevector(
				a, b, 0, 8, 1, 9, 2, 10, 3, 11);
			high = __builtin_shufflevector(
				a, b, 4, 12, 5, 13, 6, 14, 7, 15);
			memcpy(out + 4 * i, &low, sizeof(low));
			memcpy(out + 4 * i + 16, &high, sizeof(high));
		}
	}
	put_row(part, row, n, part->n - n, data + 2 * n);
	put_row(part, row + 1, n, part->n - n, other + 2 * n);
}

/* As many whole rows as go together, at most `rows`; how many that were. */
static uint32_t put_whole(const struct part *part, uint32_t row, size_t rows,
	const unsigned char *data)
{
	uint32_t rest = part->first + part->rows - row;

	if (rest < rows)
		rows = rest;
	if (!part->across && rows >= PANEL_ROWS &&
		(row - part->first) % PANEL_ROWS == 0) {
		put_panel(part, row, data);
		return PANEL_ROWS;
	}
	if (part->across && part->paired && rows >= 2 &&
		(row - part->first) % 2 == 0) {
		put_pair(part, row, data);
		return 2;
	}
	put_row(part, row, 0, part->across ? part->n : part->k, data);
	return 1;
}

void panels_put(const struct panels *panels, void *out, size_t first,
	size_t count, const void *data)
{
	const unsigned char *from = data;
	size_t size = dtype_size(panels->type);
	size_t cols = panels->cols;

	check(panels);
	assert(first <= (size_t)panels->rows * cols &&
		count <= (size_t)panels->rows * cols - first);
	if (panels->layout == WEIGHT_ROWS) {
		memcpy((unsigned char *)out + first * size, data, count * size);
		return;
	}
	assert(cols > 0);
	while (count > 0) {
		uint32_t row = (uint32_t)(first / cols);
		struct part part = part_of(panels, row);
		size_t col = first % cols;
		size_t done = cols - col < count ? cols - col : count;

		part.out = out;
		if (done == cols)
			done = cols * put_whole(&part, row, count / cols, from);
		else
			put_row(&part, row, col, done, from);
		first += done;
		count -= done;
		from += done * size;
	}
	panels_turn_end();
}

size_t panels_index(const struct panels *panels, uint32_t row, uint32_t col)
{
	struct part part;
	uint32_t rest;

	check(panels);
	assert(row < panels->rows && col < panels->cols);
	if (panels->layout == WEIGHT_ROWS)
		return (size_t)row * panels->cols + col;
	part = part_of(panels, row);
	rest = row - part.first;
	return part.across ? place(&part, col, rest) : place(&part, rest, col);
}

void panels_row(
	const struct panels *panels, const void *data, uint32_t row, void *out)
{
	const unsigned char *from = data;
	size_t size = dtype_size(panels->type);
	size_t cols = panels->cols;
	unsigned char *to = out;
	struct part part;

	check(panels);
	assert(row < panels->rows);
	if (panels->layout == WEIGHT_ROWS) {
		memcpy(out, from + row * cols * size, cols * size);
		return;
	}
	part = part_of(panels, row);
	for (size_t col = 0; col < cols;) {
		struct run run = run_of(&part, row, col, cols - col);
		size_t done = run.count * (run.unit / size);

		gather(to + col * size, from + run.at, run.step, run.unit,
			run.count);
		col += done;
	}
}
