/* memmgr_load.h - a whole load and unload of an adapter, with real bytes */
/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Why:     what a load costs when nobody waits for the disk: headers, checks,
 *          mapping, one copy from the page cache to where the bytes stay. One
 *          thread does it, and the same thread copies as many bytes with
 *          memcpy from memory to memory.
 * Model:   DeepSeek-V2-Lite with a quarter of its widths (an expert of 1.08
 *          MB) and the experts of the published adapter "law".
 * Threads: one.
 */
#ifndef HEDDLE_BENCH_MEMMGR_LOAD_H
#define HEDDLE_BENCH_MEMMGR_LOAD_H

#include <stdint.h>

#include "base/error.h"
#include "base/weight_format.h"

struct memmgr_load {
	uint64_t adapter_bytes; /* of its tensors */
	uint32_t expert_count, round_count;
	double load_rate; /* bytes per second, files to published; median */
	double copy_rate; /* of memcpy; median */
	double unload_ns; /* median */
};

/* layout: WEIGHT_ROWS or WEIGHT_PANELS. -ENOMEM and what a load says. */
int memmgr_load_measure(
	enum weight_layout layout, struct memmgr_load *out, struct error *err);

#endif
