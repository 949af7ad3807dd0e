/*
 * probe_kernels.h - what the probe's kernels and their callers agree on
 *
 * Why:        the kernels are loaded by name at run time, so no compiler
 *             checks a launch against its kernel; the sizes, the argument
 *             blocks and the test pattern are therefore written once, here.
 * Invariants: every device address is an unsigned long long, the type of
 *             CUdeviceptr, so that both sides see the same layout.
 * Threads:    nothing here has state.
 * Limits:     read by nvcc and by the C compilers: plain C, no atomics.
 */
/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PROBE_KERNELS_H
#define PROBE_KERNELS_H

#include <stdint.h>

#ifdef __CUDACC__
#define PROBE_BOTH __host__ __device__
#else
#define PROBE_BOTH
#endif

/* Threads of the kernels that move bytes, and of the streaming kernel. */
#define PROBE_THREADS 256
#define PROBE_STREAM_THREADS 1024

/*
 * One step of a block in the kernels that move bytes: 256 threads with eight
 * independent loads of 16 bytes each. Sizes given to them are multiples of it
 * (an expert of DeepSeek-V2-Lite, 17,301,504 bytes, is 528 steps exactly).
 */
#define PROBE_STEP_BYTES 32768u

/* One step of a block of the streaming kernel. */
#define PROBE_STREAM_STEP_BYTES 1048576u

/* Tile of the row kernels: 64 weight rows by 64 of K per step. */
#define PROBE_ROWS_OUT 64u
#define PROBE_ROWS_K 64u

/* Independent accumulators per warp in the registers-only rate kernel. */
#define PROBE_MMA_CHAINS 8u
/* Multiply-adds of one warp's mma.sync.m16n8k16, times two. */
#define PROBE_MMA_FLOP (16u * 8u * 16u * 2u)
/* wgmma.m64n256k16 per loop turn of one warpgroup, and operations of one. */
#define PROBE_WGMMA_PER_TURN 16u
#define PROBE_WGMMA_FLOP (64u * 256u * 16u * 2u)

/* Phases of the streaming kernel; any other number is the host's to name. */
#define PROBE_PHASE_STOP 255u
#define PROBE_LOG_TIME_MASK ((UINT64_C(1) << 56) - 1)
#define PROBE_LOG_PHASE_SHIFT 56

/* k_runs: read runs of equal size that start at listed offsets. */
struct probe_runs_args {
	unsigned long long base;
	unsigned long long
		offset; /* address of uint64_t [run_count], bytes from base */
	unsigned long long sink; /* address of uint32_t [grid] */
	uint32_t run_count;
	uint32_t run_steps; /* run size in PROBE_STEP_BYTES */
};

/*
 * k_stream: read `source` again and again until the host says stop, `limit_ns`
 * passed, or a block made `log_max` entries: it always ends by itself.
 */
struct probe_stream_args {
	unsigned long long source;
	uint64_t step_count; /* source size in PROBE_STREAM_STEP_BYTES */
	unsigned long long
		host_phase; /* mapped host word, written by the host */
	unsigned long long host_seen; /* mapped host word, steps of block 0 */
	unsigned long long
		phase; /* device word, block 0 forwards host_phase to it */
	unsigned long long
		log; /* uint64_t [grid][log_max]: phase << 56 | time */
	unsigned long long
		entries; /* uint32_t [grid]: entries in each block's log */
	unsigned long long sink; /* uint32_t [grid] */
	uint64_t limit_ns;
	uint32_t log_max;
	uint32_t pad;
};

/* k_rows_*: c[token][out] = sum over k of w[out][k] * x[token][k]. */
struct probe_rows_args {
	unsigned long long w; /* bf16 [out][k] */
	unsigned long long x; /* bf16 [tokens][k] */
	unsigned long long c; /* float [tokens][out] */
	uint32_t k; /* multiple of PROBE_ROWS_K */
	uint32_t out; /* multiple of PROBE_ROWS_OUT */
	uint32_t tokens;
	uint32_t pad;
};

/* Word `index` of the pattern `seed`: each word depends on its place. */
PROBE_BOTH static inline uint32_t probe_pattern(uint32_t seed, uint64_t index)
{
	uint32_t x = (uint32_t)index ^ ((uint32_t)(index >> 32) * 0x9e3779b1u);

	x ^= seed * 0x85ebca6bu;
	x ^= x >> 16;
	x *= 0x7feb352du;
	x ^= x >> 15;
	x *= 0x846ca68bu;
	x ^= x >> 16;
	return x;
}

/*
 * What word `index` adds to a checksum: the sum modulo 2^64 tells a moved
 * word from an unmoved one and does not depend on the order of adding.
 */
PROBE_BOTH static inline uint64_t probe_sum_term(uint32_t word, uint64_t index)
{
	return ((uint64_t)word + 1u) * (2u * index + 1u);
}

#endif
