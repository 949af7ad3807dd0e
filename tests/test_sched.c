/* test_sched.c - the scheduler against a naive model of what it promises */
/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "engine/sched.h"
#include "tests/fake/fake_os.h"
#include "tests/suite.h"

#define JOBS 40u
#define NAMES 3u
#define BLOCK 16u
#define NONE UINT32_MAX

static const struct sched_model flat = {1e6, 1e5, 5e4, 10, 10};

/* --- blocks that are only counted --------------------------------------------- */

struct fake_kv {
	uint32_t block_count, used;
	uint32_t held[JOBS]; /* blocks */
	uint32_t cached[JOBS]; /* tokens that start() finds */
	bool refuse[JOBS];
	uint32_t preemptions;
};

static uint32_t fake_start(void *arg, uint32_t job)
{
	const struct fake_kv *kv = arg;

	return kv->refuse[job] ? SCHED_REFUSED : kv->cached[job];
}

static bool fake_grow(void *arg, uint32_t job, uint32_t token_count)
{
	struct fake_kv *kv = arg;
	uint32_t need = (token_count + BLOCK - 1) / BLOCK;

	if (need <= kv->held[job])
		return true;
	if (kv->used + need - kv->held[job] > kv->block_count)
		return false;
	kv->used += need - kv->held[job];
	kv->held[job] = need;
	return true;
}

static void fake_stop(void *arg, uint32_t job, bool preempted)
{
	struct fake_kv *kv = arg;

	kv->used -= kv->held[job];
	kv->held[job] = 0;
	kv->preemptions += preempted;
}

static uint32_t fake_available(void *arg)
{
	const struct fake_kv *kv = arg;

	return kv->block_count - kv->used;
}

static struct sched_config make_config(struct fake_kv *kv, uint32_t blocks)
{
	*kv = (struct fake_kv){.block_count = blocks};
	return (struct sched_config){
		.job_count = JOBS,
		.name_count = NAMES,
		.sequence_count = 8,
		.row_count = 64,
		.block_tokens = BLOCK,
		.block_count = blocks,
		.budget_percent = 200,
		.kv = {kv, fake_start, fake_grow, fake_stop, fake_available},
	};
}

/* --- the naive model: everything is sought anew, nothing is kept in order ------ */

struct naive_job {
	enum sched_state state;
	struct sched_job spec;
	uint64_t order;
	uint32_t done, charged;
};

struct naive {
	struct sched_config config;
	struct sched_model model;
	struct fake_kv kv;
	struct naive_job jobs[JOBS];
	double service[NAMES];
	uint32_t weight[NAMES];
	uint64_t order;
	struct sched_part parts[JOBS];
	uint32_t part_count, rows;
	struct sched_cost cost;
	uint32_t mixed; /* steps with both kinds of rows until now */
	struct sched_margin margin;
};

static uint32_t naive_count(
	const struct naive *n, enum sched_state state, uint32_t name)
{
	uint32_t count = 0;

	for (uint32_t i = 0; i < JOBS; i++)
		count += n->jobs[i].state == state &&
			 (name == NONE || n->jobs[i].spec.name == name);
	return count;
}

/* The running job after `after` in rank (NONE: the first); NONE: no more. */
static uint32_t naive_next(const struct naive *n, uint32_t after)
{
	uint32_t best = NONE;

	for (uint32_t i = 0; i < JOBS; i++) {
		const struct naive_job *j = &n->jobs[i];
		const struct naive_job *a =
			after == NONE ? NULL : &n->jobs[after];

		if (j->state != SCHED_RUNNING)
			continue;
		if (a && (j->spec.priority < a->spec.priority ||
				 (j->spec.priority == a->spec.priority &&
					 j->order <= a->order)))
			continue;
		if (best == NONE ||
			j->spec.priority < n->jobs[best].spec.priority ||
			(j->spec.priority == n->jobs[best].spec.priority &&
				j->order < n->jobs[best].order))
			best = i;
	}
	return best;
}

static uint32_t naive_last(const struct naive *n)
{
	uint32_t last = NONE, at = NONE;

	while ((at = naive_next(n, at)) != NONE)
		last = at;
	return last;
}

static double naive_given(const struct naive *n, uint32_t name)
{
	return n->service[name] + (double)naive_count(n, SCHED_RUNNING, name) *
					  SCHED_AHEAD_COST / n->weight[name];
}

static uint32_t naive_best(const struct naive *n)
{
	uint32_t best = NONE;

	for (uint32_t i = 0; i < JOBS; i++) {
		const struct naive_job *j = &n->jobs[i], *b;

		if (j->state != SCHED_WAITING)
			continue;
		if (best == NONE) {
			best = i;
			continue;
		}
		b = &n->jobs[best];
		if (j->spec.priority != b->spec.priority) {
			if (j->spec.priority < b->spec.priority)
				best = i;
		} else if (naive_given(n, j->spec.name) !=
			   naive_given(n, b->spec.name)) {
			if (naive_given(n, j->spec.name) <
				naive_given(n, b->spec.name))
				best = i;
		} else if (j->order < b->order) {
			best = i;
		}
	}
	return best;
}

static void naive_preempt(struct naive *n, uint32_t id)
{
	fake_stop(&n->kv, id, true);
	n->jobs[id].state = SCHED_WAITING;
	n->jobs[id].done = 0;
}

static bool naive_fits(const struct naive *n, uint32_t id)
{
	uint32_t running = naive_count(n, SCHED_RUNNING, NONE);
	uint32_t tokens = n->jobs[id].spec.token_count + 1;

	return running < n->config.sequence_count &&
	       n->kv.block_count - n->kv.used >=
		       (tokens + BLOCK - 1) / BLOCK + running;
}

static void naive_add(struct naive *n, uint32_t id, uint32_t count, bool decode)
{
	const struct naive_job *j = &n->jobs[id];

	n->parts[n->part_count++] = (struct sched_part){
		id, j->done, count, j->done + count == j->spec.token_count};
	n->rows += count;
	if (decode)
		n->cost.decode_count++;
	else
		n->cost.prefill_count += count;
	for (uint32_t i = 0; i < count; i++)
		*(decode ? &n->cost.context_count
			 : &n->cost.prefill_context_count) += j->done + i + 1;
}

static uint32_t naive_least(const struct naive *n, uint32_t done)
{
	const struct sched_model *m = &n->model;
	double bound = 2 * SCHED_PREFILL_ROWS_MIN * flat.prefill_ns, sum = 0;
	uint32_t rows = 0;

	for (; rows < SCHED_PREFILL_ROWS_MIN; rows++) {
		sum += m->prefill_ns +
		       m->prefill_context_ns * (done + rows + 1);
		if (sum > bound)
			break;
	}
	return rows ? rows : 1;
}

static uint32_t naive_chunk(const struct naive *n, uint32_t id, double budget)
{
	const struct naive_job *j = &n->jobs[id];
	uint32_t left = j->spec.token_count - j->done, count = 0;

	if (left > n->config.row_count - n->rows)
		left = n->config.row_count - n->rows;
	if (budget == 0)
		return left;
	for (; count < left; count++) {
		struct sched_cost cost = n->cost;

		cost.prefill_count += count + 1;
		for (uint32_t i = 0; i <= count; i++)
			cost.prefill_context_count += j->done + i + 1;
		if (sched_model_predict(&n->model, &cost) > budget &&
			cost.prefill_count > naive_least(n, j->done))
			break;
	}
	return count;
}

static bool naive_start(struct naive *n, uint32_t id)
{
	struct naive_job *j = &n->jobs[id];
	uint32_t paid;

	if (n->kv.refuse[id]) {
		j->state = SCHED_NONE;
		return true;
	}
	if (!fake_grow(&n->kv, id, j->spec.token_count + 1))
		return false;
	j->state = SCHED_RUNNING;
	j->done = n->kv.cached[id];
	paid = j->charged > j->done ? j->charged : j->done;
	if (j->spec.token_count > paid)
		n->service[j->spec.name] +=
			(double)(j->spec.token_count - paid) /
			n->weight[j->spec.name];
	j->charged = j->spec.token_count;
	return true;
}

static void naive_make_room(struct naive *n)
{
	uint32_t id = naive_best(n), last;

	while (id != NONE && (last = naive_last(n)) != NONE &&
		n->jobs[last].spec.priority > n->jobs[id].spec.priority &&
		!naive_fits(n, id))
		naive_preempt(n, last);
}

/* Returns whether some row found no block. */
static bool naive_decodes(struct naive *n)
{
	bool starved = false;

	for (uint32_t id = naive_next(n, NONE); id != NONE;
		id = naive_next(n, id)) {
		const struct naive_job *j = &n->jobs[id];

		if (j->spec.token_count - j->done != 1)
			continue;
		while (j->state == SCHED_RUNNING &&
			!fake_grow(&n->kv, id, j->spec.token_count)) {
			naive_preempt(n, naive_last(n));
			starved = true;
		}
		if (j->state != SCHED_RUNNING)
			break;
		naive_add(n, id, 1, true);
	}
	return starved;
}

static void naive_plan(struct naive *n)
{
	double budget;
	bool starved, full = false;
	uint32_t id;

	n->part_count = n->rows = 0;
	n->cost = (struct sched_cost){0};
	naive_make_room(n);
	starved = naive_decodes(n);
	budget = sched_model_predict(&n->model, &n->cost) *
		 n->config.budget_percent / 100;
	if (sched_margin_of(&n->margin) * 100 > SCHED_LATE_PERCENT)
		budget = budget * (SCHED_LATE_PERCENT / 100.0) /
			 sched_margin_of(&n->margin);
	if (n->cost.decode_count == 0)
		budget = n->config.budget_percent
				 ? (double)n->config.step_max_ns
				 : 0;
	if (n->config.budget_percent && n->cost.decode_count > 0 &&
		n->mixed >= SCHED_MIXED_STEPS_MAX)
		return;
	for (id = naive_next(n, NONE); id != NONE && !full;
		id = naive_next(n, id)) {
		uint32_t count;

		if (n->jobs[id].spec.token_count - n->jobs[id].done == 1)
			continue;
		count = naive_chunk(n, id, budget);
		full = count == 0;
		if (!full)
			naive_add(n, id, count, false);
	}
	while (!full && !starved && (id = naive_best(n)) != NONE &&
		naive_fits(n, id) && naive_chunk(n, id, budget) > 0) {
		if (!naive_start(n, id))
			break;
		if (n->jobs[id].state == SCHED_RUNNING)
			naive_add(n, id, naive_chunk(n, id, budget), false);
	}
}

static void naive_ran(struct naive *n, double measured_ns)
{
	uint64_t predicted = (uint64_t)sched_model_predict(&n->model, &n->cost);

	for (uint32_t i = 0; i < n->part_count; i++)
		n->jobs[n->parts[i].job].done += n->parts[i].count;
	if (n->cost.decode_count > 0 && n->cost.prefill_count > 0) {
		n->mixed++;
		sched_margin_note(&n->margin, measured_ns / (double)predicted);
	} else {
		n->mixed = 0;
	}
	sched_model_correct(&n->model, &n->cost, measured_ns);
}

static void naive_submit(
	struct naive *n, uint32_t id, const struct sched_job *spec)
{
	if (naive_count(n, SCHED_WAITING, spec->name) +
			naive_count(n, SCHED_RUNNING, spec->name) ==
		0) {
		double least = INFINITY;

		for (uint32_t i = 0; i < NAMES; i++)
			if (naive_count(n, SCHED_WAITING, i) +
					naive_count(n, SCHED_RUNNING, i) >
				0)
				least = fmin(least, n->service[i]);
		if (isfinite(least) && least > n->service[spec->name])
			n->service[spec->name] = least;
	}
	n->jobs[id] = (struct naive_job){
		.state = SCHED_WAITING, .spec = *spec, .order = n->order++};
}

static void naive_remove(struct naive *n, uint32_t id)
{
	if (n->jobs[id].state == SCHED_RUNNING)
		fake_stop(&n->kv, id, false);
	n->jobs[id].state = SCHED_NONE;
}

static void naive_token(struct naive *n, uint32_t id)
{
	struct naive_job *j = &n->jobs[id];

	j->spec.token_count++;
	j->charged++;
	n->service[j->spec.name] +=
		(double)SCHED_OUTPUT_COST / n->weight[j->spec.name];
}

/* --- random operations -------------------------------------------------------------- */

struct pair {
	struct sched *real;
	struct fake_kv kv;
	struct naive naive;
	uint64_t random;
};

static void open_pair(struct pair *p, uint64_t random)
{
	struct sched_config config;

	p->random = random;
	config = make_config(&p->kv, 12 + suite_below(&p->random, 40));
	config.budget_percent = suite_below(&p->random, 4) ? 200 : 0;
	config.step_max_ns = suite_below(&p->random, 2) ? 2500000 : 0;
	config.sequence_count = 1 + suite_below(&p->random, 8);
	CU_ASSERT_EQUAL_FATAL(sched_create(&config, &flat, &p->real), 0);
	p->naive = (struct naive){.config = config, .model = flat, .kv = p->kv};
	for (uint32_t i = 0; i < NAMES; i++) {
		p->naive.weight[i] = 1 + suite_below(&p->random, 3);
		sched_set_weight(p->real, i, p->naive.weight[i]);
	}
}

static void random_submit(struct pair *p)
{
	uint32_t id = suite_below(&p->random, JOBS);
	struct sched_job spec = {
		.name = suite_below(&p->random, NAMES),
		.priority = suite_below(&p->random, 3),
		.token_count = 1 + suite_below(&p->random, 120),
	};
	bool fits;

	if (p->naive.jobs[id].state != SCHED_NONE)
		return;
	spec.token_max = spec.token_count + 1 + suite_below(&p->random, 100);
	p->kv.cached[id] = suite_below(&p->random, 3)
				   ? 0
				   : suite_below(&p->random, spec.token_count);
	p->kv.refuse[id] = suite_below(&p->random, 20) == 0;
	p->naive.kv.cached[id] = p->kv.cached[id];
	p->naive.kv.refuse[id] = p->kv.refuse[id];
	fits = (spec.token_max + BLOCK - 1) / BLOCK <= p->kv.block_count;
	CU_ASSERT_EQUAL(sched_submit(p->real, id, &spec), fits);
	if (fits)
		naive_submit(&p->naive, id, &spec);
}

static void random_remove(struct pair *p)
{
	uint32_t id = suite_below(&p->random, JOBS);

	if (p->naive.jobs[id].state == SCHED_NONE)
		return;
	sched_remove(p->real, id);
	naive_remove(&p->naive, id);
}

static bool same_part(const struct sched_part *a, const struct sched_part *b)
{
	return a->job == b->job && a->first == b->first &&
	       a->count == b->count && a->sample == b->sample;
}

static void compare_plan(const struct pair *p, const struct sched_plan *plan)
{
	CU_ASSERT_EQUAL_FATAL(plan->part_count, p->naive.part_count);
	CU_ASSERT_EQUAL(plan->row_count, p->naive.rows);
	for (uint32_t i = 0; i < plan->part_count; i++)
		CU_ASSERT_TRUE_FATAL(
			same_part(&plan->parts[i], &p->naive.parts[i]));
	for (uint32_t i = 0; i < JOBS; i++) {
		CU_ASSERT_EQUAL(
			sched_job_state(p->real, i), p->naive.jobs[i].state);
		CU_ASSERT_EQUAL(p->kv.held[i], p->naive.kv.held[i]);
	}
	for (uint32_t i = 0; i < NAMES; i++)
		CU_ASSERT_EQUAL(sched_service(p->real, i), p->naive.service[i]);
	CU_ASSERT_EQUAL(p->kv.preemptions, p->naive.kv.preemptions);
}

static void random_step(struct pair *p)
{
	const struct sched_plan *plan = sched_plan(p->real);
	double measured = 1e5 + suite_below(&p->random, 10000000);

	naive_plan(&p->naive);
	compare_plan(p, plan);
	if (plan->part_count == 0)
		return;
	sched_ran(p->real, (uint64_t)measured);
	naive_ran(&p->naive, measured);
	for (uint32_t i = 0; i < plan->part_count; i++) {
		uint32_t id = plan->parts[i].job;
		const struct naive_job *j = &p->naive.jobs[id];

		if (!plan->parts[i].sample)
			continue;
		/* The last token, or a stop. */
		if (j->spec.token_count + 1 == j->spec.token_max ||
			suite_below(&p->random, 50) == 0) {
			sched_remove(p->real, id);
			naive_remove(&p->naive, id);
		} else {
			sched_token(p->real, id);
			naive_token(&p->naive, id);
		}
	}
	sched_check(p->real);
}

/* Everything ends, with nothing left behind. */
static void drain(struct pair *p)
{
	for (uint32_t i = 0; i < 100000; i++) {
		if (sched_running(p->real) + sched_waiting(p->real) == 0)
			break;
		random_step(p);
	}
	CU_ASSERT_EQUAL(sched_running(p->real), 0);
	CU_ASSERT_EQUAL(sched_waiting(p->real), 0);
	CU_ASSERT_EQUAL(p->kv.used, 0);
}

static void test_sched__does_what_the_naive_model_does(void)
{
	uint64_t seed = suite_seed(8001);
	uint32_t preemptions = 0;

	for (uint32_t round = 0; round < 60; round++) {
		struct pair p;

		open_pair(&p, seed + round);
		for (uint32_t i = 0; i < 300; i++) {
			uint32_t what = suite_below(&p.random, 10);

			if (what < 4)
				random_submit(&p);
			else if (what == 4)
				random_remove(&p);
			else
				random_step(&p);
		}
		drain(&p);
		preemptions += p.kv.preemptions;
		sched_destroy(p.real);
	}
	/* Else the rounds were too easy. */
	CU_ASSERT_TRUE(preemptions > 100);
}

/* --- what is promised, one by one ----------------------------------------------------- */

struct one {
	struct sched *sched;
	struct fake_kv kv;
};

static void open_one(struct one *one, uint32_t blocks, uint32_t sequences)
{
	struct sched_config config = make_config(&one->kv, blocks);

	config.sequence_count = sequences;
	CU_ASSERT_EQUAL_FATAL(sched_create(&config, &flat, &one->sched), 0);
}

static void give(struct one *one, uint32_t id, uint32_t tokens, uint32_t max)
{
	const struct sched_job spec = {.token_count = tokens, .token_max = max};

	CU_ASSERT_TRUE(sched_submit(one->sched, id, &spec));
}

/* Run the plan; every sample becomes a token. */
static void run(struct one *one, const struct sched_plan *plan, uint64_t ns)
{
	sched_ran(one->sched, ns);
	for (uint32_t i = 0; i < plan->part_count; i++)
		if (plan->parts[i].sample)
			sched_token(one->sched, plan->parts[i].job);
}

static void test_sched__a_prompt_is_cut_beside_decode_rows_only(void)
{
	const struct sched_plan *plan;
	struct one one;

	open_one(&one, 100, 8);
	give(&one, 0, 60, 200);
	plan = sched_plan(one.sched);
	CU_ASSERT_EQUAL(plan->row_count, 60);
	run(&one, plan, plan->predicted_ns);
	give(&one, 1, 200, 300);
	plan = sched_plan(one.sched);
	CU_ASSERT_EQUAL(plan->decode_count, 1);
	CU_ASSERT_EQUAL(plan->part_count, 2);
	/* 1.1 ms for the row; as much again is 22 tokens of 50 us. */
	CU_ASSERT_TRUE(plan->parts[1].count >= 20);
	CU_ASSERT_TRUE(plan->parts[1].count <= 22);
	CU_ASSERT_FALSE(plan->parts[1].sample);
	run(&one, plan, plan->predicted_ns);
	sched_remove(one.sched, 0);
	sched_remove(one.sched, 1);
	sched_destroy(one.sched);
}

static void test_sched__sixteen_rows_go_on_whatever_they_cost(void)
{
	const struct sched_model slow = {1e5, 1e5, 1e9, 1, 1};
	const struct sched_plan *plan;
	struct sched_config config;
	struct one one;

	config = make_config(&one.kv, 100);
	CU_ASSERT_EQUAL_FATAL(sched_create(&config, &slow, &one.sched), 0);
	give(&one, 0, 1, 200);
	plan = sched_plan(one.sched);
	run(&one, plan, plan->predicted_ns);
	give(&one, 1, 10, 300);
	give(&one, 2, 200, 300);
	give(&one, 3, 200, 300);
	plan = sched_plan(one.sched);
	CU_ASSERT_EQUAL(plan->cost.prefill_count, SCHED_PREFILL_ROWS_MIN);
	CU_ASSERT_EQUAL(plan->part_count, 3);
	sched_ran(one.sched, plan->predicted_ns);
	sched_destroy(one.sched);
}

/*
 * Prompt tokens far behind cost much more than was thought: chunks shrink, and
 * the time that they are measured by is not stretched by them.
 */
static void test_sched__long_prompts_do_not_stretch_the_budget(void)
{
	const struct sched_model truth = {1e6, 1e5, 5e4, 10, 30};
	struct sched_cost alone = {.decode_count = 4};
	uint32_t steps = 0, quiet = 0, late = 0;
	struct one one;

	open_one(&one, 2000, 8);
	for (uint32_t id = 0; id < 4; id++)
		give(&one, id, 1, 4000);
	run(&one, sched_plan(one.sched), 1000000);
	give(&one, 4, 8000, 8001);
	while (sched_job_state(one.sched, 4) != SCHED_NONE) {
		const struct sched_plan *plan = sched_plan(one.sched);
		double real = sched_model_predict(&truth, &plan->cost);

		/* The prompt's last token may come alone, as a decode row. */
		CU_ASSERT_TRUE_FATAL(plan->decode_count >= 4);
		CU_ASSERT_TRUE_FATAL(steps++ < 3000);
		alone.context_count = plan->cost.context_count;
		quiet += plan->cost.prefill_count == 0;
		late += plan->cost.prefill_count > 0 &&
			real > 2.2 * sched_model_predict(&truth, &alone);
		if (plan->part_count == 5 && plan->parts[4].sample) {
			sched_ran(one.sched, (uint64_t)real);
			sched_remove(one.sched, 4);
			break;
		}
		run(&one, plan, (uint64_t)real);
	}
	printf("%u steps, %u without the prompt, %u late; ", steps, quiet,
		late);
	/* 1.4 ms for a prompt whose tokens take 50 to 290 us. */
	CU_ASSERT_TRUE(steps > 800);
	/* The last of its tokens may have come alone, too. */
	CU_ASSERT_TRUE(quiet - (steps - 1) / (SCHED_MIXED_STEPS_MAX + 1) <= 1);
	/* Until the first of them are known. */
	CU_ASSERT_TRUE(late <= steps / 100);
	for (uint32_t id = 0; id < 4; id++)
		sched_remove(one.sched, id);
	sched_destroy(one.sched);
}

/* --- the pace of running streams, in virtual time ------------------------------------ */

#define PACE_STREAMS 8u
#define PACE_PROMPT 8000u
#define PACE_STEPS_MAX 20000u

/*
 * A machine that is not what was measured, and is not always as fast. Sixteen
 * rows without context fit into its steps; else these come first.
 */
struct pace {
	struct one one;
	struct sched_model truth;
	double spread; /* of its steps: a normal deviation of their logarithm */
	uint64_t random;
	double *shares; /* gap over what it is without prompts, of mixed steps */
	uint32_t count, chunks;
};

/* A normal deviate, nearly: the sum of twelve even ones. */
static double deviate(uint64_t *random)
{
	double sum = -6;

	for (int i = 0; i < 12; i++)
		sum += suite_below(random, 1000000) / 1e6;
	return sum;
}

static void pace_step(struct pace *p)
{
	const struct sched_plan *plan = sched_plan(p->one.sched);
	struct sched_cost alone = {.decode_count = plan->cost.decode_count,
		.context_count = plan->cost.context_count};
	double quiet = sched_model_predict(&p->truth, &alone);
	double real = sched_model_predict(&p->truth, &plan->cost) *
		      exp(p->spread * deviate(&p->random));

	CU_ASSERT_TRUE_FATAL(p->count < PACE_STEPS_MAX);
	if (plan->decode_count == PACE_STREAMS && plan->cost.prefill_count) {
		p->shares[p->count++] = real / quiet;
		p->chunks += (uint32_t)plan->cost.prefill_count;
	}
	sched_ran(p->one.sched, (uint64_t)real);
	for (uint32_t i = 0; i < plan->part_count; i++) {
		uint32_t id = plan->parts[i].job;

		if (plan->parts[i].sample && id < PACE_STREAMS)
			sched_token(p->one.sched, id);
		else if (plan->parts[i].sample)
			sched_remove(p->one.sched, id);
	}
}

static int by_value(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return x < y ? -1 : x > y;
}

/* Streams run, then prompts come one after the other; the p99 of the gaps. */
static double pace_run(struct pace *p, uint32_t prompts)
{
	uint32_t id = PACE_STREAMS;
	double p99;

	open_one(&p->one, 100000, PACE_STREAMS + 1);
	p->shares = suite_calloc(PACE_STEPS_MAX, sizeof(*p->shares));
	for (uint32_t i = 0; i < PACE_STREAMS; i++)
		give(&p->one, i, 16, PACE_STEPS_MAX * 2);
	for (uint32_t i = 0; i < 300; i++)
		pace_step(p);
	p->count = p->chunks = 0;
	for (uint32_t i = 0; i < prompts; i++) {
		give(&p->one, id, PACE_PROMPT, PACE_PROMPT + 1);
		while (sched_job_state(p->one.sched, id) != SCHED_NONE)
			pace_step(p);
	}
	qsort(p->shares, p->count, sizeof(*p->shares), by_value);
	p99 = p->shares[p->count * 99 / 100];
	for (uint32_t i = 0; i < PACE_STREAMS; i++)
		sched_remove(p->one.sched, i);
	sched_destroy(p->one.sched);
	free(p->shares);
	return p99;
}

/* Up to `most` times more or less. */
static double off(uint64_t *random, double most)
{
	return pow(most, 2 * (suite_below(random, 1000001) / 1e6) - 1);
}

static void test_sched__streams_keep_their_pace_on_any_machine(void)
{
	uint64_t random = suite_seed(2200);
	double worst = 0;
	uint32_t steps = 0, tokens = 0;

	for (uint32_t machine = 0; machine < 40; machine++) {
		struct pace p = {.random = random + machine,
			.truth = {3e6, 1e5, 3e4, 40, 40},
			/* Half of them are as regular as a clock. */
			.spread = machine % 2 ? 0.03 * (machine % 5) : 0};

		p.truth.step_ns *= off(&p.random, 2);
		p.truth.decode_ns *= off(&p.random, 2);
		p.truth.prefill_ns *= off(&p.random, 2);
		p.truth.context_ns *= off(&p.random, 2);
		p.truth.prefill_context_ns *= off(&p.random, 2);
		worst = fmax(worst, pace_run(&p, 3));
		steps += p.count;
		tokens += p.chunks;
	}
	printf("p99 at most %.2f of the gap without prompts, %.1f tokens of "
	       "them in a step; ",
		worst, (double)tokens / steps);
	CU_ASSERT_TRUE(worst <= 2.2);
	/* Else nothing is kept busy: prompts must still get on. */
	CU_ASSERT_TRUE(tokens > 8 * steps);
}

/*
 * As on a small model: one token far into a prompt costs a quarter of a step, so
 * there are few in each, and not a fixed number of them.
 */
static void test_sched__streams_keep_their_pace_beside_costly_tokens(void)
{
	struct pace p = {.random = suite_seed(2201),
		.truth = {2e6, 5e4, 2e4, 200, 100},
		.spread = 0.03};
	double p99 = pace_run(&p, 2);

	printf("p99 %.2f, %u steps; ", p99, p.count);
	CU_ASSERT_TRUE(p99 <= 2.2);
}

static void test_sched_margin__is_what_all_but_the_worst_took(void)
{
	struct sched_margin margin = {0};

	CU_ASSERT_EQUAL(sched_margin_of(&margin), 1);
	sched_margin_note(&margin, 0.5);
	sched_margin_note(&margin, 1.25);
	CU_ASSERT_EQUAL(sched_margin_of(&margin), 1);
	sched_margin_note(&margin, 1e300);
	CU_ASSERT_EQUAL(sched_margin_of(&margin), 1.25);
	sched_margin_note(&margin, INFINITY);
	CU_ASSERT_EQUAL(sched_margin_of(&margin), SCHED_MARGIN_MAX);
	/* It is forgotten. */
	for (uint32_t i = 0; i < SCHED_MARGIN_STEPS; i++)
		sched_margin_note(&margin, 1.125);
	CU_ASSERT_EQUAL(sched_margin_of(&margin), 1.125);
}

static void test_sched__a_better_priority_puts_others_aside(void)
{
	struct sched_job spec = {
		.priority = 1, .token_count = 60, .token_max = 100};
	const struct sched_plan *plan;
	struct one one;

	open_one(&one, 100, 2);
	give(&one, 0, 20, 100);
	CU_ASSERT_TRUE(sched_submit(one.sched, 1, &spec));
	plan = sched_plan(one.sched);
	run(&one, plan, plan->predicted_ns);
	give(&one, 2, 20, 100);
	plan = sched_plan(one.sched);
	CU_ASSERT_EQUAL(sched_job_state(one.sched, 0), SCHED_RUNNING);
	CU_ASSERT_EQUAL(sched_job_state(one.sched, 1), SCHED_WAITING);
	CU_ASSERT_EQUAL(sched_job_state(one.sched, 2), SCHED_RUNNING);
	run(&one, plan, plan->predicted_ns);
	/* Its own kind waits. */
	give(&one, 3, 20, 100);
	plan = sched_plan(one.sched);
	CU_ASSERT_EQUAL(sched_job_state(one.sched, 3), SCHED_WAITING);
	run(&one, plan, plan->predicted_ns);
	sched_destroy(one.sched);
}

/* Two names of which both always wait; name 1 has three times the requests. */
struct backlog {
	struct one one;
	uint32_t weight; /* of name 1 */
	uint32_t output[2]; /* most tokens of their texts */
	uint64_t random;
	uint64_t submitted[JOBS]; /* the step in which it was */
	double apart; /* service of one name beyond the other's, at most */
	/* of each name, in steps: until its requests started */
	uint64_t wait_sum[2], wait_most[2];
	uint32_t started[2];
};

#define BACKLOG_PROMPT 30u

static uint32_t backlog_name(uint32_t id)
{
	return id % 4 != 0;
}

static void backlog_submit(struct backlog *b, uint32_t step)
{
	for (uint32_t id = 0; id < JOBS; id++) {
		struct sched_job spec = {.name = backlog_name(id),
			.token_count =
				1 + suite_below(&b->random, BACKLOG_PROMPT)};

		if (sched_job_state(b->one.sched, id) != SCHED_NONE)
			continue;
		spec.token_max = spec.token_count + b->output[spec.name];
		CU_ASSERT_TRUE(sched_submit(b->one.sched, id, &spec));
		b->submitted[id] = step;
	}
}

static void backlog_note(
	struct backlog *b, uint32_t step, const struct sched_part *part)
{
	uint32_t name = backlog_name(part->job);
	uint64_t wait = step - b->submitted[part->job];

	if (part->first != 0)
		return;
	b->started[name]++;
	b->wait_sum[name] += wait;
	if (wait > b->wait_most[name])
		b->wait_most[name] = wait;
}

static void backlog_step(struct backlog *b, uint32_t step)
{
	struct sched *sched = b->one.sched;
	const struct sched_plan *plan = sched_plan(sched);

	for (uint32_t i = 0; i < plan->part_count; i++)
		backlog_note(b, step, &plan->parts[i]);
	sched_ran(sched, plan->predicted_ns);
	for (uint32_t i = 0; i < plan->part_count; i++) {
		const struct sched_part *part = &plan->parts[i];
		uint32_t id = part->job, most = b->output[backlog_name(id)];
		bool ends = suite_below(&b->random, most) == 0 ||
			    part->first + 2 >= most;

		if (part->sample && ends)
			sched_remove(sched, id);
		else if (part->sample)
			sched_token(sched, id);
	}
	b->apart = fmax(b->apart,
		fabs(sched_service(sched, 0) - sched_service(sched, 1)));
}

static void backlog(struct backlog *b)
{
	b->random = suite_seed(77);
	open_one(&b->one, 100, 8);
	sched_set_weight(b->one.sched, 1, b->weight);
	for (uint32_t step = 0; step < 5000; step++) {
		backlog_submit(b, step);
		backlog_step(b, step);
	}
	CU_ASSERT_TRUE(sched_service(b->one.sched, 0) > 4000);
	sched_destroy(b->one.sched);
}

static void test_sched__names_that_wait_are_served_alike(void)
{
	/* One step of 64 rows, and one request. */
	const double slack = 64 + BACKLOG_PROMPT + SCHED_OUTPUT_COST * 60;
	struct backlog equal = {.weight = 1, .output = {60, 60}};
	struct backlog heavy = {.weight = 3, .output = {60, 60}};
	struct backlog longer = {.weight = 1, .output = {10, 60}};

	backlog(&equal);
	backlog(&heavy);
	backlog(&longer);
	printf("%.0f, %.0f and %.0f of %.0f apart; ", equal.apart, heavy.apart,
		longer.apart, slack);
	CU_ASSERT_TRUE(equal.apart <= slack);
	/* Counters stay together, so name 1 got three times as much. */
	CU_ASSERT_TRUE(heavy.apart <= slack);
	CU_ASSERT_TRUE(longer.apart <= slack);
}

static void test_sched__no_request_waits_thrice_as_long_as_others(void)
{
	struct backlog b = {.weight = 1, .output = {10, 60}};

	backlog(&b);
	for (uint32_t name = 0; name < 2; name++) {
		double mean = (double)b.wait_sum[name] / b.started[name];

		printf("%u: %.1f steps, at most %llu; ", name, mean,
			(unsigned long long)b.wait_most[name]);
		CU_ASSERT_TRUE(b.started[name] > 100);
		CU_ASSERT_TRUE((double)b.wait_most[name] <= 3 * mean);
	}
}

static void submit_until(struct one *one, uint32_t id, uint64_t deadline_ns)
{
	const struct sched_job spec = {
		.token_count = 5, .token_max = 10, .deadline_ns = deadline_ns};

	CU_ASSERT_TRUE(sched_submit(one->sched, id, &spec));
}

static void test_sched__deadlines(void)
{
	struct one one;
	uint32_t id;

	open_one(&one, 100, 2);
	submit_until(&one, 0, 0);
	submit_until(&one, 1, 100);
	submit_until(&one, 3, 90);
	CU_ASSERT_FALSE(sched_expired(one.sched, 89, 0, &id));
	CU_ASSERT_TRUE(sched_expired(one.sched, 99, 0, &id));
	CU_ASSERT_EQUAL(id, 3);
	CU_ASSERT_TRUE(sched_expired(one.sched, 100, 0, &id));
	CU_ASSERT_EQUAL(id, 1);
	CU_ASSERT_TRUE(sched_expired(one.sched, 100, 2, &id));
	CU_ASSERT_EQUAL(id, 3);
	CU_ASSERT_FALSE(sched_expired(one.sched, 100, 4, &id));
	sched_remove(one.sched, 1);
	sched_remove(one.sched, 3);
	CU_ASSERT_FALSE(sched_expired(one.sched, 1000, 0, &id));
	/* After nothing was found, a new one is. */
	submit_until(&one, 2, 2000);
	CU_ASSERT_FALSE(sched_expired(one.sched, 1999, 0, &id));
	submit_until(&one, 1, 1500);
	CU_ASSERT_TRUE(sched_expired(one.sched, 1999, 0, &id));
	CU_ASSERT_EQUAL(id, 1);
	sched_destroy(one.sched);
}

static void test_sched__what_could_never_run_is_refused(void)
{
	const struct sched_job spec = {.token_count = 5, .token_max = 161};
	struct one one;

	open_one(&one, 10, 2);
	CU_ASSERT_FALSE(sched_submit(one.sched, 0, &spec));
	give(&one, 0, 5, 160);
	sched_destroy(one.sched);
}

static void test_sched_create__every_allocation_may_fail(void)
{
	struct fake_kv kv;
	const struct sched_config config = make_config(&kv, 10);
	uint64_t n = 0;
	int rc;

	do {
		struct sched *sched = NULL;

		fake_os_reset();
		fake_os_fail(FAKE_OS_ALLOCATE, ++n, ENOMEM);
		rc = sched_create(&config, &flat, &sched);
		CU_ASSERT_EQUAL(rc, fake_os_has_failed() ? -ENOMEM : 0);
		fake_os_disarm();
		if (rc == 0)
			sched_destroy(sched);
		CU_ASSERT_TRUE(fake_os_check_empty());
	} while (rc);
	CU_ASSERT_EQUAL(n, 6);
	sched_destroy(NULL);
}

/* --- the model of a step -------------------------------------------------------------------- */

static void test_sched_model__learns_each_term_from_what_it_sees(void)
{
	const struct sched_model truth = {2e6, 4e5, 9e4, 300, 70};
	struct sched_model model = flat;
	uint64_t random = suite_seed(5);
	double worst = 0;

	for (uint32_t i = 0; i < 8000; i++) {
		struct sched_cost cost = {suite_below(&random, 32),
			suite_below(&random, 2) ? suite_below(&random, 200) : 0,
			suite_below(&random, 40000), 0};
		double real, guess;

		if (cost.prefill_count)
			cost.prefill_context_count =
				suite_below(&random, 100000);
		real = sched_model_predict(&truth, &cost);
		guess = sched_model_predict(&model, &cost);

		if (i > 7000)
			worst = fmax(worst, fabs(guess - real) / real);
		sched_model_correct(&model, &cost, real);
	}
	CU_ASSERT_TRUE(worst < 0.01);
}

static void test_sched_model__a_strange_time_does_no_harm(void)
{
	static const double times[] = {0, 1e-300, 1e300, INFINITY};
	const struct sched_cost cost = {3, 20, 500, 900};

	for (size_t i = 0; i < sizeof(times) / sizeof(times[0]); i++) {
		struct sched_model model = flat;
		double before = sched_model_predict(&model, &cost), after;

		sched_model_correct(&model, &cost, times[i]);
		after = sched_model_predict(&model, &cost);
		CU_ASSERT_TRUE(after > 0.9 * before && after < 1.35 * before);
	}
}

static void test_sched_model__terms_of_nothing_are_clamped(void)
{
	struct sched_model model = {NAN, -1, 0, INFINITY, NAN};
	const struct sched_cost cost = {1, 1, 1, 1};

	sched_model_clamp(&model);
	CU_ASSERT_TRUE(isfinite(sched_model_predict(&model, &cost)));
	CU_ASSERT_TRUE(model.step_ns > 0 && model.prefill_ns > 0);
}

int main(void)
{
	static const struct suite_case cases[] = {
		SUITE_CASE(sched__does_what_the_naive_model_does),
		SUITE_CASE(sched__a_prompt_is_cut_beside_decode_rows_only),
		SUITE_CASE(sched__sixteen_rows_go_on_whatever_they_cost),
		SUITE_CASE(sched__long_prompts_do_not_stretch_the_budget),
		SUITE_CASE(sched__streams_keep_their_pace_on_any_machine),
		SUITE_CASE(sched__streams_keep_their_pace_beside_costly_tokens),
		SUITE_CASE(sched_margin__is_what_all_but_the_worst_took),
		SUITE_CASE(sched__a_better_priority_puts_others_aside),
		SUITE_CASE(sched__names_that_wait_are_served_alike),
		SUITE_CASE(sched__no_request_waits_thrice_as_long_as_others),
		SUITE_CASE(sched__deadlines),
		SUITE_CASE(sched__what_could_never_run_is_refused),
		SUITE_CASE(sched_create__every_allocation_may_fail),
		SUITE_CASE(sched_model__learns_each_term_from_what_it_sees),
		SUITE_CASE(sched_model__a_strange_time_does_no_harm),
		SUITE_CASE(sched_model__terms_of_nothing_are_clamped),
	};

	return SUITE_MAIN("sched", cases);
}
