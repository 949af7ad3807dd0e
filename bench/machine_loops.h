/* machine_loops.h - the loops that machine.c times, per processor */
/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Why:     the widest instructions differ; the method does not. The Makefile
 *          chooses the file; there is machine_x86.c.
 * Threads: pure functions.
 */
#ifndef HEDDLE_BENCH_MACHINE_LOOPS_H
#define HEDDLE_BENCH_MACHINE_LOOPS_H

#include <stddef.h>
#include <stdint.h>

#define MACHINE_READ_STEP_BYTES 512

struct machine_loops {
	const char *isa;
	/* Some sum of the buffer; bytes is a multiple of the step. */
	uint64_t (*read)(const void *buffer, size_t bytes);
	/* `turns` times fma_flops operations, all in registers. */
	float (*fma)(uint64_t turns);
	uint32_t fma_flops;
	/* The same with tile registers; NULL: this is another processor. */
	float (*tiles)(uint64_t turns);
	uint32_t tile_flops;
};

/* The best that this processor runs. */
const struct machine_loops *machine_loops(void);

#endif
