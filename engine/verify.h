/* verify.h - are kept weights still what was written? (pages -> verdict) */
/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Why:   an engine that died may have written where it should not. The next
 *        life serves from the pages at once; beside it a thread reads them all,
 *        piece by piece with pauses, and compares their checksum with the one
 *        of the life that filled them.
 * Limits: it tells accidents, not enemies: who can write the pages can write
 *        the checksum.
 * Ownership: the model, whose pages are read, and the wake are borrowed.
 * Threads: one starts and stops; the verdict may be asked at any time.
 */
#ifndef HEDDLE_ENGINE_VERIFY_H
#define HEDDLE_ENGINE_VERIFY_H

#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"
#include "base/wake.h"
#include "engine/load.h"

/* In memory that outlives the engine, beside the pages. */
struct verify_sum {
	uint64_t sum;
	uint32_t known; /* 1 = some life has computed it */
};

struct verify; /* private */

/*
 * Compute the sum of the model's base: *kept is filled, or compared where it is
 * known. wake is posted when they differ. -ENOMEM, -EAGAIN.
 */
int verify_start(const struct model *model, struct verify_sum *kept,
	struct wake *wake, struct verify **out, struct error *err);

/* NULL is allowed. Ends it wherever it is. */
void verify_stop(struct verify *verify);

/* Did they differ? */
bool verify_failed(const struct verify *verify);

/* A checksum of `size_bytes`, a multiple of 64, that goes on from `sum`. */
uint64_t verify_add(uint64_t sum, const void *bytes, size_t size_bytes);

#endif
