/* compute.h - the thread that runs steps (step -> results) */
/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Why:   while a step runs, messages are taken in and signs of life go on.
 * Use:   compute_begin(), then once compute_is_done(): compute_end(). Or let
 *        `ended` do both on the thread itself: between two steps nobody has to
 *        wake up, and the workers of the back end do not fall asleep.
 * Invariants: one step at a time. Between begin and end nobody but this thread
 *        touches the step, the pages that it names, or the forward pass.
 * Ownership: owns back end and forward pass; borrows model and wake.
 * Threads: begin and end by one at a time; the workers of the back end belong
 *        to the thread in here.
 */
#ifndef HEDDLE_ENGINE_COMPUTE_H
#define HEDDLE_ENGINE_COMPUTE_H

#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"
#include "base/wake.h"
#include "engine/forward.h"
#include "gpu/cpu/cpu.h"

struct compute_config {
	enum cpu_isa isa;
	uint32_t thread_count;
	uint32_t core_count; /* threads keep to the first so many of the cores
				that they may use; 0 = all */
	struct step_capacity capacity;
	struct wake *wake; /* posted when a step is done, unless: */
	/*
	 * On the compute thread, once a step is done; it may end it and begin
	 * the next. True: nobody need be woken. NULL = false.
	 */
	bool (*ended)(void *arg);
	void *arg; /* borrowed */
};

struct compute; /* private */

/* -ENOMEM, -EAGAIN and those of forward_create(). */
int compute_create(struct model *model, const struct compute_config *config,
	struct compute **out, struct error *err);

/* NULL is allowed. Waits for the step that runs. */
void compute_destroy(struct compute *compute);

void compute_begin(struct compute *compute, struct step *step);

bool compute_is_done(const struct compute *compute);

/* For rank_sleep(): not 0 once the step is done. */
const uint32_t *compute_done_word(const struct compute *compute);

/* The result of forward_run(), after waiting for it; *out_ns: how long. */
int compute_end(struct compute *compute, uint64_t *out_ns, struct error *err);

#endif
