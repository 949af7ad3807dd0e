/* serve_private.h - the state of the rank that computes, for serve*.c only */
/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A request that runs has a lane: its tokens, its blocks, and all that its
 * samples need, in arrays made at start. A lane is filled from the prompt's
 * pages and the log whenever its request starts: the first time, after a
 * preemption, and in a new life.
 *
 * Two threads take turns, under one lock: the rank's, which messages wake and
 * which takes them in beside a step, and the compute thread, which at the end
 * of a step tells its tokens and begins the next one without waking anybody.
 *
 *   serve.c          life and loop
 *   serve_requests.c what the rank and the scheduler ask for
 *   serve_lane.c     one lane
 *   serve_step.c     plan -> rows, samples -> tokens
 *   serve_measure.c  how long steps take
 *   serve_adapters.c adapters that come and go
 */
#ifndef HEDDLE_ENGINE_SERVE_PRIVATE_H
#define HEDDLE_ENGINE_SERVE_PRIVATE_H

#include <pthread.h>

#include "engine/compute.h"
#include "engine/kv_cache.h"
#include "engine/rank.h"
#include "engine/sched.h"
#include "engine/serve.h"
#include "engine/verify.h"

#define LANE_NONE UINT32_MAX
/* It waits, and fails when it starts: its log could not be written. */
#define LANE_DOOMED (UINT32_MAX - 1)

struct lane {
	uint32_t slot; /* SLOT_NONE = the lane is free */
	bool ends; /* once its step has run */
	enum finish_reason ending; /* why */
	uint32_t count; /* tokens known */
	uint32_t prompt_count;
	uint32_t row; /* of the expert map */
	struct sample_params params; /* all but position and use_count */
	uint32_t use_count;
	bool has_uses; /* some penalty is asked for */
	/* owned arrays */
	uint32_t *tokens; /* [position_count] */
	uint32_t *blocks, *pages; /* of the chain */
	struct kv_chain chain;
	struct token_use *uses; /* [position_count] distinct tokens */
	uint32_t *use_table; /* [use_mask + 1] index in uses + 1, 0 = none */
	struct logit_bias *biases; /* [LOGIT_BIAS_COUNT_MAX] */
	uint32_t *mask; /* [ceil(vocab / 32)] without stop tokens */
};

/* What a step made of a request and nobody was told yet. */
struct outcome {
	uint32_t slot; /* SLOT_NONE = told, or nobody waits for it */
	uint32_t token; /* UINT32_MAX = none could be drawn */
	enum finish_reason reason; /* FINISH_NONE = goes on */
	const struct sample_result *result; /* in the step that ran */
};

/* At the head of a memory file that outlives the engine. */
struct serve_keep {
	struct model_keep model;
	/* How long steps took, of the life that filled the pages. */
	struct sched_model measured;
	uint32_t thread_count; /* 0 = not measured */
	struct verify_sum sum; /* of the pages */
};

struct serve_adapters; /* serve_adapters.c */

struct serve {
	pthread_mutex_t lock; /* of all that follows, once drives is set */
	bool drives; /* the compute thread takes turns, too */
	int broken; /* why its turn failed: -errno, and err */
	struct error err;
	struct rank rank;
	struct engine_serve_options options;
	struct vmm vmm;
	struct serve_keep *keep; /* mapped head of the memory file, or NULL */
	bool told_small; /* the system gives small pages: said once */
	struct model *model;
	struct verify *verify; /* NULL = nothing is kept */
	struct compute *compute;
	struct kv_cache *cache;
	struct sched *sched;
	struct serve_adapters *adapters; /* NULL = there are none */
	uint32_t wanted_pages; /* that a load waits for */
	uint32_t position_count, block_max, use_mask;
	struct lane *lanes; /* owned, [sequence_count] */
	uint32_t *lane_of; /* owned, [slot_count] */
	struct step steps[2]; /* one runs or has run, the other is filled */
	uint32_t step_next; /* that is filled next */
	bool in_flight;
	const struct sched_plan *plan; /* of the step that runs */
	struct outcome *outcomes; /* owned, [sequence_count] */
	uint32_t outcome_count;
	struct kv_cache_counts counted; /* as they were told last */
	uint64_t sweep_ns, closed_ns, warned_ns;
	struct mono now;
};

/* --- serve.c --------------------------------------------------------------------- */

/*
 * Everything up to BEAT_READY, what an earlier life left included; waits for
 * the first loads, or *stop.
 */
int serve_open(const struct engine_place *place,
	const struct engine_serve_options *options,
	const struct model_files *files, struct serve **out, struct error *err);

/* Nobody is told anything: for an engine that ended, or breaks. */
void serve_close(struct serve *serve);

/* Threads that compute: as the options say, or one per core. */
uint32_t serve_thread_count(const struct engine_serve_options *options);

/* After a load of weights: the log says so where they lie in small pages. */
void serve_tell_small_pages(struct serve *serve);

/*
 * Do what there is to do. *out_until: when there may be more without a message
 * or the end of a step, 0 = at once. -EIO and others: the step failed.
 */
int serve_turn(struct serve *serve, uint64_t *out_until, struct error *err);

/*
 * From now on, or no longer, steps follow each other by themselves; turns take
 * in messages beside them.
 */
void serve_drive(struct serve *serve, bool drives);

/* Until then, or a message, or the end of the step that runs, or *stop. */
void serve_sleep(struct serve *serve, const uint32_t *stop, struct mono until);

/* The step that runs is waited for; what is not done is cancelled. */
void serve_cancel_all(struct serve *serve);

/* --- serve_requests.c ---------------------------------------------------------- */

/* Hooks of the rank and of the scheduler; arg is the struct serve. */
void serve_submitted(void *arg, uint32_t slot_index, struct mono now);
void serve_end(void *arg, uint32_t slot_index, enum finish_reason reason);
uint32_t serve_start(void *arg, uint32_t slot_index);
bool serve_grow(void *arg, uint32_t slot_index, uint32_t token_count);
void serve_stop(void *arg, uint32_t slot_index, bool preempted);
uint32_t serve_available(void *arg);

/* Lanes that were to end while their step ran. Between steps. */
void serve_end_due(struct serve *serve);

/* The scheduler lets go of a request, and the dataplane is told. */
void serve_finish(
	struct serve *serve, uint32_t slot_index, enum finish_reason reason);

/* --- serve_lane.c ---------------------------------------------------------------- */

/* -ENOMEM; a lane in any state is released. */
int lane_init(const struct serve *serve, struct lane *lane);
void lane_release(struct lane *lane);

/* Tokens and parameters of a request; false: its pages are not good. */
bool lane_fill(const struct serve *serve, struct lane *lane, uint32_t slot);

/* One more token of the output. */
void lane_add(const struct serve *serve, struct lane *lane, uint32_t token);

/* How the lane's next token is drawn. */
struct sample_params lane_params(
	const struct serve *serve, const struct lane *lane, uint32_t position);

/* Are the parameters what the operations take? */
bool lane_params_ok(const struct serve *serve, const struct rank_request *r);

/* --- serve_step.c ------------------------------------------------------------------ */

/* Plan and begin the next step, where something can run. -EIO. */
int serve_begin(struct serve *serve, struct error *err);

/* The step has run: note what came of it. -EIO and others: it failed. */
int serve_collect(struct serve *serve, struct error *err);

/*
 * Tell the dataplane, if that has not been done. False: the log did not take
 * the token, and the request, which goes on, must be ended.
 */
bool serve_tell(struct serve *serve, struct outcome *outcome);
void serve_tell_all(struct serve *serve);

/* --- serve_adapters.c --------------------------------------------------------------- */

/* Takes the mail from now on. -ENOMEM. */
int serve_adapters_open(
	struct serve *serve, struct engine_mail *mail, struct error *err);

/* Every adapter goes; no step runs. Takes what open left after an error. */
void serve_adapters_close(struct serve *serve);

/* Between steps. True: there is more to do at once. */
bool serve_adapters_turn(struct serve *serve);

/*
 * A step took that long, and a quiet one would have taken quiet_ns. True: a
 * copy ran beside it.
 */
bool serve_adapters_beside(
	struct serve *serve, uint64_t took_ns, uint64_t quiet_ns);

/* Would a turn do something? */
bool serve_adapters_due(const struct serve *serve);

/* Messages were taken in. */
void serve_adapters_taken_in(struct serve *serve);

/* Some of the first loads have not been answered. */
bool serve_adapters_opening(const struct serve *serve);

/* Assert all invariants. */
void serve_adapters_check(const struct serve *serve);

/* The expert map's row of an instance that a request holds, or of the base. */
uint32_t serve_adapters_row(const struct serve *serve, uint32_t instance);

/* --- serve_measure.c --------------------------------------------------------------- */

/* Before the first request; the steps are free. */
int serve_measure(
	struct serve *serve, struct sched_model *out, struct error *err);

#endif
