/* sched.h - what runs in the next step (requests, blocks, time -> plan) */
/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Why:   one place decides order, fairness and the length of a step; it does
 *        no I/O and reads no clock, so that the same calls give the same plan
 *        and random operations can be held against a naive model.
 *
 * Plan:  decode rows first, best rank first; then chunks of prompts that are
 *        being computed; then new ones, as long as the predicted time of the
 *        step stays within its budget (sched_model.h) and blocks last. Where
 *        steps have taken longer than predicted the plan leaves room, so that
 *        all but one in a hundred take no more than SCHED_LATE_PERCENT of the
 *        budget. Some rows of a prompt go in whatever that makes of the budget:
 *        so many that they cost no more than twice what
 *        SCHED_PREFILL_ROWS_MIN do where there is no context. Far into a long
 *        text one row may cost more than the rest of the step: then one does.
 *        Now and then a step has decode rows only, to see what they take.
 * Rank:  (priority, order of arrival): lower goes first. When blocks run out
 *        the running job of the worst rank is preempted: its blocks go, it
 *        waits in its old order and is computed again from its tokens. A
 *        waiting job preempts running ones of a worse priority, never of its
 *        own.
 * Fair:  among equal priorities the name with the least service goes first
 *        (virtual token counter, arXiv 2401.00588): a token computed costs 1,
 *        a token made SCHED_OUTPUT_COST, divided by the name's weight. A name
 *        that was idle begins at the least counter of those that are not.
 *        Each job of a name that runs counts SCHED_AHEAD_COST beforehand, so
 *        that names share the places of a step and not only its past.
 *        Tokens that are found in the cache or computed again cost nothing.
 * Blocks: taken for the whole prompt and one token more when a job starts, so
 *        only decode rows can run short. The blocks themselves are the
 *        caller's, behind struct sched_kv.
 * Bounds: job_count jobs are known at a time; the caller answers what comes
 *        beyond. A job that could not run alone is refused.
 * Ownership: the scheduler owns its tables; kv is borrowed until destroy.
 * Threads: one. Jobs may be removed between plans only, not while a step
 *        runs them.
 */
#ifndef HEDDLE_ENGINE_SCHED_H
#define HEDDLE_ENGINE_SCHED_H

#include <stdbool.h>
#include <stdint.h>

#include "engine/sched_model.h"

/* Service that a generated token costs; a computed one costs 1. */
#define SCHED_OUTPUT_COST 2u
#define SCHED_AHEAD_COST 16u
/* Rows of prompts that a step makes at least, while there are some: with fewer
 * the weights that a step reads would serve nobody. */
#define SCHED_PREFILL_ROWS_MIN 16u
#define SCHED_LATE_PERCENT 105u
/* After so many steps with decode rows and prompts one has no prompts, so that
 * the time that the budget is made of stays known. */
#define SCHED_MIXED_STEPS_MAX 31u
#define SCHED_WEIGHT_MAX 1000u
#define SCHED_REFUSED UINT32_MAX

/* Blocks of a job, as the scheduler sees them. */
struct sched_kv {
	void *arg;
	/* The job starts: returns how many of its tokens are cached, which are
	 * fewer than it has, or SCHED_REFUSED: it is the caller's again. */
	uint32_t (*start)(void *arg, uint32_t job);
	/* Room for token_count tokens; false: there are no blocks, and the job
	 * has what it had. */
	bool (*grow)(void *arg, uint32_t job, uint32_t token_count);
	/* The job has no blocks any more; it waits (preempted) or is gone. */
	void (*stop)(void *arg, uint32_t job, bool preempted);
	/* Blocks that grow() could take. */
	uint32_t (*available)(void *arg);
};

struct sched_config {
	uint32_t job_count; /* ids are below this */
	uint32_t name_count; /* that share: model names */
	uint32_t sequence_count; /* jobs that run at once */
	uint32_t row_count; /* of a step */
	uint32_t block_tokens;
	uint32_t block_count; /* that there are in all */
	/* Length of a step: at most this many times the decode-only step, in
	 * percent; 0 = no bound, prompts are not cut. */
	uint32_t budget_percent;
	/* Longest step without decode rows; 0 = no bound. */
	uint64_t step_max_ns;
	struct sched_kv kv;
};

struct sched_job {
	uint32_t name;
	uint32_t priority; /* lower goes first */
	uint32_t token_count; /* known: prompt, and output so far */
	uint32_t token_max; /* prompt and longest output */
	uint64_t deadline_ns; /* 0 = none */
};

/* Consecutive tokens of one job in a step. */
struct sched_part {
	uint32_t job;
	uint32_t first, count; /* tokens [first, first + count) of the job */
	bool sample; /* they end at the last known token */
};

struct sched_plan {
	struct sched_part *parts; /* owned by the scheduler */
	uint32_t part_count;
	uint32_t decode_count; /* parts that are decode rows; they come first */
	uint32_t row_count;
	struct sched_cost cost;
	uint64_t predicted_ns;
};

enum sched_state { SCHED_NONE, SCHED_WAITING, SCHED_RUNNING };

struct sched; /* private */

/* -ENOMEM. */
int sched_create(const struct sched_config *config,
	const struct sched_model *model, struct sched **out);

/* NULL is allowed. Jobs that run keep their blocks: stop them before. */
void sched_destroy(struct sched *sched);

/* Of a name; 1 where none was set. 1 .. SCHED_WEIGHT_MAX. */
void sched_set_weight(struct sched *sched, uint32_t name, uint32_t weight);

/* Blocks that there are in all, from now on. */
void sched_set_block_count(struct sched *sched, uint32_t block_count);

/* False: it could never run, even alone. The id must not be in use. */
bool sched_submit(
	struct sched *sched, uint32_t id, const struct sched_job *job);

/* The job ends, whatever it does; its blocks go. */
void sched_remove(struct sched *sched, uint32_t id);

/* The first job from id `from` on whose deadline has passed; false: none. */
bool sched_expired(
	struct sched *sched, uint64_t now_ns, uint32_t from, uint32_t *out);

/* The next step; part_count 0: nothing can run. Valid until the next call. */
const struct sched_plan *sched_plan(struct sched *sched);

/*
 * The step of the last plan has run and taken this long; 0 = that says nothing
 * of the next ones.
 */
void sched_ran(struct sched *sched, uint64_t measured_ns);

/* The job has one more token, sampled in the step that ran. */
void sched_token(struct sched *sched, uint32_t id);

enum sched_state sched_job_state(const struct sched *sched, uint32_t id);
uint32_t sched_running(const struct sched *sched);
uint32_t sched_waiting(const struct sched *sched);

/* Service of a name so far, in tokens of weight 1. */
double sched_service(const struct sched *sched, uint32_t name);

const struct sched_model *sched_model(const struct sched *sched);

/* Assert all invariants; cost linear in the jobs. For tests and debug. */
void sched_check(const struct sched *sched);

#endif
