/* workers.h - a small pool of threads that split an array of items */
/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Why:        an operation is a loop over independent items (outputs, rows,
 *             heads); this runs the loop on several cores. Each item is
 *             computed alone, so no result depends on the number of threads
 *             or on who does which item.
 * Split:      each worker has a part of the items, side by side, and does it
 *             in ranges of a grain or more; who is done takes half of what is
 *             left of another part: on a machine that is shared, a thread that
 *             lost its time slice does less. fn is called any number of times
 *             per worker, always with first a multiple of the grain and never
 *             with an empty range.
 * Invariants: worker 0 is the caller, and it works too. A run ends when all
 *             items are done; a thread that has not woken by then is not
 *             waited for.
 * Waiting:    between runs a thread spins for some ten microseconds and then
 *             sleeps on a futex; it spins less while the gaps are long, and
 *             not at all when the pool has more threads than cores.
 * Ownership:  the pool owns its threads; arg stays the caller's.
 * Threads:    the thread that made the pool is its caller: it alone runs and
 *             destroys. fn runs on all of them at once and must not run the
 *             pool. What the caller wrote before is seen by fn, and what fn
 *             wrote is seen by the caller afterwards.
 * Limits:     WORKER_COUNT_MAX threads; a run has less than 2^32 grains.
 *             Nothing is allocated by a run.
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
 * them: 1 starts no thread. cores: the CPU to which each worker is bound, the
 * caller until workers_destroy() restores its old ones; NULL binds nobody.
 * -ENOMEM; -EAGAIN: a thread could not be started, and none is left running;
 * -EINVAL: a core does not exist or this thread may not use it.
 */
int workers_create(uint32_t count, const uint32_t *cores, struct workers **out);

/* End the threads; NULL is allowed. */
void workers_destroy(struct workers *workers);

uint32_t workers_count(const struct workers *workers);

/*
 * Call fn on ranges that cover 0 .. item_count - 1; returns when all are
 * done. The grain gives each worker about eight ranges: for items of about
 * the same, and not too small, cost.
 */
void workers_run(struct workers *workers, size_t item_count, workers_fn fn,
	const void *arg);

/* The same with a grain of the caller's, > 0. */
void workers_run_grain(struct workers *workers, size_t item_count, size_t grain,
	workers_fn fn, const void *arg);

/*
 * The same when it is known what the whole run costs one core, roughly, in
 * nanoseconds (for memory: bytes / 8): a run too short to pay for a barrier is
 * done by the caller alone, as one range, and else the grain takes about
 * 2 us or more; ranges begin as several grains and get smaller towards the
 * end of a worker's part, so that threads end together. For operations that
 * can be small.
 */
void workers_run_cost(struct workers *workers, size_t item_count,
	uint64_t cost_ns, workers_fn fn, const void *arg);

#endif
