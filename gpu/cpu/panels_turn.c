/* panels_turn.c - sixteen rows of a checkpoint become a panel */
/* SPDX-License-Identifier: Apache-2.0 */
#include <stdbool.h>
#include <stdint.h>
#include <string.h>
#ifdef __x86_64__
#include <immintrin.h>
#endif

#include "base/weight_format.h"
#include "gpu/cpu/panels_turn.h"

#define LINE_BYTES ((size_t)64) /* of the first cache */
/* One line of each row: as many bytes of the panel, in one piece. */
#define BLOCK_BYTES (PANEL_ROWS * LINE_BYTES)

typedef uint32_t quad __attribute__((vector_size(16)));
typedef uint16_t octet __attribute__((vector_size(16)));

_Static_assert(PANEL_ROWS == 16, "squares of 4 and 8 rows, lines of 16 words");

/* The same places of the rows that come next, into the second cache. */
static void ask_for_next(const unsigned char *data, size_t stride, size_t rows)
{
	for (size_t i = 0; i < rows; i++)
		__builtin_prefetch(data + (PANEL_ROWS + i) * stride, 0, 2);
}

#ifdef __x86_64__

static void store_block(unsigned char *out, const unsigned char *block)
{
	if ((uintptr_t)out % sizeof(__m128i) != 0) {
		memcpy(out, block, BLOCK_BYTES);
		return;
	}
	for (size_t i = 0; i < BLOCK_BYTES; i += sizeof(__m128i))
		_mm_stream_si128((void *)(out + i),
			_mm_load_si128((const void *)(block + i)));
}

void panels_turn_end(void)
{
	_mm_sfence();
}

#else

static void store_block(unsigned char *out, const unsigned char *block)
{
	memcpy(out, block, BLOCK_BYTES);
}

void panels_turn_end(void)
{
}

#endif

/* The last `count` elements of each row, too few for a block. */
static void turn_rest(unsigned char *out, const unsigned char *data,
	size_t stride, size_t size, size_t count)
{
	for (size_t n = 0; n < PANEL_ROWS; n++)
		for (size_t i = 0; i < count; i++)
			memcpy(out + (i * PANEL_ROWS + n) * size,
				data + n * stride + i * size, size);
}

static quad load_quad(const unsigned char *from)
{
	quad value;

	memcpy(&value, from, sizeof(value));
	return value;
}

/* A square of 4 rows of 4 words; a column goes to each 64 bytes of out. */
static void turn_words(
	unsigned char *out, const unsigned char *data, size_t stride)
{
	quad a = load_quad(data), b = load_quad(data + stride);
	quad c = load_quad(data + 2 * stride), d = load_quad(data + 3 * stride);
	quad ab = __builtin_shufflevector(a, b, 0, 4, 1, 5);
	quad cd = __builtin_shufflevector(c, d, 0, 4, 1, 5);
	quad ab_high = __builtin_shufflevector(a, b, 2, 6, 3, 7);
	quad cd_high = __builtin_shufflevector(c, d, 2, 6, 3, 7);
	quad column[4] = {
		__builtin_shufflevector(ab, cd, 0, 1, 4, 5),
		__builtin_shufflevector(ab, cd, 2, 3, 6, 7),
		__builtin_shufflevector(ab_high, cd_high, 0, 1, 4, 5),
		__builtin_shufflevector(ab_high, cd_high, 2, 3, 6, 7),
	};

	for (size_t i = 0; i < 4; i++)
		memcpy(out + 64 * i, &column[i], sizeof(quad));
}

/*
 * Each row's line is used up before the next rows are touched: rows are often
 * a multiple of 4 KiB apart, where the first cache has room for few of them.
 */
static void words_by_quads(unsigned char *out, const unsigned char *data,
	size_t stride, size_t count)
{
	_Alignas(LINE_BYTES) unsigned char block[BLOCK_BYTES];

	for (size_t k = 0; k < count; k += 16) {
		for (size_t n = 0; n < 16; n += 4) {
			const unsigned char *rows = data + n * stride + 4 * k;

			for (size_t j = 0; j < 16; j += 4)
				turn_words(block + 64 * j + 4 * n, rows + 4 * j,
					stride);
			ask_for_next(rows, stride, 4);
		}
		store_block(out + 64 * k, block);
	}
}

/* A square of 8 rows of 8 halves; a column goes to each 32 bytes of out. */
static void turn_halves(
	unsigned char *out, const unsigned char *data, size_t stride)
{
	octet a[8], b[8];

	for (size_t i = 0; i < 8; i++)
		memcpy(&a[i], data + i * stride, sizeof(octet));
	for (size_t i = 0; i < 4; i++) {
		b[2 * i] = __builtin_shufflevector(
			a[i], a[i + 4], 0, 8, 1, 9, 2, 10, 3, 11);
		b[2 * i + 1] = __builtin_shufflevector(
			a[i], a[i + 4], 4, 12, 5, 13, 6, 14, 7, 15);
	}
	for (size_t i = 0; i < 4; i++) {
		a[2 * i] = __builtin_shufflevector(
			b[i], b[i + 4], 0, 8, 1, 9, 2, 10, 3, 11);
		a[2 * i + 1] = __builtin_shufflevector(
			b[i], b[i + 4], 4, 12, 5, 13, 6, 14, 7, 15);
	}
	for (size_t i = 0; i < 4; i++) {
		b[2 * i] = __builtin_shufflevector(
			a[i], a[i + 4], 0, 8, 1, 9, 2, 10, 3, 11);
		b[2 * i + 1] = __builtin_shufflevector(
			a[i], a[i + 4], 4, 12, 5, 13, 6, 14, 7, 15);
	}
	for (size_t i = 0; i < 8; i++)
		memcpy(out + 32 * i, &b[i], sizeof(octet));
}

void panels_turn_halves(unsigned char *out, const unsigned char *data,
	size_t stride, size_t count)
{
	_Alignas(LINE_BYTES) unsigned char block[BLOCK_BYTES];
	size_t whole = count / 32 * 32;

	for (size_t k = 0; k < whole; k += 32) {
		for (size_t n = 0; n < 16; n += 8) {
			const unsigned char *rows = data + n * stride + 2 * k;

			for (size_t j = 0; j < 32; j += 8)
				turn_halves(block + 32 * j + 2 * n,
					rows + 2 * j, stride);
			ask_for_next(rows, stride, 8);
		}
		store_block(out + 32 * k, block);
	}
	turn_rest(out + 32 * whole, data + 2 * whole, stride, 2, count - whole);
}

#ifdef __x86_64__

#define LINES __attribute__((target("avx512f"))) static inline

/* Of each four rows: 128 bits with the words of a column, then the next. */
LINES void turn_fours(__m512i row[16])
{
	for (size_t i = 0; i < 16; i += 4) {
		__m512i ab = _mm512_unpacklo_epi32(row[i], row[i + 1]);
		__m512i ab_high = _mm512_unpackhi_epi32(row[i], row[i + 1]);
		__m512i cd = _mm512_unpacklo_epi32(row[i + 2], row[i + 3]);
		__m512i cd_high = _mm512_unpackhi_epi32(row[i + 2], row[i + 3]);

		row[i] = _mm512_unpacklo_epi64(ab, cd);
		row[i + 1] = _mm512_unpackhi_epi64(ab, cd);
		row[i + 2] = _mm512_unpacklo_epi64(ab_high, cd_high);
		row[i + 3] = _mm512_unpackhi_epi64(ab_high, cd_high);
	}
}

/* The columns i, i + 4, i + 8 and i + 12 of all sixteen rows, stored. */
LINES void store_columns(unsigned char *out, const __m512i row[16], size_t i)
{
	__m512i low_a = _mm512_shuffle_i32x4(row[i], row[i + 4], 0x44);
	__m512i low_b = _mm512_shuffle_i32x4(row[i + 8], row[i + 12], 0x44);
	__m512i high_a = _mm512_shuffle_i32x4(row[i], row[i + 4], 0xee);
	__m512i high_b = _mm512_shuffle_i32x4(row[i + 8], row[i + 12], 0xee);
	unsigned char *to = out + LINE_BYTES * i;

	_mm512_stream_si512(
		(void *)to, _mm512_shuffle_i32x4(low_a, low_b, 0x88));
	_mm512_stream_si512((void *)(to + 4 * LINE_BYTES),
		_mm512_shuffle_i32x4(low_a, low_b, 0xdd));
	_mm512_stream_si512((void *)(to + 8 * LINE_BYTES),
		_mm512_shuffle_i32x4(high_a, high_b, 0x88));
	_mm512_stream_si512((void *)(to + 12 * LINE_BYTES),
		_mm512_shuffle_i32x4(high_a, high_b, 0xdd));
}

/* A line of a row in a register, and of the panel. */
__attribute__((target("avx512f"))) static void words_by_lines(
	unsigned char *out, const unsigned char *data, size_t stride,
	size_t count)
{
	for (size_t k = 0; k < count; k += 16) {
		const unsigned char *rows = data + 4 * k;
		__m512i row[16];

		for (size_t i = 0; i < 16; i++)
			row[i] = _mm512_loadu_si512(rows + i * stride);
		ask_for_next(rows, stride, PANEL_ROWS);
		turn_fours(row);
		for (size_t i = 0; i < 4; i++)
			store_columns(out + LINE_BYTES * k, row, i);
	}
}

static bool has_lines(const unsigned char *out)
{
	return (uintptr_t)out % LINE_BYTES == 0 &&
	       __builtin_cpu_supports("avx512f");
}

#endif

void panels_turn_words(unsigned char *out, const unsigned char *data,
	size_t stride, size_t count)
{
	size_t whole = count / 16 * 16;

#ifdef __x86_64__
	if (has_lines(out))
		words_by_lines(out, data, stride, whole);
	else
#endif
		words_by_quads(out, data, stride, whole);
	turn_rest(out + 64 * whole, data + 4 * whole, stride, 4, count - whole);
}
