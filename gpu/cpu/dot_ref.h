/* dot_ref.h - sums in the fixed order of gpu/ops.h (numbers -> one float) */
/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Why:        floating point addition is not associative; an output has the
 *             same bits in every batch only if its sum has one order. This
 *             is that order, for all operations of the reference.
 * Order:      k ascends in chunks of DOT_CHUNK. A chunk has DOT_LANES sums
 *             that begin at +0; lane j adds the k with k % DOT_LANES == j in
 *             ascending order. The lanes are added in halves: j with j + 8,
 *             then + 4, + 2, + 1. The chunk's sum is added to the running
 *             sum, which begins at +0. Products are rounded before they are
 *             added: compile with -ffp-contract=off, without -ffast-math.
 *             Lanes are independent, so computing four of them in one
 *             vector changes no bit.
 * Weights:    f32, bf16, f16 and fp8 become float exactly (base/dtype.h).
 * NaN:        a NaN in is a NaN out; which NaN is not specified.
 * Limits:     arrays need only the alignment of their type; not one element
 *             beyond the count is read.
 * Threads:    pure functions.
 */
#ifndef HEDDLE_GPU_CPU_DOT_REF_H
#define HEDDLE_GPU_CPU_DOT_REF_H

#include <assert.h>
#include <stddef.h>
#include <stdint.h>

#include "base/dtype.h"
#include "gpu/ops.h"

#define DOT_CHUNK 256
#define DOT_LANES 16

/* Rows that dot_rows_ref() takes at once. */
#define DOT_ROW_COUNT_MAX 32

/* Address of row `row` of a matrix [..][cols] of `type`. */
static inline const void *row_ref(
	const void *data, enum dtype type, size_t cols, size_t row)
{
	return (const unsigned char *)data + row * cols * dtype_size(type);
}

/* DOT_LANES bf16 numbers as floats: they are the upper halves. */
static inline void bf16_lanes_ref(const uint16_t *from, float *out)
{
	uint32_t bits[DOT_LANES];

	for (size_t j = 0; j < DOT_LANES; j++)
		bits[j] = (uint32_t)from[j] << 16;
	memcpy(out, bits, sizeof(bits));
}

/* Elements first .. first + count - 1 of w as floats, converted into out. */
static inline void convert_ref(
	const void *w, enum dtype type, size_t first, size_t count, float *out)
{
	const uint16_t *bf16 = (const uint16_t *)w + first;
	size_t i = 0;

	if (type == DTYPE_BF16)
		for (; i + DOT_LANES <= count; i += DOT_LANES)
			bf16_lanes_ref(bf16 + i, out + i);
	for (; i < count; i++)
		out[i] = dtype_load(w, type, first + i);
}

/* The same, but f32 stays where it is; buffer has room for count. */
static inline const float *expand_ref(const void *w, enum dtype type,
	size_t first, size_t count, float *buffer)
{
	if (type == DTYPE_F32)
		return (const float *)w + first;
	convert_ref(w, type, first, count, buffer);
	return buffer;
}

static inline float lanes_fold_ref(float lanes[DOT_LANES])
{
	for (size_t half = DOT_LANES / 2; half > 0; half /= 2)
		for (size_t j = 0; j < half; j++)
			lanes[j] += lanes[j + half];
	return lanes[0];
}

/* Lanes j .. j + 3. */
typedef float quad_ref __attribute__((vector_size(4 * sizeof(float))));

static inline quad_ref quad_load_ref(const float *from)
{
	quad_ref quad;

	memcpy(&quad, from, sizeof(quad));
	return quad;
}

/*
 * The sum of one chunk, count <= DOT_CHUNK. The lanes are in four variables,
 * because an array of them would stay in memory.
 */
static inline float dot_chunk_ref(const float *x, const float *w, size_t count)
{
	quad_ref a = {0}, b = {0}, c = {0}, d = {0};
	float lanes[DOT_LANES];
	size_t k = 0;

	for (; k + DOT_LANES <= count; k += DOT_LANES) {
		a += quad_load_ref(x + k) * quad_load_ref(w + k);
		b += quad_load_ref(x + k + 4) * quad_load_ref(w + k + 4);
		c += quad_load_ref(x + k + 8) * quad_load_ref(w + k + 8);
		d += quad_load_ref(x + k + 12) * quad_load_ref(w + k + 12);
	}
	memcpy(lanes, &a, sizeof(a));
	memcpy(lanes + 4, &b, sizeof(b));
	memcpy(lanes + 8, &c, sizeof(c));
	memcpy(lanes + 12, &d, sizeof(d));
	for (size_t j = 0; k + j < count; j++)
		lanes[j] += x[k + j] * w[k + j];
	return lanes_fold_ref(lanes);
}

static inline size_t chunk_count_ref(size_t first, size_t count)
{
	return count - first < DOT_CHUNK ? count - first : DOT_CHUNK;
}

/*
 * out[r] = x[r][0 .. count-1] . w[0 .. count-1] for 1 .. DOT_ROW_COUNT_MAX
 * rows; w is converted once for all of them.
 */
static inline void dot_rows_ref(const float *const *x, uint32_t row_count,
	const void *w, enum dtype type, size_t count, float *out)
{
	float buffer[DOT_CHUNK];

	assert(row_count <= DOT_ROW_COUNT_MAX);
	for (uint32_t r = 0; r < row_count; r++)
		out[r] = 0;
	for (size_t k = 0; k < count; k += DOT_CHUNK) {
		size_t n = chunk_count_ref(k, count);
		const float *part = expand_ref(w, type, k, n, buffer);

		for (uint32_t r = 0; r < row_count; r++)
			out[r] += dot_chunk_ref(x[r] + k, part, n);
	}
}

/* x[0 .. count-1] . w[0 .. count-1]. */
static inline float dot_ref(
	const float *x, const void *w, enum dtype type, size_t count)
{
	float sum;

	dot_rows_ref(&x, 1, w, type, count, &sum);
	return sum;
}

/* x . x, in the order of a dot product. */
static inline float sum_squares_ref(const float *x, size_t count)
{
	return dot_ref(x, x, DTYPE_F32, count);
}

/* Sum of x, in the order of a dot product. */
static inline float sum_ref(const float *x, size_t count)
{
	float sum = 0;

	for (size_t k = 0; k < count; k += DOT_CHUNK) {
		size_t n = chunk_count_ref(k, count);
		float lanes[DOT_LANES] = {0};

		for (size_t i = 0; i < n; i++)
			lanes[i % DOT_LANES] += x[k + i];
		sum += lanes_fold_ref(lanes);
	}
	return sum;
}

/* out[i] += p * w[i], each product rounded first; out must not overlap w. */
static inline void axpy_ref(float p, const void *w, enum dtype type,
	size_t count, float *restrict out)
{
	float buffer[DOT_CHUNK];

	for (size_t k = 0; k < count; k += DOT_CHUNK) {
		size_t n = chunk_count_ref(k, count);
		const float *restrict part = expand_ref(w, type, k, n, buffer);
		float *restrict sum = out + k;
		size_t i = 0;

		for (; i + DOT_LANES <= n; i += DOT_LANES)
			for (size_t j = 0; j < DOT_LANES; j++)
				sum[i + j] += p * part[i + j];
		for (; i < n; i++)
			sum[i] += p * part[i];
	}
}

#endif
