/* machine_x86.c - the timed loops for AVX-512, AVX2 and neither */
/* SPDX-License-Identifier: Apache-2.0 */
#include <immintrin.h>

#include "bench/machine_loops.h"
#include "gpu/cpu/gemm_amx.h"

/*
 * The processor's own prefetcher stops at the end of a 4 KiB page; asking a
 * few lines ahead takes it across.
 */
#define AHEAD_BYTES 2048

__attribute__((target("avx512f"))) static uint64_t read_avx512(
	const void *buffer, size_t bytes)
{
	const char *at = buffer, *end = at + bytes;
	__m512i sum[8];
	uint64_t out[8], all = 0;

	for (int i = 0; i < 8; i++)
		sum[i] = _mm512_setzero_si512();
	for (; at < end; at += MACHINE_READ_STEP_BYTES)
#pragma GCC unroll 8
		for (int i = 0; i < 8; i++) {
			_mm_prefetch(at + AHEAD_BYTES + (ptrdiff_t)i * 64,
				_MM_HINT_T0);
			sum[i] = _mm512_add_epi64(sum[i],
				_mm512_loadu_si512(at + (ptrdiff_t)i * 64));
		}
	for (int i = 1; i < 8; i++)
		sum[0] = _mm512_add_epi64(sum[0], sum[i]);
	_mm512_storeu_si512(out, sum[0]);
	for (int i = 0; i < 8; i++)
		all += out[i];
	return all;
}

__attribute__((target("avx2"))) static uint64_t read_avx2(
	const void *buffer, size_t bytes)
{
	const char *at = buffer, *end = at + bytes;
	__m256i sum[8];
	uint64_t out[4];

	for (int i = 0; i < 8; i++)
		sum[i] = _mm256_setzero_si256();
	for (; at < end; at += MACHINE_READ_STEP_BYTES / 2) {
		for (int i = 0; i < 4; i++)
			_mm_prefetch(at + AHEAD_BYTES + (ptrdiff_t)i * 64,
				_MM_HINT_T0);
#pragma GCC unroll 8
		for (int i = 0; i < 8; i++)
			sum[i] = _mm256_add_epi64(sum[i],
				_mm256_loadu_si256((const __m256i *)(const void
						*)(at + (ptrdiff_t)i * 32)));
	}
	for (int i = 1; i < 8; i++)
		sum[0] = _mm256_add_epi64(sum[0], sum[i]);
	_mm256_storeu_si256((__m256i *)(void *)out, sum[0]);
	return out[0] + out[1] + out[2] + out[3];
}

static uint64_t read_plain(const void *buffer, size_t bytes)
{
	const uint64_t *word = buffer;
	uint64_t sum[4] = {0};

	for (size_t i = 0; i < bytes / sizeof(*word); i += 4)
		for (size_t k = 0; k < 4; k++)
			sum[k] += word[i + k];
	return sum[0] + sum[1] + sum[2] + sum[3];
}

/* Two units of four cycles' latency: eight sums fill them, twelve surely. */
#define SUMS 12

__attribute__((target("avx512f"))) static float fma_avx512(uint64_t turns)
{
	const __m512 a = _mm512_set1_ps(0.999f), b = _mm512_set1_ps(0.001f);
	__m512 sum[SUMS];

	for (int i = 0; i < SUMS; i++)
		sum[i] = _mm512_set1_ps((float)i);
	for (uint64_t t = 0; t < turns; t++)
#pragma GCC unroll 12
		for (int i = 0; i < SUMS; i++)
			sum[i] = _mm512_fmadd_ps(sum[i], a, b);
	for (int i = 1; i < SUMS; i++)
		sum[0] = _mm512_add_ps(sum[0], sum[i]);
	return _mm512_reduce_add_ps(sum[0]);
}

__attribute__((target("avx2,fma"))) static float fma_avx2(uint64_t turns)
{
	const __m256 a = _mm256_set1_ps(0.999f), b = _mm256_set1_ps(0.001f);
	__m256 sum[SUMS];
	float out[8], all = 0;

	for (int i = 0; i < SUMS; i++)
		sum[i] = _mm256_set1_ps((float)i);
	for (uint64_t t = 0; t < turns; t++)
#pragma GCC unroll 12
		for (int i = 0; i < SUMS; i++)
			sum[i] = _mm256_fmadd_ps(sum[i], a, b);
	for (int i = 1; i < SUMS; i++)
		sum[0] = _mm256_add_ps(sum[0], sum[i]);
	_mm256_storeu_ps(out, sum[0]);
	for (int i = 0; i < 8; i++)
		all += out[i];
	return all;
}

#define TILE_ROWS 16
#define TILE_PAIRS 16
#define TILE_SUMS 4

/* One in so many turns is made: as long as as many turns of the other loops. */
#define TILE_TURN_SHARE 8
#define TILE_FLOPS                                                             \
	(2 * TILE_ROWS * TILE_ROWS * 2 * TILE_PAIRS * TILE_SUMS /              \
		TILE_TURN_SHARE)

__attribute__((target("amx-tile,amx-bf16"))) static float multiply_tiles(
	uint64_t turns)
{
	struct amx_tile_config config = {.palette = 1};
	uint16_t factor[2][TILE_ROWS * 2 * TILE_PAIRS];
	float sum[TILE_ROWS * TILE_ROWS];

	for (int i = 0; i < 8; i++) {
		config.line_bytes[i] = 64;
		config.rows[i] = TILE_ROWS;
	}
	/* 0.5 .. 2, of both signs, with all bits in use. */
	for (uint32_t f = 0; f < 2; f++)
		for (uint32_t i = 0; i < TILE_ROWS * 2 * TILE_PAIRS; i++)
			factor[f][i] =
				(uint16_t)(0x3f00 +
					   ((2 * i + f) * 2654435761u >> 24) +
					   (i % 2 << 15));
	_tile_loadconfig(&config);
	_tile_loadd(4, factor[0], 64);
	_tile_loadd(5, factor[1], 64);
	_tile_loadd(6, factor[0], 64);
	_tile_loadd(7, factor[1], 64);
	_tile_zero(0);
	_tile_zero(1);
	_tile_zero(2);
	_tile_zero(3);
	for (uint64_t t = 0; t < turns / TILE_TURN_SHARE; t++) {
		_tile_dpbf16ps(0, 4, 5);
		_tile_dpbf16ps(1, 5, 4);
		_tile_dpbf16ps(2, 4, 6);
		_tile_dpbf16ps(3, 5, 7);
	}
	_tile_stored(0, sum, 64);
	_tile_release();
	return sum[0];
}

static float fma_plain(uint64_t turns)
{
	float sum[SUMS], all = 0;

	for (int i = 0; i < SUMS; i++)
		sum[i] = (float)i;
	for (uint64_t t = 0; t < turns; t++)
		for (int i = 0; i < SUMS; i++)
			sum[i] = sum[i] * 0.999f + 0.001f;
	for (int i = 0; i < SUMS; i++)
		all += sum[i];
	return all;
}

const struct machine_loops *machine_loops(void)
{
	static const struct machine_loops avx512 = {"avx512", read_avx512,
		fma_avx512, 2 * 16 * SUMS, multiply_tiles, TILE_FLOPS};
	static const struct machine_loops avx2 = {
		"avx2", read_avx2, fma_avx2, 2 * 8 * SUMS, NULL, 0};
	static const struct machine_loops plain = {
		"plain", read_plain, fma_plain, 2 * SUMS, NULL, 0};

	if (__builtin_cpu_supports("avx512f"))
		return &avx512;
	if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"))
		return &avx2;
	return &plain;
}
