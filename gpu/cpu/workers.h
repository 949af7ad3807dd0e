/* workers.h - a small pool of threads that split an array of items */
/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Why:        an operation is a loop over independent items (outputs, rows,
 *             heads); this runs the loop on several cores. Each item is
 *             computed alone, so no result depends on the number of threads
 *             or on where the split falls.
 * Invariants: items are split once, in contiguous ranges in worker order,
 *             the first item_count % count workers taking one more. Worker 0
 *             is the caller. A range is never empty when fn is called.
 * Ownership:  the pool owns its threads; arg stays the caller's.
 * Threads:    one thread at a time may call workers_run(); fn runs on all
 *             of them at once and must not call workers_run(). What the
 *             caller wrote before is seen by fn, and what fn wrote is seen by
 *             the caller afterwards.
 * Limits:     WORKER_COUNT_MAX threads. Nothing is allocated by a run.
 */
#ifndef HEDDLE_GPU_CPU_WORKERS_H
#define HEDDLE_GPU_CPU_WORKERS_H

#include <stddef.h>
#include <stdint.h>

#define WORKER_COUNT_MAX 1024

/* Do the items first .. end - 1; worker < the count of the pool. */
typedef void (*workers_fn)(
	const void *arg, size_t first, size_t end, uint32_t worker);

struct workers; /* private */

/*
 * A pool of `count` workers, 1 .. WORKER_COUNT_MAX, the caller being one of
 * them: 1 starts no thread. -ENOMEM; -EAGAIN: a thread could not be started,
 * and none is left running.
 */
int workers_create(uint32_t count, struct workers **out);

/* End the threads; NULL is allowed. */
void workers_destroy(struct workers *workers);

uint32_t workers_count(const struct workers *workers);

/* Call fn on ranges that cover 0 .. item_count - 1; returns when all end. */
void workers_run(struct workers *workers, size_t item_count, workers_fn fn,
	const void *arg);

#endif
