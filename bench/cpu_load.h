/* cpu_load.h - how fast a model comes into memory (directory -> GB/s) */
/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Why:   loading cannot be faster than the file can be read. Both are timed in
 *        turns: model_load(), and the same reader with a sink that throws
 *        everything away, with one lane and with as many as the load has; the
 *        faster of the two, by their medians, is the floor.
 * Fresh: a turn loads twice. The first load's memory is what the system has to
 *        give; a virtual machine may have to ask its host for it, page by page,
 *        which takes longer than the file. The second finds what the first gave
 *        back a moment ago. Both are told.
 */
#ifndef HEDDLE_BENCH_CPU_LOAD_H
#define HEDDLE_BENCH_CPU_LOAD_H

#include <stdint.h>

#include "base/error.h"
#include "gpu/cpu/cpu.h"

/* Bytes per second: medians of the turns. */
struct cpu_load_rates {
	double load; /* the second of a turn */
	double fresh_load; /* the first */
	double read;
	uint32_t direct_file_count; /* read past the page cache */
};

#define CPU_LOAD_RUN_COUNT_MAX 65

/* run_count 1 .. CPU_LOAD_RUN_COUNT_MAX. -errno with a text. */
int cpu_load_measure(const char *directory, enum cpu_isa isa,
	uint32_t thread_count, uint32_t run_count, struct cpu_load_rates *out,
	struct error *err);

#endif
