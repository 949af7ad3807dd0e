/* memmgr_overhead.h - what an engine needs beside weights and KV (-> bytes) */
/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Why:     a budget holds the base, adapters, KV and the engine itself; what
 *          is left for KV is only known when the last one is.
 * Method:  everything that an engine has beside its pages is made at the true
 *          shape of DeepSeek-V2-Lite: pool, window, expert store and map, KV
 *          books and prefix cache on the host back end, whose pages nobody
 *          touches, and the activations of the largest step. Books: what the
 *          allocator has handed out (mallinfo2); activations: their arena.
 * Threads: one, and no other thread of the process allocates meanwhile.
 */
#ifndef HEDDLE_BENCH_MEMMGR_OVERHEAD_H
#define HEDDLE_BENCH_MEMMGR_OVERHEAD_H

#include <stdint.h>

#include "base/error.h"

struct memmgr_overhead {
	uint64_t book_bytes, activation_bytes;
	uint32_t row_count, sequence_count; /* of the largest step */
};

/* movable_pages beside the base. -ENOMEM and what the makers say. */
int memmgr_overhead_measure(
	uint32_t movable_pages, struct memmgr_overhead *out, struct error *err);

#endif
