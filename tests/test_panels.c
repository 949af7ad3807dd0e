/* test_panels.c - repacking in pieces, against the formula */
/* SPDX-License-Identifier: Apache-2.0 */
#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#include "gpu/cpu/panels.h"
#include "tests/ops_case.h"
#include "tests/suite.h"

#define ROUNDS 60

/* A panel layout [n][k]: base/weight_format.h, word for word. */
static size_t panel_index(
	size_t n_count, size_t k_count, enum dtype type, size_t n, size_t k)
{
	size_t p = n / 16;
	size_t w = n_count - 16 * p < 16 ? n_count - 16 * p : 16;
	size_t begin = 16 * p * k_count;

	if (type == DTYPE_BF16 && !(k_count % 2 == 1 && k == k_count - 1))
		return begin + k / 2 * 2 * w + n % 16 * 2 + k % 2;
	return begin + k * w + n % 16;
}

static size_t naive_index(const struct panels *panels, size_t row, size_t col)
{
	size_t head = (size_t)panels->nope + panels->value;
	size_t cols = panels->cols;
	size_t begin, rest;

	if (panels->layout == WEIGHT_ROWS)
		return row * cols + col;
	if (panels->layout == WEIGHT_PANELS)
		return panel_index(panels->rows, cols, panels->type, row, col);
	begin = row / head * head * cols;
	rest = row % head;
	if (rest < panels->nope)
		return begin +
		       panel_index(cols, panels->nope, panels->type, col, rest);
	return begin + panels->nope * cols +
	       panel_index(panels->value, cols, panels->type,
		       rest - panels->nope, col);
}

static struct panels random_shape(struct pool *pool, uint32_t i)
{
	struct panels panels = {
		.layout = (enum weight_layout)(i % WEIGHT_LAYOUT_COUNT),
		.type = case_type(i / WEIGHT_LAYOUT_COUNT),
		.rows = 1 + suite_below(&pool->random, 90),
		.cols = 1 + suite_below(&pool->random, i % 2 ? 40 : 300),
	};

	if (panels.layout == WEIGHT_MLA_PANELS) {
		panels.nope = suite_below(&pool->random, 50);
		panels.value = 1 + suite_below(&pool->random, 50);
		panels.rows = (panels.nope + panels.value) *
			      (1 + suite_below(&pool->random, 3));
	}
	return panels;
}

static size_t element_count(const struct panels *panels)
{
	return (size_t)panels->rows * panels->cols;
}

/* Random bytes: a conversion on the way would change some. */
static unsigned char *random_matrix(
	struct pool *pool, const struct panels *panels)
{
	size_t bytes = element_count(panels) * dtype_size(panels->type);
	unsigned char *data = pool_get(pool, bytes);

	for (size_t i = 0; i < bytes; i++)
		data[i] = (unsigned char)suite_random(&pool->random);
	return data;
}

/* Every element of source is where the formula says. */
static bool is_packed(const struct panels *panels, const unsigned char *packed,
	const unsigned char *source)
{
	size_t size = dtype_size(panels->type);

	for (size_t row = 0; row < panels->rows; row++)
		for (size_t col = 0; col < panels->cols; col++)
			if (memcmp(packed + naive_index(panels, row, col) *
						    size,
				    source + (row * panels->cols + col) * size,
				    size) != 0)
				return false;
	return true;
}

static void test_panels_index__is_the_formula(void)
{
	struct pool pool;

	pool_init(&pool, suite_seed(1));
	for (uint32_t i = 0; i < ROUNDS; i++) {
		struct panels panels = random_shape(&pool, i);
		uint32_t wrong = 0;

		for (uint32_t row = 0; row < panels.rows; row++)
			for (uint32_t col = 0; col < panels.cols; col++)
				wrong += panels_index(&panels, row, col) !=
					 naive_index(&panels, row, col);
		CU_ASSERT_EQUAL(wrong, 0);
	}
	pool_release(&pool);
}

static void test_panels_put__whole_matrix(void)
{
	uint64_t seed = suite_seed(2);

	for (uint32_t i = 0; i < ROUNDS; i++) {
		struct pool pool;
		struct panels panels;
		unsigned char *source, *packed;

		pool_init(&pool, seed + i);
		panels = random_shape(&pool, i);
		source = random_matrix(&pool, &panels);
		packed = random_matrix(&pool, &panels);
		panels_put(&panels, packed, 0, element_count(&panels), source);
		CU_ASSERT(is_packed(&panels, packed, source));
		pool_release(&pool);
	}
}

/* How lines are stored depends on where they begin. */
static void test_panels_put__at_any_place(void)
{
	static const size_t starts[] = {0, 4, 16, 32, 48, 60};
	uint64_t seed = suite_seed(6);

	for (uint32_t i = 0; i < 6 * sizeof(starts) / sizeof(*starts); i++) {
		struct pool pool;
		struct panels panels = {
			.layout = WEIGHT_PANELS,
			.type = case_type(i),
			.rows = 48,
			.cols = 67,
		};
		unsigned char *source, *packed, *room;

		pool_init(&pool, seed + i);
		source = random_matrix(&pool, &panels);
		room = pool_get(&pool, element_count(&panels) * 4 + 128);
		packed = room + -(uintptr_t)room % 64 + starts[i / 6];
		panels_put(&panels, packed, 0, element_count(&panels), source);
		CU_ASSERT(is_packed(&panels, packed, source));
		pool_release(&pool);
	}
}

/* Piece ends: random, in the order of the matrix; the last is the count. */
static uint32_t random_pieces(
	struct pool *pool, size_t count, size_t piece_max, size_t *end)
{
	uint32_t pieces = 0;
	size_t at = 0;

	while (at < count) {
		at += suite_below(&pool->random, (uint32_t)piece_max + 1);
		end[pieces++] = at < count ? at : count;
	}
	return pieces;
}

/* Each piece ends where memory does; pieces come in any order. */
static void test_panels_put__pieces_in_any_order(void)
{
	static size_t end[64 << 10];
	uint64_t seed = suite_seed(3);

	for (uint32_t i = 0; i < 3 * ROUNDS; i++) {
		struct pool pool;
		struct panels panels;
		unsigned char *source, *packed;
		uint32_t *order, pieces;
		size_t count, size;

		pool_init(&pool, seed + i);
		panels = random_shape(&pool, i);
		count = element_count(&panels);
		size = dtype_size(panels.type);
		source = random_matrix(&pool, &panels);
		packed = random_matrix(&pool, &panels);
		pieces = random_pieces(&pool, count,
			i % 4 ? count / (i % 4) + 1 : (size_t)3 * panels.cols,
			end);
		order = pool_shuffle(&pool, pieces);
		for (uint32_t p = 0; p < pieces; p++) {
			size_t first = order[p] ? end[order[p] - 1] : 0;
			size_t here = end[order[p]] - first;
			struct pool one;
			void *piece;

			pool_init(&one, 0);
			piece = pool_get(&one, here * size);
			memcpy(piece, source + first * size, here * size);
			panels_put(&panels, packed, first, here, piece);
			pool_release(&one);
		}
		CU_ASSERT(is_packed(&panels, packed, source));
		pool_release(&pool);
	}
}

/* A piece touches the places of its own elements alone. */
static void test_panels_put__others_stay(void)
{
	uint64_t seed = suite_seed(4);

	for (uint32_t i = 0; i < 3 * ROUNDS; i++) {
		struct pool pool;
		struct panels panels;
		unsigned char *source, *packed, *before;
		size_t count, size, first, here;
		uint32_t wrong = 0;

		pool_init(&pool, seed + i);
		panels = random_shape(&pool, i);
		count = element_count(&panels);
		size = dtype_size(panels.type);
		source = random_matrix(&pool, &panels);
		packed = random_matrix(&pool, &panels);
		before = memcpy(
			pool_get(&pool, count * size), packed, count * size);
		first = suite_below(&pool.random, (uint32_t)count);
		here = suite_below(&pool.random, (uint32_t)(count - first) + 1);
		panels_put(&panels, packed, first, here, source + first * size);
		for (size_t e = 0; e < count; e++) {
			size_t at = size * naive_index(&panels, e / panels.cols,
						   e % panels.cols);
			bool own = e >= first && e < first + here;

			wrong += memcmp(packed + at,
					 own ? source + e * size : before + at,
					 size) != 0;
		}
		CU_ASSERT_EQUAL(wrong, 0);
		pool_release(&pool);
	}
}

static void test_panels_row__comes_back(void)
{
	uint64_t seed = suite_seed(5);

	for (uint32_t i = 0; i < ROUNDS; i++) {
		struct pool pool;
		struct panels panels;
		unsigned char *source, *packed, *row;
		size_t bytes;

		pool_init(&pool, seed + i);
		panels = random_shape(&pool, i);
		bytes = panels.cols * dtype_size(panels.type);
		source = random_matrix(&pool, &panels);
		packed = random_matrix(&pool, &panels);
		row = pool_get(&pool, bytes);
		panels_put(&panels, packed, 0, element_count(&panels), source);
		for (uint32_t r = 0; r < panels.rows; r++) {
			panels_row(&panels, packed, r, row);
			CU_ASSERT_EQUAL(
				memcmp(row, source + r * bytes, bytes), 0);
		}
		pool_release(&pool);
	}
}

static const struct suite_case cases[] = {
	SUITE_CASE(panels_index__is_the_formula),
	SUITE_CASE(panels_put__whole_matrix),
	SUITE_CASE(panels_put__at_any_place),
	SUITE_CASE(panels_put__pieces_in_any_order),
	SUITE_CASE(panels_put__others_stay),
	SUITE_CASE(panels_row__comes_back),
};

int main(void)
{
	return SUITE_MAIN("panels", cases);
}
