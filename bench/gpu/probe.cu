/* probe.cu - every kernel of the card probe (probe_*.c -> device) */
/* SPDX-License-Identifier: Apache-2.0 */
#include <stdint.h>

#include "probe_kernels.h"
#include "probe_wgmma.cuh"

static __device__ __forceinline__ uint64_t time_ns(void)
{
	uint64_t now;

	asm volatile("mov.u64 %0, %%globaltimer;" : "=l"(now));
	return now;
}

static __device__ __forceinline__ uint64_t thread_index(void)
{
	return (uint64_t)blockIdx.x * blockDim.x + threadIdx.x;
}

static __device__ __forceinline__ uint64_t thread_count(void)
{
	return (uint64_t)gridDim.x * blockDim.x;
}

/* ---- pattern, check, checksum ---------------------------------------- */

/* dst[i] = pattern word first + i, for i < words. */
extern "C" __global__ void k_fill(
	uint32_t *dst, uint64_t words, uint32_t seed, uint64_t first)
{
	for (uint64_t i = thread_index(); i < words; i += thread_count())
		dst[i] = probe_pattern(seed, first + i);
}

/* *bad += the number of words of src that are not the pattern's. */
extern "C" __global__ void k_check(const uint32_t *src, uint64_t words,
	uint32_t seed, uint64_t first, unsigned long long *bad)
{
	unsigned long long count = 0;

	for (uint64_t i = thread_index(); i < words; i += thread_count())
		count += src[i] != probe_pattern(seed, first + i);
	if (count != 0)
		atomicAdd(bad, count);
}

/* *sum += the checksum of src; integer sums have one value in any order. */
extern "C" __global__ void k_sum(
	const uint32_t *src, uint64_t words, unsigned long long *sum)
{
	unsigned long long part = 0;

	for (uint64_t i = thread_index(); i < words; i += thread_count())
		part += probe_sum_term(src[i], i);
	for (int lane = 16; lane > 0; lane /= 2)
		part += __shfl_down_sync(0xffffffffu, part, lane);
	if (threadIdx.x % 32 == 0)
		atomicAdd(sum, part);
}

/* ---- bandwidth -------------------------------------------------------- */

static __device__ __forceinline__ uint32_t fold(uint4 v)
{
	return v.x ^ v.y ^ v.z ^ v.w;
}

/* One step: eight loads in flight per thread, coalesced across the block. */
static __device__ __forceinline__ uint32_t read_step(const uint4 *src)
{
	uint4 v[8];
	uint32_t acc = 0;

#pragma unroll
	for (int j = 0; j < 8; j++)
		v[j] = __ldcs(src + j * PROBE_THREADS + threadIdx.x);
#pragma unroll
	for (int j = 0; j < 8; j++)
		acc ^= fold(v[j]);
	return acc;
}

/* Every thread's value reaches memory, so that no load can be dropped. */
static __device__ __forceinline__ void sink_xor(uint32_t *sink, uint32_t acc)
{
	for (int lane = 16; lane > 0; lane /= 2)
		acc ^= __shfl_down_sync(0xffffffffu, acc, lane);
	if (threadIdx.x % 32 == 0)
		atomicXor(&sink[blockIdx.x], acc);
}

extern "C" __global__ void __launch_bounds__(PROBE_THREADS, 4)
	k_read(const uint4 *src, uint64_t steps, uint32_t *sink)
{
	const uint64_t step16 = PROBE_STEP_BYTES / 16;
	uint32_t acc = 0;

	for (uint64_t s = blockIdx.x; s < steps; s += gridDim.x)
		acc ^= read_step(src + s * step16);
	sink_xor(sink, acc);
}

/* Word 4i + j of dst becomes probe_write_word(seed, i, j): see probe_mem.c. */
extern "C" __global__ void __launch_bounds__(PROBE_THREADS, 4)
	k_write(uint4 *dst, uint64_t steps, uint32_t seed)
{
	const uint64_t step16 = PROBE_STEP_BYTES / 16;

	for (uint64_t s = blockIdx.x; s < steps; s += gridDim.x) {
#pragma unroll
		for (int j = 0; j < 8; j++) {
			uint64_t i = s * step16 + (uint64_t)j * PROBE_THREADS +
				     threadIdx.x;
			uint32_t low = (uint32_t)i;

			dst[i] = make_uint4(low, low ^ seed, ~low, seed);
		}
	}
}

extern "C" __global__ void __launch_bounds__(PROBE_THREADS, 4)
	k_copy(uint4 *dst, const uint4 *src, uint64_t steps)
{
	const uint64_t step16 = PROBE_STEP_BYTES / 16;

	for (uint64_t s = blockIdx.x; s < steps; s += gridDim.x) {
		const uint4 *from = src + s * step16 + threadIdx.x;
		uint4 *to = dst + s * step16 + threadIdx.x;
		uint4 v[8];

#pragma unroll
		for (int j = 0; j < 8; j++)
			v[j] = __ldcs(from + j * PROBE_THREADS);
#pragma unroll
		for (int j = 0; j < 8; j++)
			__stcs(to + j * PROBE_THREADS, v[j]);
	}
}

/* All blocks share the runs out step by step, run after run. */
extern "C" __global__ void __launch_bounds__(PROBE_THREADS, 4)
	k_runs(struct probe_runs_args a)
{
	const char *base = (const char *)a.base;
	const uint64_t *offset = (const uint64_t *)a.offset;
	uint64_t steps = (uint64_t)a.run_count * a.run_steps;
	uint32_t acc = 0;

	for (uint64_t s = blockIdx.x; s < steps; s += gridDim.x) {
		uint64_t run = s / a.run_steps;
		uint64_t at = offset[run] +
			      (s - run * a.run_steps) * PROBE_STEP_BYTES;

		acc ^= read_step((const uint4 *)(base + at));
	}
	sink_xor((uint32_t *)a.sink, acc);
}

/* ---- launches --------------------------------------------------------- */

extern "C" __global__ void k_empty(void)
{
}

/* ---- a kernel that keeps reading while the host works ------------------ */

/*
 * Entry of a step: log the time and the phase, say whether to go on. Block 0
 * alone reads the host's word, so that the bus carries one read per step.
 */
static __device__ uint32_t stream_enter(
	const struct probe_stream_args &a, uint32_t entry, uint64_t start)
{
	volatile uint32_t *phase = (volatile uint32_t *)a.phase;
	uint64_t *log = (uint64_t *)a.log + (uint64_t)blockIdx.x * a.log_max;
	uint64_t now;
	uint32_t seen;

	if (blockIdx.x == 0) {
		*phase = *(volatile uint32_t *)a.host_phase;
		*(volatile uint32_t *)a.host_seen = entry + 1;
		__threadfence_system();
	}
	seen = *phase;
	now = time_ns();
	log[entry] = (now & PROBE_LOG_TIME_MASK) |
		     (uint64_t)seen << PROBE_LOG_PHASE_SHIFT;
	if (now - start > a.limit_ns || entry + 1 >= a.log_max)
		return PROBE_PHASE_STOP;
	return seen;
}

extern "C" __global__ void __launch_bounds__(PROBE_STREAM_THREADS, 1)
	k_stream(struct probe_stream_args a)
{
	const uint4 *source = (const uint4 *)a.source;
	const uint32_t step16 = PROBE_STREAM_STEP_BYTES / 16;
	uint64_t start = time_ns();
	uint32_t acc = 0;
	uint32_t entry = 0;
	__shared__ uint32_t phase;

	for (;; entry++) {
		const uint4 *at =
			source + (((uint64_t)entry * gridDim.x + blockIdx.x) %
					 a.step_count) *
					 step16;

		if (threadIdx.x == 0)
			phase = stream_enter(a, entry, start);
		__syncthreads();
		if (phase == PROBE_PHASE_STOP)
			break;
		for (uint32_t i = threadIdx.x; i < step16;
			i += 8 * PROBE_STREAM_THREADS) {
			uint4 v[8];

#pragma unroll
			for (uint32_t j = 0; j < 8; j++)
				v[j] = __ldcs(
					at + i + j * PROBE_STREAM_THREADS);
#pragma unroll
			for (uint32_t j = 0; j < 8; j++)
				acc ^= fold(v[j]);
		}
		__syncthreads();
	}
	if (threadIdx.x == 0)
		((uint32_t *)a.entries)[blockIdx.x] = entry + 1;
	sink_xor((uint32_t *)a.sink, acc);
}

/* ---- two addresses of one page ----------------------------------------- */

/*
 * Each thread reads its word through b (so that caches hold the old value),
 * writes it through a, and reads b again. seen[0] counts threads that saw the
 * old value first, seen[1] those that saw the new value last.
 */
static __device__ void alias_words(uint32_t *a, uint32_t *b, uint64_t words,
	uint32_t seed, unsigned long long *seen, bool fenced)
{
	for (uint64_t i = thread_index(); i < words; i += thread_count()) {
		uint32_t before, after;
		uint32_t fresh = probe_pattern(seed + 1, i);

		asm volatile("ld.global.ca.u32 %0, [%1];"
			     : "=r"(before)
			     : "l"(b + i)
			     : "memory");
		asm volatile("st.global.u32 [%0], %1;"
			     :
			     : "l"(a + i), "r"(fresh)
			     : "memory");
		if (fenced)
			asm volatile("fence.proxy.alias;" ::: "memory");
		asm volatile("ld.global.ca.u32 %0, [%1];"
			     : "=r"(after)
			     : "l"(b + i)
			     : "memory");
		if (before == probe_pattern(seed, i))
			atomicAdd(&seen[0], 1ull);
		if (after == fresh)
			atomicAdd(&seen[1], 1ull);
	}
}

extern "C" __global__ void k_alias_plain(uint32_t *a, uint32_t *b,
	uint64_t words, uint32_t seed, unsigned long long *seen)
{
	alias_words(a, b, words, seed, seen, false);
}

extern "C" __global__ void k_alias_fenced(uint32_t *a, uint32_t *b,
	uint64_t words, uint32_t seed, unsigned long long *seen)
{
	alias_words(a, b, words, seed, seen, true);
}

/* ---- matrix rate -------------------------------------------------------- */

/* Registers only. data: random bf16 pairs, 6 per thread; out: 1 per thread. */
extern "C" __global__ void __launch_bounds__(PROBE_THREADS, 2)
	k_mma_rate(const uint32_t *data, uint32_t turns, float *out)
{
	float acc[PROBE_MMA_CHAINS][4] = {};
	uint64_t me = thread_index();
	const uint32_t *mine = data + me * 6;
	uint32_t a[4] = {mine[0], mine[1], mine[2], mine[3]};
	uint32_t b[2] = {mine[4], mine[5]};
	float total = 0;

	for (uint32_t t = 0; t < turns; t++) {
#pragma unroll
		for (uint32_t j = 0; j < PROBE_MMA_CHAINS; j++)
			mma_bf16(acc[j], a, b);
	}
#pragma unroll
	for (uint32_t j = 0; j < PROBE_MMA_CHAINS; j++)
		total += acc[j][0] + acc[j][1] + acc[j][2] + acc[j][3];
	out[me] = total;
}

/*
 * Two warpgroups per block, each with its own A tile (64 x 64) and one B tile
 * (256 x 64) shared. data: 48 KiB of random bf16, so that the layout does not
 * matter: only the rate of the instruction and its operand reads is asked.
 */
template <bool SWIZZLED>
static __device__ __forceinline__ void wgmma_rate(
	const uint4 *data, uint32_t turns, float *out)
{
	__shared__ __align__(1024) uint4 tile[3072];
	float acc[128] = {};
	uint32_t group = threadIdx.x / 128;
	uint32_t a0, b0;

	for (uint32_t i = threadIdx.x; i < 3072; i += 256)
		tile[i] = data[i];
	wgmma_publish_shared();
	__syncthreads();
	a0 = (uint32_t)__cvta_generic_to_shared(tile) + group * 8192u;
	b0 = (uint32_t)__cvta_generic_to_shared(tile) + 16384u;
	for (uint32_t t = 0; t < turns; t++) {
		wgmma_fence();
#pragma unroll
		for (uint32_t j = 0; j < PROBE_WGMMA_PER_TURN; j++) {
			/* Swizzled: 32 bytes of K further in the 128-byte
			 * rows; else two core matrices of 128 bytes. */
			uint32_t k = (j % 4) * (SWIZZLED ? 32u : 256u);

			wgmma_bf16<256>(acc,
				wgmma_descriptor(a0 + k, SWIZZLED ? 16 : 128,
					1024, SWIZZLED),
				wgmma_descriptor(b0 + k, SWIZZLED ? 16 : 128,
					1024, SWIZZLED));
		}
		wgmma_finish();
	}
	float total = 0;
#pragma unroll
	for (uint32_t i = 0; i < 128; i++)
		total += acc[i];
	out[thread_index()] = total;
}

extern "C" __global__ void __launch_bounds__(256, 1)
	k_wgmma_rate(const uint4 *data, uint32_t turns, float *out)
{
	wgmma_rate<false>(data, turns, out);
}

extern "C" __global__ void __launch_bounds__(256, 1)
	k_wgmma_rate_swizzled(const uint4 *data, uint32_t turns, float *out)
{
	wgmma_rate<true>(data, turns, out);
}

/* ---- do the bits of a row depend on the number of rows ------------------ */

/*
 * Copy rows [first, first + ROWS) of a bf16 matrix [rows][k], columns
 * [k0, k0 + 64), into core-matrix order: the 16 bytes (row, column group) go to
 *   (row / 8) * 1024 + group * 128 + (row % 8) * 16,
 * so LBO = 128 and SBO = 1024. Rows at or beyond `rows` become zero.
 */
template <uint32_t ROWS>
static __device__ __forceinline__ void load_core(uint4 *tile,
	const char *matrix, uint32_t first, uint32_t rows, uint32_t k,
	uint32_t k0)
{
	for (uint32_t p = threadIdx.x; p < ROWS * 8; p += 128) {
		uint32_t row = p / 8;
		uint32_t group = p % 8;
		uint4 v = make_uint4(0, 0, 0, 0);

		if (first + row < rows) {
			uint64_t at =
				(uint64_t)(first + row) * k + k0 + group * 8;

			v = *(const uint4 *)(matrix + at * 2);
		}
		tile[row / 8 * 64 + group * 8 + row % 8] = v;
	}
}

/* One warpgroup: 64 weight rows on M, N tokens, K in ascending steps. */
template <int N>
static __device__ __forceinline__ void rows_wgmma(
	const struct probe_rows_args &a)
{
	__shared__ __align__(1024) uint4 tile_w[PROBE_ROWS_OUT * 8];
	__shared__ __align__(1024) uint4 tile_x[N * 8];
	float acc[N / 2] = {};
	uint32_t out0 = blockIdx.x * PROBE_ROWS_OUT;
	uint32_t token0 = blockIdx.y * N;
	uint32_t w0 = (uint32_t)__cvta_generic_to_shared(tile_w);
	uint32_t x0 = (uint32_t)__cvta_generic_to_shared(tile_x);

	for (uint32_t k0 = 0; k0 < a.k; k0 += PROBE_ROWS_K) {
		load_core<PROBE_ROWS_OUT>(
			tile_w, (const char *)a.w, out0, a.out, a.k, k0);
		load_core<N>(
			tile_x, (const char *)a.x, token0, a.tokens, a.k, k0);
		wgmma_publish_shared();
		__syncthreads();
		wgmma_fence();
#pragma unroll
		for (uint32_t j = 0; j < PROBE_ROWS_K / 16; j++)
			wgmma_bf16<N>(acc,
				wgmma_descriptor(w0 + j * 256, 128, 1024, 0),
				wgmma_descriptor(x0 + j * 256, 128, 1024, 0));
		wgmma_finish();
		__syncthreads();
	}
	uint32_t lane = threadIdx.x % 32;
	uint32_t row = threadIdx.x / 32 * 16 + lane / 4;
#pragma unroll
	for (uint32_t i = 0; i < N / 2; i++) {
		uint32_t token = token0 + 8 * (i / 4) + 2 * (lane % 4) + i % 2;
		uint32_t at = out0 + row + 8 * (i / 2 % 2);

		if (token < a.tokens)
			((float *)a.c)[(uint64_t)token * a.out + at] = acc[i];
	}
}

static __device__ __forceinline__ uint32_t pair_at(
	const uint16_t *matrix, uint64_t element)
{
	return *(const uint32_t *)(matrix + element);
}

/* Four warps of 16 weight rows on M each; TILES tiles of 8 tokens on N. */
template <uint32_t TILES>
static __device__ __forceinline__ void rows_mma(const struct probe_rows_args &a)
{
	const uint16_t *w = (const uint16_t *)a.w;
	const uint16_t *x = (const uint16_t *)a.x;
	float acc[TILES][4] = {};
	uint32_t g = threadIdx.x % 32 / 4;
	uint32_t t = threadIdx.x % 4;
	uint32_t out0 = blockIdx.x * PROBE_ROWS_OUT + threadIdx.x / 32 * 16;
	uint32_t token0 = blockIdx.y * TILES * 8;

	for (uint32_t k0 = 0; k0 < a.k; k0 += 16) {
		uint64_t top = (uint64_t)(out0 + g) * a.k + k0 + 2 * t;
		uint64_t low = top + (uint64_t)8 * a.k;
		uint32_t fa[4] = {pair_at(w, top), pair_at(w, low),
			pair_at(w, top + 8), pair_at(w, low + 8)};

#pragma unroll
		for (uint32_t j = 0; j < TILES; j++) {
			uint32_t token = token0 + j * 8 + g;
			uint64_t at = (uint64_t)token * a.k + k0 + 2 * t;
			uint32_t fb[2] = {0, 0};

			if (token < a.tokens) {
				fb[0] = pair_at(x, at);
				fb[1] = pair_at(x, at + 8);
			}
			mma_bf16(acc[j], fa, fb);
		}
	}
#pragma unroll
	for (uint32_t j = 0; j < TILES; j++) {
#pragma unroll
		for (uint32_t i = 0; i < 4; i++) {
			uint32_t token = token0 + j * 8 + 2 * t + i % 2;
			uint64_t at = (uint64_t)token * a.out + out0 + g +
				      8 * (i / 2);

			if (token < a.tokens)
				((float *)a.c)[at] = acc[j][i];
		}
	}
}

#define ROWS_KERNELS(n)                                                        \
	extern "C" __global__ void __launch_bounds__(128)                      \
		k_rows_wgmma_##n(struct probe_rows_args a)                     \
	{                                                                      \
		rows_wgmma<n>(a);                                              \
	}                                                                      \
	extern "C" __global__ void __launch_bounds__(128)                      \
		k_rows_mma_##n(struct probe_rows_args a)                       \
	{                                                                      \
		rows_mma<n / 8>(a);                                            \
	}

ROWS_KERNELS(8)
ROWS_KERNELS(16)
ROWS_KERNELS(32)
ROWS_KERNELS(64)
ROWS_KERNELS(128)
ROWS_KERNELS(256)
