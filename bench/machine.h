/* machine.h - what this machine can do at best: bytes read, FMAs done */
/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Why:     a figure of the engine says little without the floor under it:
 *          decode cannot be faster than memory delivers the weights, prefill
 *          not faster than the cores multiply. Both are measured in the run
 *          that is judged by them, with the same threads on the same cores.
 * Method:  each thread is bound to its core and writes its own buffer first;
 *          all start a run together, and the run lasts from the start to the
 *          last end. Of run_count runs the result is the median of reads, and
 *          of FMAs the best: a peak is what the cores can do.
 *          - read: each thread sums its buffer once, line after line. The
 *            buffers are far larger than the last cache. Pages are huge where
 *            the kernel gives them (private memory, MADV_HUGEPAGE), or those
 *            of a memory file, as the engine's weights have them.
 *          - fma: twelve independent vector sums per thread, in registers.
 *          - tiles: four sums of AMX tiles of bf16, neither zeros nor ones
 *            (a processor multiplies those faster), in registers.
 *          The instructions are the widest of AVX-512 and AVX2 that run here.
 * Units:   bytes per second; floating-point operations per second, where an
 *          FMA is two.
 * Threads: the caller is the first of them while a measurement runs, and has
 *          its own affinity back afterwards.
 */
#ifndef HEDDLE_BENCH_MACHINE_H
#define HEDDLE_BENCH_MACHINE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"

#define MACHINE_THREAD_COUNT_MAX 256

struct machine_load {
	uint32_t thread_count; /* 1 .. MACHINE_THREAD_COUNT_MAX */
	const uint32_t *cores; /* [thread_count] distinct CPUs */
	uint32_t run_count; /* 0 = 9 */
	bool memory_file; /* read: 4 KiB pages of a memory file */
	size_t buffer_bytes; /* read: per thread, 0 = 512 MiB */
};

/* "avx512", "avx2" or "plain". */
const char *machine_isa(void);

/* The first `count` CPUs that this process may use; -EINVAL: too few. */
int machine_cores(uint32_t count, uint32_t *out_cores, struct error *err);

/* -EINVAL (a core), -ENOMEM, -EAGAIN (no thread), each with a text. */
int machine_read_rate(const struct machine_load *load,
	double *out_bytes_per_second, struct error *err);
int machine_fma_rate(const struct machine_load *load,
	double *out_flops_per_second, struct error *err);

/* Only where this process may use AMX: amx_works() of gpu/cpu/gemm_amx.h. */
int machine_tile_rate(const struct machine_load *load,
	double *out_flops_per_second, struct error *err);

#endif
