/* loader.h - a thread for what would hold up steps (job -> result) */
/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Why:   an adapter's files are checked and read while steps run.
 * Use:   loader_begin(), then once loader_is_done(): loader_end().
 * Invariants: one job at a time.
 * Ownership: what a job works on is its own between begin and end; the wake is
 *        borrowed.
 * Threads: begin and end by one thread. The loader's own is started with the
 *        first job and waits for the next.
 */
#ifndef HEDDLE_ENGINE_LOADER_H
#define HEDDLE_ENGINE_LOADER_H

#include <stdbool.h>

#include "base/error.h"
#include "base/wake.h"

struct loader; /* private */

/* `wake` is posted when a job is done. -ENOMEM. */
int loader_create(struct wake *wake, struct loader **out);

/* NULL is allowed. Waits for the job that runs. */
void loader_destroy(struct loader *loader);

/* -EAGAIN: there is no thread. */
int loader_begin(struct loader *loader,
	int (*run)(void *arg, struct error *err), void *arg, struct error *err);

/* Has been begun and has not been ended. */
bool loader_is_busy(const struct loader *loader);
bool loader_is_done(const struct loader *loader);

/* The result of the job, after waiting for it. */
int loader_end(struct loader *loader, struct error *err);

#endif
