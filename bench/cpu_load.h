/* cpu_load.h - how fast a model comes into memory (directory -> GB/s) */
/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Why:   loading cannot be faster than the file can be read. Both are timed in
 *        turns: model_load(), and the same reader with a sink that throws
 *        everything away, with one lane and with as many as the load has; the
 *        faster of the two is the floor of the turn, and the share of the
 *        floor is the median of the turns' shares.
 */
#ifndef HEDDLE_BENCH_CPU_LOAD_H
#define HEDDLE_BENCH_CPU_LOAD_H

#include <stdint.h>

#include "base/error.h"
#include "gpu/cpu/cpu.h"

struct cpu_load_rates {
	double load_bytes_per_second; /* median */
	double read_bytes_per_second; /* of which that is the median share */
	uint32_t direct_file_count; /* read past the page cache */
};

/* run_count 1 .. 32. -errno with a text. */
int cpu_load_measure(const char *directory, enum cpu_isa isa,
	uint32_t thread_count, uint32_t run_count, struct cpu_load_rates *out,
	struct error *err);

#endif
