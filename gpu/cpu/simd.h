/* simd.h - sixteen floats at a time, on AVX2 or AVX-512 */
/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Why:        the fast kernels are written once, for vectors of sixteen
 *             floats: one register of AVX-512, two of AVX2. Each file fast_*.c
 *             is compiled once for each instruction set, with FAST_ISA set to
 *             its name.
 * Invariants: every function rounds alike on both, so the two back ends give
 *             the same bits. Products are fused only by vec_fma().
 * Limits:     loads and stores need only the alignment of the element; the
 *             _part forms touch only the first `count` elements, 0 .. 16.
 */
#ifndef HEDDLE_GPU_CPU_SIMD_H
#define HEDDLE_GPU_CPU_SIMD_H

#include <immintrin.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#define VEC_LANES 16

#define FAST_JOIN2(name, isa) name##_##isa
#define FAST_JOIN(name, isa) FAST_JOIN2(name, isa)
/* fast_linear -> fast_linear_avx2 */
#define FAST(name) FAST_JOIN(name, FAST_ISA)

#define VEC_FN static inline __attribute__((always_inline))

#ifdef __AVX512F__

/* Registers that hold sums, and their number: for the shape of a tile. */
#define VEC_REGISTERS 32

struct vec {
	__m512 v;
};

VEC_FN struct vec vec_set(float value)
{
	return (struct vec){_mm512_set1_ps(value)};
}

VEC_FN struct vec vec_load(const float *from)
{
	return (struct vec){_mm512_loadu_ps(from)};
}

VEC_FN __mmask16 vec_mask(size_t count)
{
	return (__mmask16)((1u << count) - 1);
}

VEC_FN struct vec vec_load_part(const float *from, size_t count)
{
	return (struct vec){_mm512_maskz_loadu_ps(vec_mask(count), from)};
}

VEC_FN void vec_store(float *to, struct vec a)
{
	_mm512_storeu_ps(to, a.v);
}

VEC_FN void vec_store_part(float *to, struct vec a, size_t count)
{
	_mm512_mask_storeu_ps(to, vec_mask(count), a.v);
}

VEC_FN struct vec vec_add(struct vec a, struct vec b)
{
	return (struct vec){_mm512_add_ps(a.v, b.v)};
}

VEC_FN struct vec vec_sub(struct vec a, struct vec b)
{
	return (struct vec){_mm512_sub_ps(a.v, b.v)};
}

VEC_FN struct vec vec_mul(struct vec a, struct vec b)
{
	return (struct vec){_mm512_mul_ps(a.v, b.v)};
}

VEC_FN struct vec vec_div(struct vec a, struct vec b)
{
	return (struct vec){_mm512_div_ps(a.v, b.v)};
}

/* b when either is a NaN, as the instruction does. */
VEC_FN struct vec vec_max(struct vec a, struct vec b)
{
	return (struct vec){_mm512_max_ps(a.v, b.v)};
}

VEC_FN struct vec vec_min(struct vec a, struct vec b)
{
	return (struct vec){_mm512_min_ps(a.v, b.v)};
}

/* a * b + c, rounded once. */
VEC_FN struct vec vec_fma(struct vec a, struct vec b, struct vec c)
{
	return (struct vec){_mm512_fmadd_ps(a.v, b.v, c.v)};
}

/* To the nearest whole number, ties to even. */
VEC_FN struct vec vec_round(struct vec a)
{
	return (struct vec){_mm512_roundscale_ps(
		a.v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC)};
}

/* 2^n for whole n in -126 .. 127. */
VEC_FN struct vec vec_pow2(struct vec n)
{
	__m512i bits =
		_mm512_slli_epi32(_mm512_add_epi32(_mm512_cvtps_epi32(n.v),
					  _mm512_set1_epi32(127)),
			23);

	return (struct vec){_mm512_castsi512_ps(bits)};
}

/* a where x >= limit (or x is a NaN), else 0. */
VEC_FN struct vec vec_keep_not_below(
	struct vec a, struct vec x, struct vec limit)
{
	return (struct vec){_mm512_maskz_mov_ps(
		_mm512_cmp_ps_mask(x.v, limit.v, _CMP_NLT_UQ), a.v)};
}

VEC_FN struct vec vec_load_bf16(const uint16_t *from)
{
	__m512i wide = _mm512_cvtepu16_epi32(
		_mm256_loadu_si256((const __m256i *)(const void *)from));

	return (struct vec){_mm512_castsi512_ps(_mm512_slli_epi32(wide, 16))};
}

VEC_FN struct vec vec_load_f16(const uint16_t *from)
{
	return (struct vec){_mm512_cvtph_ps(
		_mm256_loadu_si256((const __m256i *)(const void *)from))};
}

/* The lower and the upper halves of the lanes, each as a bf16. */
VEC_FN void vec_split_bf16_pairs(
	struct vec pairs, struct vec *even, struct vec *odd)
{
	__m512i bits = _mm512_castps_si512(pairs.v);

	even->v = _mm512_castsi512_ps(_mm512_slli_epi32(bits, 16));
	odd->v = _mm512_castsi512_ps(
		_mm512_and_si512(bits, _mm512_set1_epi32((int)0xffff0000u)));
}

/* 32 bf16 in pairs: elements 0, 2, 4, ... and 1, 3, 5, ... */
VEC_FN void vec_load_bf16_pairs(
	const uint16_t *from, struct vec *even, struct vec *odd)
{
	vec_split_bf16_pairs(
		(struct vec){_mm512_loadu_ps((const void *)from)}, even, odd);
}

/* Lanes j with j + 8, then + 4, + 2, + 1. */
VEC_FN float vec_sum(struct vec a)
{
	__m256 half = _mm256_add_ps(_mm512_castps512_ps256(a.v),
		_mm256_castpd_ps(
			_mm512_extractf64x4_pd(_mm512_castps_pd(a.v), 1)));
	__m128 quad = _mm_add_ps(
		_mm256_castps256_ps128(half), _mm256_extractf128_ps(half, 1));
	__m128 two = _mm_add_ps(quad, _mm_movehl_ps(quad, quad));

	return _mm_cvtss_f32(_mm_add_ss(two, _mm_shuffle_ps(two, two, 1)));
}

/* The largest lane, when none is a NaN. */
VEC_FN float vec_largest(struct vec a)
{
	__m256 half = _mm256_max_ps(_mm512_castps512_ps256(a.v),
		_mm256_castpd_ps(
			_mm512_extractf64x4_pd(_mm512_castps_pd(a.v), 1)));
	__m128 quad = _mm_max_ps(
		_mm256_castps256_ps128(half), _mm256_extractf128_ps(half, 1));
	__m128 two = _mm_max_ps(quad, _mm_movehl_ps(quad, quad));

	return _mm_cvtss_f32(_mm_max_ss(two, _mm_shuffle_ps(two, two, 1)));
}

/* Lanes 0 and 1, 2 and 3, ... change places. */
VEC_FN struct vec vec_swap_pairs(struct vec a)
{
	return (struct vec){_mm512_permute_ps(a.v, 0xb1)};
}

/* A vector whose lanes hold two bf16 each: the lower ones, the upper ones. */
VEC_FN void vec_split_bf16(
	struct vec pairs, struct vec *lower, struct vec *upper)
{
	__m512i bits = _mm512_castps_si512(pairs.v);

	lower->v = _mm512_castsi512_ps(_mm512_slli_epi32(bits, 16));
	upper->v = _mm512_castsi512_ps(
		_mm512_and_si512(bits, _mm512_set1_epi32((int)0xffff0000u)));
}

/* To the nearest bf16, ties to even, as f32_to_bf16(). */
VEC_FN void vec_store_bf16(uint16_t *to, struct vec a)
{
	__m512i bits = _mm512_castps_si512(a.v);
	__m512i odd = _mm512_and_si512(
		_mm512_srli_epi32(bits, 16), _mm512_set1_epi32(1));
	__m512i near = _mm512_add_epi32(
		_mm512_add_epi32(bits, odd), _mm512_set1_epi32(0x7fff));
	__m512i quiet = _mm512_or_si512(bits, _mm512_set1_epi32(0x400000));

	near = _mm512_mask_mov_epi32(
		near, _mm512_cmp_ps_mask(a.v, a.v, _CMP_UNORD_Q), quiet);
	_mm256_storeu_si256((__m256i *)(void *)to,
		_mm512_cvtepi32_epi16(_mm512_srli_epi32(near, 16)));
}

/* row[i] lane j becomes row[j] lane i; bits are moved only. */
VEC_FN void vec_transpose(struct vec row[VEC_LANES])
{
	__m512 a[VEC_LANES], b[VEC_LANES];

#pragma GCC unroll 16
	for (int i = 0; i < VEC_LANES; i += 2) {
		a[i] = _mm512_unpacklo_ps(row[i].v, row[i + 1].v);
		a[i + 1] = _mm512_unpackhi_ps(row[i].v, row[i + 1].v);
	}
#pragma GCC unroll 16
	for (int i = 0; i < VEC_LANES; i += 4) {
		b[i] = _mm512_castpd_ps(_mm512_unpacklo_pd(
			_mm512_castps_pd(a[i]), _mm512_castps_pd(a[i + 2])));
		b[i + 1] = _mm512_castpd_ps(_mm512_unpackhi_pd(
			_mm512_castps_pd(a[i]), _mm512_castps_pd(a[i + 2])));
		b[i + 2] = _mm512_castpd_ps(
			_mm512_unpacklo_pd(_mm512_castps_pd(a[i + 1]),
				_mm512_castps_pd(a[i + 3])));
		b[i + 3] = _mm512_castpd_ps(
			_mm512_unpackhi_pd(_mm512_castps_pd(a[i + 1]),
				_mm512_castps_pd(a[i + 3])));
	}
	/* b[4 g + c]: column c of each quarter, rows 4 g .. 4 g + 3. */
#pragma GCC unroll 16
	for (int c = 0; c < 4; c++) {
		__m512 even = _mm512_shuffle_f32x4(b[c], b[c + 4], 0x88);
		__m512 odd = _mm512_shuffle_f32x4(b[c], b[c + 4], 0xdd);
		__m512 even2 = _mm512_shuffle_f32x4(b[c + 8], b[c + 12], 0x88);
		__m512 odd2 = _mm512_shuffle_f32x4(b[c + 8], b[c + 12], 0xdd);

		row[c].v = _mm512_shuffle_f32x4(even, even2, 0x88);
		row[c + 4].v = _mm512_shuffle_f32x4(odd, odd2, 0x88);
		row[c + 8].v = _mm512_shuffle_f32x4(even, even2, 0xdd);
		row[c + 12].v = _mm512_shuffle_f32x4(odd, odd2, 0xdd);
	}
}

struct vec_int {
	__m512i v;
};

/* first, first + 1, ... first + 15. */
VEC_FN struct vec_int vec_int_from(uint32_t first)
{
	return (struct vec_int){_mm512_add_epi32(_mm512_set1_epi32((int)first),
		_mm512_setr_epi32(
			0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15))};
}

VEC_FN struct vec_int vec_int_set(uint32_t value)
{
	return (struct vec_int){_mm512_set1_epi32((int)value)};
}

VEC_FN struct vec_int vec_int_xor(struct vec_int a, struct vec_int b)
{
	return (struct vec_int){_mm512_xor_si512(a.v, b.v)};
}

/* The lower and upper halves of a * factor, lane by lane. */
VEC_FN void vec_int_mul(struct vec_int a, uint32_t factor,
	struct vec_int *lower, struct vec_int *upper)
{
	__m512i f = _mm512_set1_epi32((int)factor);
	__m512i even = _mm512_mul_epu32(a.v, f);
	__m512i odd = _mm512_mul_epu32(_mm512_srli_epi64(a.v, 32), f);

	lower->v =
		_mm512_mask_mov_epi32(even, 0xaaaa, _mm512_slli_epi64(odd, 32));
	upper->v =
		_mm512_mask_mov_epi32(_mm512_srli_epi64(even, 32), 0xaaaa, odd);
}

/* The upper 24 bits of each lane as a number. */
VEC_FN struct vec vec_int_upper(struct vec_int a)
{
	return (struct vec){_mm512_cvtepi32_ps(_mm512_srli_epi32(a.v, 8))};
}

/* Bit j: lane j of a is at most that of b; not for a NaN. */
VEC_FN uint32_t vec_not_above(struct vec a, struct vec b)
{
	return _mm512_cmp_ps_mask(a.v, b.v, _CMP_LE_OQ);
}

#else /* AVX2 */

#define VEC_REGISTERS 8

struct vec {
	__m256 lo, hi; /* lanes 0-7 and 8-15 */
};

VEC_FN struct vec vec_set(float value)
{
	__m256 v = _mm256_set1_ps(value);

	return (struct vec){v, v};
}

VEC_FN struct vec vec_load(const float *from)
{
	return (struct vec){_mm256_loadu_ps(from), _mm256_loadu_ps(from + 8)};
}

/* All bits of the lanes below `count`; lanes begin at `first`. */
VEC_FN __m256i vec_mask(size_t count, int first)
{
	__m256i lane =
		_mm256_add_epi32(_mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7),
			_mm256_set1_epi32(first));

	return _mm256_cmpgt_epi32(_mm256_set1_epi32((int)count), lane);
}

VEC_FN struct vec vec_load_part(const float *from, size_t count)
{
	/* A masked load touches no memory of a lane that is off. */
	return (struct vec){_mm256_maskload_ps(from, vec_mask(count, 0)),
		_mm256_maskload_ps(from + 8, vec_mask(count, 8))};
}

VEC_FN void vec_store(float *to, struct vec a)
{
	_mm256_storeu_ps(to, a.lo);
	_mm256_storeu_ps(to + 8, a.hi);
}

VEC_FN void vec_store_part(float *to, struct vec a, size_t count)
{
	_mm256_maskstore_ps(to, vec_mask(count, 0), a.lo);
	_mm256_maskstore_ps(to + 8, vec_mask(count, 8), a.hi);
}

VEC_FN struct vec vec_add(struct vec a, struct vec b)
{
	return (struct vec){
		_mm256_add_ps(a.lo, b.lo), _mm256_add_ps(a.hi, b.hi)};
}

VEC_FN struct vec vec_sub(struct vec a, struct vec b)
{
	return (struct vec){
		_mm256_sub_ps(a.lo, b.lo), _mm256_sub_ps(a.hi, b.hi)};
}

VEC_FN struct vec vec_mul(struct vec a, struct vec b)
{
	return (struct vec){
		_mm256_mul_ps(a.lo, b.lo), _mm256_mul_ps(a.hi, b.hi)};
}

VEC_FN struct vec vec_div(struct vec a, struct vec b)
{
	return (struct vec){
		_mm256_div_ps(a.lo, b.lo), _mm256_div_ps(a.hi, b.hi)};
}

/* b when either is a NaN, as the instruction does. */
VEC_FN struct vec vec_max(struct vec a, struct vec b)
{
	return (struct vec){
		_mm256_max_ps(a.lo, b.lo), _mm256_max_ps(a.hi, b.hi)};
}

VEC_FN struct vec vec_min(struct vec a, struct vec b)
{
	return (struct vec){
		_mm256_min_ps(a.lo, b.lo), _mm256_min_ps(a.hi, b.hi)};
}

/* a * b + c, rounded once. */
VEC_FN struct vec vec_fma(struct vec a, struct vec b, struct vec c)
{
	return (struct vec){_mm256_fmadd_ps(a.lo, b.lo, c.lo),
		_mm256_fmadd_ps(a.hi, b.hi, c.hi)};
}

/* To the nearest whole number, ties to even. */
VEC_FN struct vec vec_round(struct vec a)
{
	return (struct vec){_mm256_round_ps(a.lo, _MM_FROUND_TO_NEAREST_INT |
							  _MM_FROUND_NO_EXC),
		_mm256_round_ps(
			a.hi, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC)};
}

VEC_FN __m256 vec_pow2_half(__m256 n)
{
	return _mm256_castsi256_ps(_mm256_slli_epi32(
		_mm256_add_epi32(_mm256_cvtps_epi32(n), _mm256_set1_epi32(127)),
		23));
}

/* 2^n for whole n in -126 .. 127. */
VEC_FN struct vec vec_pow2(struct vec n)
{
	return (struct vec){vec_pow2_half(n.lo), vec_pow2_half(n.hi)};
}

/* a where x >= limit (or x is a NaN), else 0. */
VEC_FN struct vec vec_keep_not_below(
	struct vec a, struct vec x, struct vec limit)
{
	return (struct vec){
		_mm256_and_ps(a.lo, _mm256_cmp_ps(x.lo, limit.lo, _CMP_NLT_UQ)),
		_mm256_and_ps(
			a.hi, _mm256_cmp_ps(x.hi, limit.hi, _CMP_NLT_UQ))};
}

VEC_FN __m256 vec_load_bf16_half(const uint16_t *from)
{
	__m256i wide = _mm256_cvtepu16_epi32(
		_mm_loadu_si128((const __m128i *)(const void *)from));

	return _mm256_castsi256_ps(_mm256_slli_epi32(wide, 16));
}

VEC_FN struct vec vec_load_bf16(const uint16_t *from)
{
	return (struct vec){
		vec_load_bf16_half(from), vec_load_bf16_half(from + 8)};
}

VEC_FN struct vec vec_load_f16(const uint16_t *from)
{
	return (struct vec){_mm256_cvtph_ps(_mm_loadu_si128(
				    (const __m128i *)(const void *)from)),
		_mm256_cvtph_ps(_mm_loadu_si128(
			(const __m128i *)(const void *)(from + 8)))};
}

/* The lower and the upper halves of the lanes, each as a bf16. */
VEC_FN void vec_split_bf16_pairs(
	struct vec pairs, struct vec *even, struct vec *odd)
{
	__m256i lo = _mm256_castps_si256(pairs.lo);
	__m256i hi = _mm256_castps_si256(pairs.hi);
	__m256i mask = _mm256_set1_epi32((int)0xffff0000u);

	even->lo = _mm256_castsi256_ps(_mm256_slli_epi32(lo, 16));
	even->hi = _mm256_castsi256_ps(_mm256_slli_epi32(hi, 16));
	odd->lo = _mm256_castsi256_ps(_mm256_and_si256(lo, mask));
	odd->hi = _mm256_castsi256_ps(_mm256_and_si256(hi, mask));
}

/* 32 bf16 in pairs: elements 0, 2, 4, ... and 1, 3, 5, ... */
VEC_FN void vec_load_bf16_pairs(
	const uint16_t *from, struct vec *even, struct vec *odd)
{
	vec_split_bf16_pairs(vec_load((const void *)from), even, odd);
}

/* Lanes j with j + 8, then + 4, + 2, + 1. */
VEC_FN float vec_sum(struct vec a)
{
	__m256 half = _mm256_add_ps(a.lo, a.hi);
	__m128 quad = _mm_add_ps(
		_mm256_castps256_ps128(half), _mm256_extractf128_ps(half, 1));
	__m128 two = _mm_add_ps(quad, _mm_movehl_ps(quad, quad));

	return _mm_cvtss_f32(_mm_add_ss(two, _mm_shuffle_ps(two, two, 1)));
}

/* The largest lane, when none is a NaN. */
VEC_FN float vec_largest(struct vec a)
{
	__m256 half = _mm256_max_ps(a.lo, a.hi);
	__m128 quad = _mm_max_ps(
		_mm256_castps256_ps128(half), _mm256_extractf128_ps(half, 1));
	__m128 two = _mm_max_ps(quad, _mm_movehl_ps(quad, quad));

	return _mm_cvtss_f32(_mm_max_ss(two, _mm_shuffle_ps(two, two, 1)));
}

/* Lanes 0 and 1, 2 and 3, ... change places. */
VEC_FN struct vec vec_swap_pairs(struct vec a)
{
	return (struct vec){
		_mm256_permute_ps(a.lo, 0xb1), _mm256_permute_ps(a.hi, 0xb1)};
}

/* A vector whose lanes hold two bf16 each: the lower ones, the upper ones. */
VEC_FN void vec_split_bf16(
	struct vec pairs, struct vec *lower, struct vec *upper)
{
	__m256i lo = _mm256_castps_si256(pairs.lo);
	__m256i hi = _mm256_castps_si256(pairs.hi);
	__m256i mask = _mm256_set1_epi32((int)0xffff0000u);

	lower->lo = _mm256_castsi256_ps(_mm256_slli_epi32(lo, 16));
	lower->hi = _mm256_castsi256_ps(_mm256_slli_epi32(hi, 16));
	upper->lo = _mm256_castsi256_ps(_mm256_and_si256(lo, mask));
	upper->hi = _mm256_castsi256_ps(_mm256_and_si256(hi, mask));
}

VEC_FN __m256i vec_bf16_half(__m256 a)
{
	__m256i bits = _mm256_castps_si256(a);
	__m256i odd = _mm256_and_si256(
		_mm256_srli_epi32(bits, 16), _mm256_set1_epi32(1));
	__m256i near = _mm256_add_epi32(
		_mm256_add_epi32(bits, odd), _mm256_set1_epi32(0x7fff));
	__m256i quiet = _mm256_or_si256(bits, _mm256_set1_epi32(0x400000));
	__m256i nan = _mm256_castps_si256(_mm256_cmp_ps(a, a, _CMP_UNORD_Q));

	return _mm256_srli_epi32(_mm256_blendv_epi8(near, quiet, nan), 16);
}

/* To the nearest bf16, ties to even, as f32_to_bf16(). */
VEC_FN void vec_store_bf16(uint16_t *to, struct vec a)
{
	__m256i both =
		_mm256_packus_epi32(vec_bf16_half(a.lo), vec_bf16_half(a.hi));

	_mm256_storeu_si256(
		(__m256i *)(void *)to, _mm256_permute4x64_epi64(both, 0xd8));
}

/* Eight rows, eight lanes: row[i] lane j becomes row[j] lane i. */
VEC_FN void vec_transpose_eight(__m256 row[8])
{
	__m256 a[8], b[8];

#pragma GCC unroll 8
	for (int i = 0; i < 8; i += 2) {
		a[i] = _mm256_unpacklo_ps(row[i], row[i + 1]);
		a[i + 1] = _mm256_unpackhi_ps(row[i], row[i + 1]);
	}
#pragma GCC unroll 8
	for (int i = 0; i < 8; i += 4) {
		b[i] = _mm256_shuffle_ps(a[i], a[i + 2], 0x44);
		b[i + 1] = _mm256_shuffle_ps(a[i], a[i + 2], 0xee);
		b[i + 2] = _mm256_shuffle_ps(a[i + 1], a[i + 3], 0x44);
		b[i + 3] = _mm256_shuffle_ps(a[i + 1], a[i + 3], 0xee);
	}
#pragma GCC unroll 8
	for (int i = 0; i < 4; i++) {
		row[i] = _mm256_permute2f128_ps(b[i], b[i + 4], 0x20);
		row[i + 4] = _mm256_permute2f128_ps(b[i], b[i + 4], 0x31);
	}
}

/* row[i] lane j becomes row[j] lane i; bits are moved only. */
VEC_FN void vec_transpose(struct vec row[VEC_LANES])
{
	__m256 top_left[8], top_right[8], low_left[8], low_right[8];

#pragma GCC unroll 8
	for (int i = 0; i < 8; i++) {
		top_left[i] = row[i].lo;
		top_right[i] = row[i].hi;
		low_left[i] = row[i + 8].lo;
		low_right[i] = row[i + 8].hi;
	}
	vec_transpose_eight(top_left);
	vec_transpose_eight(top_right);
	vec_transpose_eight(low_left);
	vec_transpose_eight(low_right);
#pragma GCC unroll 8
	for (int i = 0; i < 8; i++) {
		row[i] = (struct vec){top_left[i], low_left[i]};
		row[i + 8] = (struct vec){top_right[i], low_right[i]};
	}
}

struct vec_int {
	__m256i lo, hi; /* lanes 0-7 and 8-15 */
};

/* first, first + 1, ... first + 15. */
VEC_FN struct vec_int vec_int_from(uint32_t first)
{
	__m256i lo = _mm256_add_epi32(_mm256_set1_epi32((int)first),
		_mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));

	return (struct vec_int){lo, _mm256_add_epi32(lo, _mm256_set1_epi32(8))};
}

VEC_FN struct vec_int vec_int_set(uint32_t value)
{
	__m256i v = _mm256_set1_epi32((int)value);

	return (struct vec_int){v, v};
}

VEC_FN struct vec_int vec_int_xor(struct vec_int a, struct vec_int b)
{
	return (struct vec_int){
		_mm256_xor_si256(a.lo, b.lo), _mm256_xor_si256(a.hi, b.hi)};
}

VEC_FN void vec_int_mul_half(
	__m256i a, __m256i factor, __m256i *lower, __m256i *upper)
{
	__m256i even = _mm256_mul_epu32(a, factor);
	__m256i odd = _mm256_mul_epu32(_mm256_srli_epi64(a, 32), factor);

	*lower = _mm256_blend_epi32(even, _mm256_slli_epi64(odd, 32), 0xaa);
	*upper = _mm256_blend_epi32(_mm256_srli_epi64(even, 32), odd, 0xaa);
}

/* The lower and upper halves of a * factor, lane by lane. */
VEC_FN void vec_int_mul(struct vec_int a, uint32_t factor,
	struct vec_int *lower, struct vec_int *upper)
{
	__m256i f = _mm256_set1_epi32((int)factor);

	vec_int_mul_half(a.lo, f, &lower->lo, &upper->lo);
	vec_int_mul_half(a.hi, f, &lower->hi, &upper->hi);
}

/* The upper 24 bits of each lane as a number. */
VEC_FN struct vec vec_int_upper(struct vec_int a)
{
	return (struct vec){_mm256_cvtepi32_ps(_mm256_srli_epi32(a.lo, 8)),
		_mm256_cvtepi32_ps(_mm256_srli_epi32(a.hi, 8))};
}

/* Bit j: lane j of a is at most that of b; not for a NaN. */
VEC_FN uint32_t vec_not_above(struct vec a, struct vec b)
{
	uint32_t lo = (uint32_t)_mm256_movemask_ps(
		_mm256_cmp_ps(a.lo, b.lo, _CMP_LE_OQ));
	uint32_t hi = (uint32_t)_mm256_movemask_ps(
		_mm256_cmp_ps(a.hi, b.hi, _CMP_LE_OQ));

	return lo | hi << 8;
}

#endif

/*
 * e^x with a relative error below 2e-7 on -87.3 .. 88.3; 0 below it, the
 * largest finite power above it, a NaN for a NaN. Range reduction by ln 2 in
 * two parts (Cody and Waite) and a polynomial of degree 6.
 */
VEC_FN struct vec vec_exp(struct vec x)
{
	struct vec low = vec_set(-87.3f), high = vec_set(88.3f);
	/* The bound first: a NaN in x then stays. */
	struct vec y = vec_max(low, vec_min(high, x));
	struct vec n = vec_round(vec_mul(y, vec_set(1.44269504f)));
	struct vec r = vec_fma(n, vec_set(-0.693145752f), y);
	struct vec p = vec_set(1.0f / 720);

	r = vec_fma(n, vec_set(-1.42860677e-6f), r);
	p = vec_fma(p, r, vec_set(1.0f / 120));
	p = vec_fma(p, r, vec_set(1.0f / 24));
	p = vec_fma(p, r, vec_set(1.0f / 6));
	p = vec_fma(p, r, vec_set(0.5f));
	p = vec_fma(p, r, vec_set(1));
	p = vec_fma(p, r, vec_set(1));
	return vec_keep_not_below(vec_mul(p, vec_pow2(n)), x, low);
}

#endif
