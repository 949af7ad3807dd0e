/* sched.c - what runs in the next step (requests, blocks, time -> plan) */
/* SPDX-License-Identifier: Apache-2.0 */
#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "engine/sched.h"

#define NO_JOB UINT32_MAX

struct job {
	enum sched_state state;
	struct sched_job spec; /* token_count grows */
	uint64_t order; /* of arrival */
	uint32_t done; /* tokens whose keys and values are there */
	uint32_t charged; /* tokens that the name has paid for */
	uint32_t next, previous; /* in the queue of its name */
};

/* Waiting jobs of a name, best rank first. */
struct name {
	uint32_t first, last;
	uint32_t job_count; /* waiting and running */
	uint32_t running_count;
	uint32_t weight;
	double service;
};

struct sched {
	struct sched_config config;
	struct sched_model model;
	struct sched_margin margin; /* of steps with both kinds of rows */
	/* What the rows of prompts that go on in any case may cost. Of the
	 * first measurement: what is learned beside long texts has their
	 * context in every term. */
	double least_ns;
	struct job *jobs; /* owned, [job_count] */
	struct name *names; /* owned, [name_count] */
	uint32_t *running; /* owned, [sequence_count], best rank first */
	uint32_t running_count, waiting_count;
	uint64_t order_next;
	uint64_t deadline_ns; /* no job's is before */
	struct sched_plan plan;
	bool in_flight; /* the plan has been given out and has not run */
	bool starved; /* a decode row found no block in this plan */
	uint32_t mixed_count; /* steps with both kinds of rows, one behind the
				 other */
};

int sched_create(const struct sched_config *config,
	const struct sched_model *model, struct sched **out)
{
	struct sched *s = calloc(1, sizeof(*s));

	assert(config->sequence_count > 0 && config->name_count > 0);
	assert(config->row_count >= config->sequence_count);
	assert(config->block_tokens > 0);
	if (!s)
		return -ENOMEM;
	s->config = *config;
	s->model = *model;
	sched_model_clamp(&s->model);
	s->least_ns = 2 * SCHED_PREFILL_ROWS_MIN * s->model.prefill_ns;
	s->deadline_ns = UINT64_MAX;
	s->jobs = calloc(config->job_count, sizeof(*s->jobs));
	s->names = calloc(config->name_count, sizeof(*s->names));
	s->running = calloc(config->sequence_count, sizeof(*s->running));
	s->plan.parts = calloc(config->sequence_count, sizeof(*s->plan.parts));
	if (!s->jobs || !s->names || !s->running || !s->plan.parts) {
		sched_destroy(s);
		return -ENOMEM;
	}
	for (uint32_t i = 0; i < config->name_count; i++)
		s->names[i] = (struct name){
			.first = NO_JOB, .last = NO_JOB, .weight = 1};
	*out = s;
	return 0;
}

void sched_destroy(struct sched *s)
{
	if (!s)
		return;
	free(s->plan.parts);
	free(s->running);
	free(s->names);
	free(s->jobs);
	free(s);
}

void sched_set_weight(struct sched *s, uint32_t name, uint32_t weight)
{
	assert(name < s->config.name_count);
	assert(weight >= 1 && weight <= SCHED_WEIGHT_MAX);
	s->names[name].weight = weight;
}

void sched_set_block_count(struct sched *s, uint32_t block_count)
{
	s->config.block_count = block_count;
}

/* --- order --------------------------------------------------------------------- */

/* Does a go before b? */
static bool ranks_before(const struct job *a, const struct job *b)
{
	if (a->spec.priority != b->spec.priority)
		return a->spec.priority < b->spec.priority;
	return a->order < b->order;
}

/* Most come last: the place is sought from the end. */
static void queue_insert(struct sched *s, uint32_t id)
{
	struct job *job = &s->jobs[id];
	struct name *name = &s->names[job->spec.name];
	uint32_t before = name->last;

	while (before != NO_JOB && ranks_before(job, &s->jobs[before]))
		before = s->jobs[before].previous;
	job->previous = before;
	job->next = before == NO_JOB ? name->first : s->jobs[before].next;
	if (job->previous == NO_JOB)
		name->first = id;
	else
		s->jobs[job->previous].next = id;
	if (job->next == NO_JOB)
		name->last = id;
	else
		s->jobs[job->next].previous = id;
	job->state = SCHED_WAITING;
	s->waiting_count++;
}

static void queue_remove(struct sched *s, uint32_t id)
{
	struct job *job = &s->jobs[id];
	struct name *name = &s->names[job->spec.name];

	if (job->previous == NO_JOB)
		name->first = job->next;
	else
		s->jobs[job->previous].next = job->next;
	if (job->next == NO_JOB)
		name->last = job->previous;
	else
		s->jobs[job->next].previous = job->previous;
	s->waiting_count--;
}

static void running_insert(struct sched *s, uint32_t id)
{
	uint32_t at = s->running_count++;

	assert(at < s->config.sequence_count);
	for (; at > 0 &&
		ranks_before(&s->jobs[id], &s->jobs[s->running[at - 1]]);
		at--)
		s->running[at] = s->running[at - 1];
	s->running[at] = id;
	s->jobs[id].state = SCHED_RUNNING;
	s->names[s->jobs[id].spec.name].running_count++;
}

static void running_remove(struct sched *s, uint32_t id)
{
	uint32_t at = 0;

	while (s->running[at] != id)
		at++;
	s->running_count--;
	s->names[s->jobs[id].spec.name].running_count--;
	memmove(&s->running[at], &s->running[at + 1],
		(s->running_count - at) * sizeof(s->running[0]));
}

/* What a name has been given, and a little of what runs is going to be. */
static double given(const struct name *name)
{
	return name->service +
	       (double)name->running_count * SCHED_AHEAD_COST / name->weight;
}

/*
 * The waiting job that goes next: best priority, then the name that has been
 * given least, then the one that came first; NO_JOB.
 */
static uint32_t best_waiting(const struct sched *s)
{
	uint32_t best = NO_JOB;

	for (uint32_t i = 0; i < s->config.name_count; i++) {
		uint32_t id = s->names[i].first;
		const struct job *a, *b;
		double service;

		if (id == NO_JOB)
			continue;
		if (best == NO_JOB) {
			best = id;
			continue;
		}
		a = &s->jobs[id];
		b = &s->jobs[best];
		service = given(&s->names[b->spec.name]);
		if (a->spec.priority < b->spec.priority ||
			(a->spec.priority == b->spec.priority &&
				(given(&s->names[i]) < service ||
					(given(&s->names[i]) == service &&
						a->order < b->order))))
			best = id;
	}
	return best;
}

/* --- service --------------------------------------------------------------------- */

static void charge(struct sched *s, const struct job *job, uint32_t cost)
{
	struct name *name = &s->names[job->spec.name];

	name->service += (double)cost / name->weight;
}

/* A name that was idle has saved nothing up. */
static void lift(struct sched *s, struct name *name)
{
	double least = -1;

	for (uint32_t i = 0; i < s->config.name_count; i++) {
		const struct name *other = &s->names[i];

		if (other->job_count > 0 &&
			(least < 0 || other->service < least))
			least = other->service;
	}
	if (least > name->service)
		name->service = least;
}

/* --- jobs -------------------------------------------------------------------------- */

static uint32_t blocks_of(const struct sched *s, uint32_t token_count)
{
	return (uint32_t)div_up(token_count, s->config.block_tokens);
}

bool sched_submit(struct sched *s, uint32_t id, const struct sched_job *spec)
{
	struct job *job = &s->jobs[id];
	struct name *name = &s->names[spec->name];

	assert(id < s->config.job_count && job->state == SCHED_NONE);
	assert(spec->name < s->config.name_count);
	assert(spec->token_count > 0 && spec->token_count < spec->token_max);
	if (blocks_of(s, spec->token_max) > s->config.block_count)
		return false;
	if (name->job_count == 0)
		lift(s, name);
	if (spec->deadline_ns != 0 && spec->deadline_ns < s->deadline_ns)
		s->deadline_ns = spec->deadline_ns;
	name->job_count++;
	*job = (struct job){.spec = *spec, .order = s->order_next++};
	queue_insert(s, id);
	return true;
}

void sched_remove(struct sched *s, uint32_t id)
{
	struct job *job = &s->jobs[id];

	assert(id < s->config.job_count && job->state != SCHED_NONE);
	if (job->state == SCHED_WAITING) {
		queue_remove(s, id);
	} else {
		assert(!s->in_flight);
		running_remove(s, id);
		s->config.kv.stop(s->config.kv.arg, id, false);
	}
	s->names[job->spec.name].job_count--;
	job->state = SCHED_NONE;
}

bool sched_expired(
	struct sched *s, uint64_t now_ns, uint32_t from, uint32_t *out)
{
	uint64_t least = UINT64_MAX;

	if (now_ns < s->deadline_ns)
		return false;
	for (uint32_t i = from; i < s->config.job_count; i++) {
		const struct job *job = &s->jobs[i];
		uint64_t deadline_ns = job->spec.deadline_ns;

		if (job->state == SCHED_NONE || deadline_ns == 0)
			continue;
		if (deadline_ns <= now_ns) {
			*out = i;
			return true;
		}
		if (deadline_ns < least)
			least = deadline_ns;
	}
	/* Those before `from` have not been looked at now. */
	if (from == 0)
		s->deadline_ns = least;
	return false;
}

void sched_token(struct sched *s, uint32_t id)
{
	struct job *job = &s->jobs[id];

	assert(job->state == SCHED_RUNNING && !s->in_flight);
	assert(job->spec.token_count < job->spec.token_max);
	job->spec.token_count++;
	job->charged++;
	charge(s, job, SCHED_OUTPUT_COST);
}

/* The running job of the worst rank waits again. */
static void preempt_last(struct sched *s)
{
	uint32_t id = s->running[--s->running_count];

	s->names[s->jobs[id].spec.name].running_count--;
	s->jobs[id].done = 0;
	s->config.kv.stop(s->config.kv.arg, id, true);
	queue_insert(s, id);
}

/* --- the plan ------------------------------------------------------------------------ */

static void add_part(struct sched *s, uint32_t id, uint32_t count, bool decode)
{
	struct sched_plan *plan = &s->plan;
	const struct job *job = &s->jobs[id];

	plan->parts[plan->part_count++] = (struct sched_part){
		.job = id,
		.first = job->done,
		.count = count,
		.sample = job->done + count == job->spec.token_count,
	};
	plan->row_count += count;
	plan->decode_count += decode;
	if (decode) {
		plan->cost.decode_count += count;
		plan->cost.context_count += sched_context(job->done, count);
	} else {
		plan->cost.prefill_count += count;
		plan->cost.prefill_context_count +=
			sched_context(job->done, count);
	}
}

/* Can the job start now, with blocks for its tokens and the next one? */
static bool fits(const struct sched *s, uint32_t id)
{
	uint32_t need = blocks_of(s, s->jobs[id].spec.token_count + 1);
	/* Each running one may need a block before one ends. */
	uint32_t reserve = s->running_count;

	return s->running_count < s->config.sequence_count &&
	       s->config.kv.available(s->config.kv.arg) >=
		       (uint64_t)need + reserve;
}

/* A waiting job puts aside those of a worse priority. */
static void make_room(struct sched *s)
{
	uint32_t id = best_waiting(s);

	if (id == NO_JOB)
		return;
	while (s->running_count > 0) {
		uint32_t last = s->running[s->running_count - 1];

		if (s->jobs[last].spec.priority <= s->jobs[id].spec.priority ||
			fits(s, id))
			return;
		preempt_last(s);
	}
}

/* Room for a decode row, if need be of those that rank behind it. */
static bool grow_decode(struct sched *s, uint32_t at)
{
	const struct sched_kv *kv = &s->config.kv;
	uint32_t id = s->running[at];

	while (!kv->grow(kv->arg, id, s->jobs[id].spec.token_count)) {
		bool itself = s->running_count == at + 1;

		s->starved = true;
		preempt_last(s);
		if (itself)
			return false;
	}
	return true;
}

static uint32_t left_of(const struct job *job)
{
	return job->spec.token_count - job->done;
}

static void plan_decodes(struct sched *s)
{
	for (uint32_t at = 0; at < s->running_count; at++) {
		uint32_t id = s->running[at];

		if (left_of(&s->jobs[id]) == 1 && grow_decode(s, at))
			add_part(s, id, 1, true);
	}
}

/* Rows that go on in any case; one at least. */
static uint32_t least_rows(const struct sched *s, const struct job *job)
{
	const struct sched_cost none = {0};
	uint32_t rows = sched_model_fit(&s->model, &none, job->done,
		SCHED_PREFILL_ROWS_MIN,
		sched_model_predict(&s->model, &none) + s->least_ns);

	return rows > 0 ? rows : 1;
}

/* How many tokens of a prompt this step takes; 0: it is full. */
static uint32_t chunk_of(
	const struct sched *s, const struct job *job, double budget_ns)
{
	const struct sched_plan *plan = &s->plan;
	uint32_t max = s->config.row_count - plan->row_count;
	uint64_t prefill = plan->cost.prefill_count;
	uint32_t least, fit;

	if (max > left_of(job))
		max = left_of(job);
	if (budget_ns == 0)
		return max;
	fit = sched_model_fit(
		&s->model, &plan->cost, job->done, max, budget_ns);
	least = least_rows(s, job);
	least = prefill < least ? least - (uint32_t)prefill : 0;
	if (least > max)
		least = max;
	return fit > least ? fit : least;
}

/* Prompts that are being computed; false: the step is full. */
static bool plan_prefills(struct sched *s, double budget_ns)
{
	for (uint32_t at = 0; at < s->running_count; at++) {
		const struct job *job = &s->jobs[s->running[at]];
		uint32_t count;

		if (left_of(job) == 1)
			continue;
		count = chunk_of(s, job, budget_ns);
		if (count == 0)
			return false;
		add_part(s, s->running[at], count, false);
	}
	return true;
}

/* Waiting -> running, with its blocks. False: it does not run. */
static bool start(struct sched *s, uint32_t id)
{
	const struct sched_kv *kv = &s->config.kv;
	struct job *job = &s->jobs[id];
	uint32_t cached = kv->start(kv->arg, id), paid;

	queue_remove(s, id);
	if (cached == SCHED_REFUSED) {
		s->names[job->spec.name].job_count--;
		job->state = SCHED_NONE;
		return false;
	}
	assert(cached < job->spec.token_count);
	if (!kv->grow(kv->arg, id, job->spec.token_count + 1)) {
		kv->stop(kv->arg, id, true);
		queue_insert(s, id);
		return false;
	}
	job->done = cached;
	running_insert(s, id);
	paid = job->charged > cached ? job->charged : cached;
	if (job->spec.token_count > paid)
		charge(s, job, job->spec.token_count - paid);
	job->charged = job->spec.token_count;
	return true;
}

static void start_waiting(struct sched *s, double budget_ns)
{
	uint32_t id;

	while ((id = best_waiting(s)) != NO_JOB && fits(s, id)) {
		const struct job *job = &s->jobs[id];

		/* Whether there is a row for it is known before it starts. */
		if (chunk_of(s, job, budget_ns) == 0)
			return;
		if (start(s, id))
			add_part(s, id, chunk_of(s, job, budget_ns), false);
		else if (job->state == SCHED_WAITING)
			return;
	}
}

/* How long the step may be predicted to get; 0 = as long as it likes. */
static double budget_of(const struct sched *s)
{
	double late = SCHED_LATE_PERCENT / 100.0, margin, budget_ns;

	if (s->config.budget_percent == 0)
		return 0;
	if (s->plan.decode_count == 0)
		return (double)s->config.step_max_ns;
	budget_ns = sched_model_predict(&s->model, &s->plan.cost) *
		    s->config.budget_percent / 100;
	margin = sched_margin_of(&s->margin);
	return margin > late ? budget_ns * late / margin : budget_ns;
}

/* Beside prompts that do not end, what a step without them takes is unknown. */
static bool is_probe(const struct sched *s)
{
	return s->config.budget_percent != 0 && s->plan.decode_count > 0 &&
	       s->mixed_count >= SCHED_MIXED_STEPS_MAX;
}

const struct sched_plan *sched_plan(struct sched *s)
{
	struct sched_plan *plan = &s->plan;
	double budget_ns;

	assert(!s->in_flight);
	*plan = (struct sched_plan){.parts = plan->parts};
	s->starved = false;
	make_room(s);
	plan_decodes(s);
	budget_ns = budget_of(s);
	/* What was just put aside for want of blocks does not come back. */
	if (!is_probe(s) && plan_prefills(s, budget_ns) && !s->starved)
		start_waiting(s, budget_ns);
	plan->predicted_ns =
		(uint64_t)sched_model_predict(&s->model, &plan->cost);
	s->in_flight = plan->part_count > 0;
	return plan;
}

void sched_ran(struct sched *s, uint64_t measured_ns)
{
	bool mixed;

	assert(s->in_flight);
	s->in_flight = false;
	for (uint32_t i = 0; i < s->plan.part_count; i++) {
		const struct sched_part *part = &s->plan.parts[i];

		s->jobs[part->job].done += part->count;
	}
	mixed = s->plan.cost.decode_count > 0 && s->plan.cost.prefill_count > 0;
	s->mixed_count = mixed ? s->mixed_count + 1 : 0;
	if (measured_ns == 0)
		return;
	if (mixed)
		sched_margin_note(&s->margin,
			(double)measured_ns / (double)s->plan.predicted_ns);
	sched_model_correct(&s->model, &s->plan.cost, (double)measured_ns);
}

/* --- to look at ------------------------------------------------------------------------ */

enum sched_state sched_job_state(const struct sched *s, uint32_t id)
{
	assert(id < s->config.job_count);
	return s->jobs[id].state;
}

uint32_t sched_running(const struct sched *s)
{
	return s->running_count;
}

uint32_t sched_waiting(const struct sched *s)
{
	return s->waiting_count;
}

double sched_service(const struct sched *s, uint32_t name)
{
	assert(name < s->config.name_count);
	return s->names[name].service;
}

const struct sched_model *sched_model(const struct sched *s)
{
	return &s->model;
}

static void check_queue(const struct sched *s, uint32_t name)
{
	uint32_t id = s->names[name].first, previous = NO_JOB;

	for (; id != NO_JOB; previous = id, id = s->jobs[id].next) {
		const struct job *job = &s->jobs[id];

		assert(job->state == SCHED_WAITING);
		assert(job->spec.name == name && job->previous == previous);
		assert(job->done == 0);
		assert(previous == NO_JOB ||
			ranks_before(&s->jobs[previous], job));
	}
	assert(s->names[name].last == previous);
}

void sched_check(const struct sched *s)
{
	uint32_t waiting = 0, running = 0, owned = 0;

	for (uint32_t i = 0; i < s->config.job_count; i++) {
		const struct job *job = &s->jobs[i];

		waiting += job->state == SCHED_WAITING;
		running += job->state == SCHED_RUNNING;
		assert(job->state == SCHED_NONE ||
			job->done < job->spec.token_count);
	}
	assert(waiting == s->waiting_count && running == s->running_count);
	for (uint32_t i = 0; i < s->config.name_count; i++) {
		check_queue(s, i);
		owned += s->names[i].job_count;
	}
	assert(owned == waiting + running);
	for (uint32_t i = 0; i < s->running_count; i++) {
		assert(s->jobs[s->running[i]].state == SCHED_RUNNING);
		assert(i == 0 || ranks_before(&s->jobs[s->running[i - 1]],
					 &s->jobs[s->running[i]]));
	}
}
