/* adapters_governor.c - how fast an adapter is there: beside decode */
/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <stdlib.h>
#include <time.h>

#include "base/clock.h"
#include "base/wake.h"
#include "bench/adapters_load.h"
#include "bench/adapters_pairs.h"
#include "bench/adapters_steps.h"
#include "bench/median.h"
#include "engine/governor.h"
#include "engine/lane_cores.h"
#include "engine/loader.h"

/* Steps of a quiet stretch; one with loads has as many or a little more. */
#define STRETCH 100u

enum phase { PHASE_NONE, PHASE_CHECK, PHASE_COPY };

struct governed {
	struct world *w;
	struct loader *loader;
	struct governor governor;
	struct governor_lane lane; /* the copying thread's */
	const struct lane_cores *cores;
	enum lane_place place;
	uint32_t runs; /* atomic: do steps? */
	enum phase phase;
	struct adapter *adapter;
	struct adapter_pace pace;
	double copied_ns; /* of the copy that ended last */
	double *quiet, *beside; /* [room] from step to step, ns */
	double *idle_rates, *beside_rates; /* [room] */
	uint32_t room, quiet_count, beside_count, idle_count, load_count;
};

static void keep_off(struct governed *g)
{
	lane_cores_keep(g->cores, __atomic_load_n(&g->runs, __ATOMIC_RELAXED),
		&g->place);
}

/* As the rank does: for as long as the governor says. */
static int wait_pace(void *arg, uint32_t lane, size_t size_bytes)
{
	struct governed *g = arg;
	uint64_t begin = mono_now().ns, now;
	uint64_t wait = governor_owes(&g->governor, &g->lane, 1, begin);
	const struct timespec time = {.tv_sec = (time_t)(wait / NS_PER_S),
		.tv_nsec = (long)(wait % NS_PER_S)};

	(void)lane; /* there is one */
	(void)size_bytes;
	if (wait > 0) {
		nanosleep(&time, NULL);
		now = mono_now().ns;
		governor_slept(&g->lane, now - begin, now);
	}
	keep_off(g);
	return 0;
}

static int run_check(void *arg, struct error *err)
{
	struct governed *g = arg;

	keep_off(g);
	return adapter_check(g->adapter, NULL, err);
}

static int run_copy(void *arg, struct error *err)
{
	struct governed *g = arg;
	struct reader_info info;
	uint64_t begin = mono_now().ns;
	int rc;

	g->lane = (struct governor_lane){0};
	keep_off(g);
	rc = adapter_copy(g->adapter, 1, &g->pace, &info, err);
	g->copied_ns = (double)(mono_now().ns - begin);
	return rc;
}

/* What the rank does about a load between two steps. */
static int go_on(struct governed *g, bool idle, struct error *err)
{
	struct adapter_set *set = g->w->with.set;
	double rate;
	int rc = 0;

	if (g->phase == PHASE_NONE) {
		rc = adapter_reserve(
			set, "guest", &g->w->whole, &g->adapter, err);
		g->phase = PHASE_CHECK;
		return rc ? rc : loader_begin(g->loader, run_check, g, err);
	}
	if (!idle && !loader_is_done(g->loader))
		return 0;
	rc = loader_end(g->loader, err);
	if (rc)
		return rc;
	if (g->phase == PHASE_CHECK) {
		rc = adapter_map(set, g->adapter, err);
		g->phase = PHASE_COPY;
		return rc ? rc : loader_begin(g->loader, run_copy, g, err);
	}
	adapter_publish(set, g->adapter);
	rate = (double)g->w->whole_bytes * 1e9 / g->copied_ns;
	if (idle && g->idle_count < g->room)
		g->idle_rates[g->idle_count++] = rate;
	if (!idle && g->load_count < g->room)
		g->beside_rates[g->load_count++] = rate;
	adapter_retire(g->adapter);
	g->phase = PHASE_NONE;
	return adapter_drop(set, g->adapter, UINT32_MAX, err);
}

/* Nothing runs: one load at its best. */
static int load_idle(struct governed *g, struct error *err)
{
	int rc;

	governor_idle(&g->governor);
	__atomic_store_n(&g->runs, 0, __ATOMIC_RELAXED);
	do
		rc = go_on(g, true, err);
	while (rc == 0 && g->phase != PHASE_NONE);
	return rc;
}

static int quiet_steps(
	struct governed *g, double *out_median, struct error *err)
{
	struct world_step step = {.engine = &g->w->with, .rows = STEPS_ROWS};
	uint32_t first = g->quiet_count;
	double copy[STRETCH];
	int rc = 0;

	for (uint32_t i = 0; rc == 0 && i < STRETCH; i++) {
		step.variant = i % PAIR_VARIANTS;
		rc = world_run(g->w, &step, &g->quiet[first + i], err);
		copy[i] = g->quiet[first + i];
	}
	g->quiet_count += STRETCH;
	*out_median = median(copy, STRETCH);
	return rc;
}

/* Until so many steps ran beside a copy, and the load that runs is done. */
static int beside_steps(struct governed *g, double quiet_ns, struct error *err)
{
	struct world_step step = {.engine = &g->w->with, .rows = STEPS_ROWS};
	uint32_t goal = g->beside_count + STRETCH;
	int rc = 0;

	governor_busy(&g->governor);
	__atomic_store_n(&g->runs, 1, __ATOMIC_RELAXED);
	for (uint32_t i = 0;
		rc == 0 && (g->beside_count < goal || g->phase != PHASE_NONE);
		i++) {
		struct mono begin = mono_now();
		double took = 0;

		if (g->phase != PHASE_NONE || g->beside_count < goal)
			rc = go_on(g, false, err);
		step.variant = i % PAIR_VARIANTS;
		if (rc == 0)
			rc = world_run(g->w, &step, &took, err);
		if (g->phase == PHASE_COPY)
			governor_step(&g->governor, (uint64_t)took,
				(uint64_t)quiet_ns);
		if (g->beside_count < g->room)
			g->beside[g->beside_count++] =
				(double)mono_diff(mono_now(), begin);
	}
	return rc;
}

static int measure(struct governed *g, uint32_t steps, struct error *err)
{
	double quiet_ns;
	int rc = load_idle(g, err); /* the first touches the pages */

	g->idle_count = 0;
	for (uint32_t i = 0; rc == 0 && i < steps; i += STRETCH) {
		rc = load_idle(g, err);
		if (rc == 0)
			rc = quiet_steps(g, &quiet_ns, err);
		if (rc == 0)
			rc = beside_steps(g, quiet_ns, err);
	}
	return rc;
}

static void summarise(struct governed *g, struct load_governed *out)
{
	*out = (struct load_governed){
		.step_count = g->beside_count,
		.load_count = g->load_count,
		.quiet_median_ns = median(g->quiet, g->quiet_count),
		.quiet_p99_ns = quantile(g->quiet, g->quiet_count, 0.99),
		.beside_median_ns = median(g->beside, g->beside_count),
		.beside_p99_ns = quantile(g->beside, g->beside_count, 0.99),
		.idle_rate = median(g->idle_rates, g->idle_count),
		.beside_rate = median(g->beside_rates, g->load_count),
	};
}

int load_governed(struct world *w, const struct lane_cores *cores,
	uint32_t steps, struct load_governed *out, struct error *err)
{
	struct governed g = {
		.w = w, .cores = cores, .room = 4 * (steps + STRETCH)};
	struct wake wake = {0};
	double *room = calloc((size_t)4 * g.room, sizeof(*room));
	int rc = room ? loader_create(&wake, &g.loader) : -ENOMEM;

	if (rc) {
		free(room);
		return error_set(err, ENOMEM, "no memory for a loader");
	}
	g.quiet = room;
	g.beside = room + g.room;
	g.idle_rates = room + (size_t)2 * g.room;
	g.beside_rates = room + (size_t)3 * g.room;
	g.pace = (struct adapter_pace){wait_pace, &g};
	rc = measure(&g, steps, err);
	loader_destroy(g.loader);
	if (rc == 0)
		summarise(&g, out);
	free(room);
	return rc;
}
