/* serve_adapters.c - adapters that come and go while steps run */
/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A load: its files are checked by the loader's thread; its pages are found
 * and mapped between two steps; its bytes are copied by the loader's thread
 * beside steps; it is published between two steps. One at a time: two would
 * only share the disk, and the first would come later.
 */
#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/check.h"
#include "base/log.h"
#include "engine/adapter.h"
#include "engine/governor.h"
#include "engine/lane_cores.h"
#include "engine/loader.h"
#include "engine/rank_adapters.h"
#include "engine/serve_private.h"

/* A copy that waits looks so often whether it is still wanted. */
#define PACE_NS (50 * NS_PER_MS)

/* PHASE_LEAVE: it has failed, and its pages go a part at a time. */
enum phase { PHASE_NONE, PHASE_CHECK, PHASE_ROOM, PHASE_COPY, PHASE_LEAVE };

struct serve_adapters {
	struct serve *serve; /* borrowed */
	struct rank_adapters *life;
	struct adapter_set *set;
	struct loader *loader;
	/* by node-wide number; NULL = not here */
	struct adapter *of[INSTANCE_COUNT_MAX];
	/* the load */
	enum phase phase;
	struct adapter *loading;
	uint64_t room_ns; /* since when it waits for pages, 0 = it does not */
	int rc; /* PHASE_LEAVE: what the load is answered then */
	struct error err;
	uint32_t lane_count;
	uint32_t stop; /* read by the loader's lanes */
	struct governor governor;
	struct governor_lane lanes[READER_LANE_COUNT_MAX]; /* the copy's */
	struct lane_cores cores;
	enum lane_place places[READER_LANE_COUNT_MAX];
	uint32_t beside; /* atomic: requests run; read by the lanes */
	struct adapter_pace pace;
};

/* --- the loader's thread ------------------------------------------------------------- */

static void keep_off(struct serve_adapters *adapters, uint32_t lane)
{
	lane_cores_keep(&adapters->cores,
		__atomic_load_n(&adapters->beside, __ATOMIC_RELAXED),
		&adapters->places[lane]);
}

static int run_check(void *arg, struct error *err)
{
	struct serve_adapters *adapters = arg;

	keep_off(adapters, 0);
	return adapter_check(adapters->loading, &adapters->pace, err);
}

static int wait_pace(void *arg, uint32_t lane, size_t size_bytes)
{
	struct serve_adapters *adapters = arg;
	uint64_t begin = mono_now().ns;
	uint64_t wait = governor_owes(&adapters->governor,
		&adapters->lanes[lane], adapters->lane_count, begin);
	bool sleeps = wait > 0;

	(void)size_bytes;
	while (wait > 0 &&
		!__atomic_load_n(&adapters->stop, __ATOMIC_RELAXED)) {
		uint64_t part = wait < PACE_NS ? wait : PACE_NS;
		const struct timespec time = {.tv_nsec = (long)part};

		nanosleep(&time, NULL);
		wait -= part;
	}
	if (sleeps) {
		uint64_t now = mono_now().ns;

		governor_slept(&adapters->lanes[lane], now - begin, now);
	}
	keep_off(adapters, lane);
	return __atomic_load_n(&adapters->stop, __ATOMIC_RELAXED) ? -ECANCELED
								  : 0;
}

static int run_copy(void *arg, struct error *err)
{
	struct serve_adapters *adapters = arg;
	struct reader_info info;

	keep_off(adapters, 0);
	return adapter_copy(adapters->loading, adapters->lane_count,
		&adapters->pace, &info, err);
}

/* --- pages ---------------------------------------------------------------------------- */

/* Pages that the KV cache keeps: one request of the greatest length. */
static uint64_t kept_pages(const struct serve *serve)
{
	return (uint64_t)serve->block_max *
	       kv_store_layout(serve->model->kv)->pages_per_block;
}

/* What KV could have if it had all that no adapter has. */
static uint32_t kv_pages(const struct serve *serve)
{
	const struct page_pool *pool = serve->model->pool;

	return page_pool_count(pool, PAGE_FREE) +
	       page_pool_count(pool, PAGE_KV);
}

/* Adapters took or gave pages: the scheduler and others hear of it. */
static void note_capacity(struct serve *serve)
{
	uint32_t per_block = kv_store_layout(serve->model->kv)->pages_per_block;
	uint32_t blocks = kv_pages(serve) / per_block;
	uint32_t most = kv_store_block_count_max(serve->model->kv);

	if (blocks > most)
		blocks = most;
	sched_set_block_count(serve->sched, blocks);
	counter_set(&serve->rank.counters->kv_pages_total,
		(uint64_t)blocks * per_block);
}

static int never_fits(
	const struct serve *serve, uint64_t pages, struct error *err)
{
	uint64_t kept = kept_pages(serve);

	return error_set(err, ENOMEM,
		"it needs %llu pages, %llu more than there are: %u are not "
		"other adapters', and the KV cache keeps %llu for one request "
		"of %u tokens; unload adapters or give the rank a larger pool",
		(unsigned long long)pages,
		(unsigned long long)(pages + kept - kv_pages(serve)),
		kv_pages(serve), (unsigned long long)kept,
		serve->position_count);
}

/* Of adapters that go with their last request. */
static uint64_t leaving_pages(const struct serve_adapters *adapters)
{
	uint64_t size_bytes = 0;

	for (uint32_t i = 1; i < INSTANCE_COUNT_MAX; i++) {
		struct adapter_info info;

		if (!adapters->of[i] ||
			!rank_adapters_leaves(adapters->life, i))
			continue;
		adapter_look(adapters->of[i], &info);
		size_bytes += info.page_bytes;
	}
	return size_bytes / page_pool_page_size(adapters->serve->model->pool);
}

/* It was waited for, and its requests still run. */
static int stays_too_long(const struct serve_adapters *adapters, uint64_t pages,
	uint64_t wait_ns, struct error *err)
{
	return error_set(err, ENOMEM,
		"it needs %llu pages, and after %.1f s adapters that are on "
		"their way out still hold %llu; they come back as the requests "
		"that use them end",
		(unsigned long long)pages, (double)wait_ns / (double)NS_PER_S,
		(unsigned long long)leaving_pages(adapters));
}

/*
 * Free pages, then those of idle prefixes, then wait for requests to end, or
 * for adapters that go. -EAGAIN: they are still there.
 */
static int make_room(
	struct serve_adapters *adapters, uint64_t pages, struct error *err)
{
	struct serve *serve = adapters->serve;
	uint64_t wait_ns = serve->options.load_wait_ns;
	uint64_t needed = pages + kept_pages(serve);
	bool fits = needed <= kv_pages(serve);
	uint32_t free_pages;

	serve->wanted_pages = 0;
	if (!fits && needed > kv_pages(serve) + leaving_pages(adapters))
		return never_fits(serve, pages, err);
	if (fits && kv_cache_free_pages(serve->cache, (uint32_t)pages))
		return 0;
	if (wait_ns == 0)
		wait_ns = SERVE_LOAD_WAIT_NS;
	if (adapters->room_ns == 0)
		adapters->room_ns = serve->now.ns;
	if (serve->now.ns - adapters->room_ns < wait_ns) {
		/* An adapter that goes takes nobody's place while it does. */
		serve->wanted_pages = fits ? (uint32_t)pages : 0;
		return -EAGAIN;
	}
	if (!fits)
		return stays_too_long(adapters, pages, wait_ns, err);
	free_pages = page_pool_count(serve->model->pool, PAGE_FREE);
	return error_set(err, ENOMEM,
		"it needs %llu pages, %u are free and %llu are missing after "
		"%.1f s; requests that run hold %u, which come back as they "
		"end",
		(unsigned long long)pages, free_pages,
		(unsigned long long)pages - free_pages,
		(double)wait_ns / (double)NS_PER_S,
		page_pool_count(serve->model->pool, PAGE_KV));
}

/* --- a load ----------------------------------------------------------------------------- */

/* As many pages as go in one gap between two steps. */
static uint32_t unmap_pages(const struct serve *serve)
{
	uint64_t most = serve->options.unmap_bytes;
	size_t page = page_pool_page_size(serve->model->pool);

	if (most == 0)
		most = SERVE_UNMAP_BYTES;
	return page < most ? (uint32_t)(most / page) : 1;
}

/* What it has mapped goes as an unload's pages do; then it has failed. */
static int fail(struct serve_adapters *adapters, uint32_t instance, int rc,
	const struct error *err)
{
	if (adapters->loading &&
		adapter_abandon_some(adapters->set, adapters->loading,
			unmap_pages(adapters->serve)) == -EAGAIN) {
		adapters->phase = PHASE_LEAVE;
		adapters->rc = rc;
		adapters->err = *err;
		return -EINPROGRESS;
	}
	adapters->loading = NULL;
	adapters->of[instance] = NULL;
	adapters->phase = PHASE_NONE;
	adapters->serve->wanted_pages = 0;
	note_capacity(adapters->serve);
	return rc;
}

static int stopped(struct serve_adapters *adapters, uint32_t instance,
	const struct engine_command *command, struct error *err)
{
	error_set(err, ECANCELED,
		"adapter \"%s\": it was dropped before it was there",
		command->name);
	return fail(adapters, instance, -ECANCELED, err);
}

/* While nothing runs all of the machine is the copy's. A check has one lane. */
static void begin_lanes(struct serve_adapters *adapters, enum phase phase)
{
	const struct serve *serve = adapters->serve;
	uint32_t count = lane_cores_count(
		&adapters->cores, serve_thread_count(&serve->options));

	adapters->lane_count = 1;
	if (phase == PHASE_COPY && sched_running(serve->sched) == 0)
		adapters->lane_count = count < READER_LANE_COUNT_MAX
					       ? count
					       : READER_LANE_COUNT_MAX;
	memset(adapters->lanes, 0, sizeof(adapters->lanes));
	/* A thread has the cores of the one that started it. */
	memset(adapters->places, 0, sizeof(adapters->places));
}

static int begin_job(struct serve_adapters *adapters, uint32_t instance,
	enum phase phase, struct error *err)
{
	int rc;

	begin_lanes(adapters, phase);
	rc = loader_begin(adapters->loader,
		phase == PHASE_CHECK ? run_check : run_copy, adapters, err);

	if (rc)
		return fail(adapters, instance, rc, err);
	adapters->phase = phase;
	return -EINPROGRESS;
}

static int begin_load(struct serve_adapters *adapters, uint32_t instance,
	const struct engine_command *command, struct error *err)
{
	int rc;

	assert(!adapters->of[instance]);
	adapters->stop = 0;
	adapters->room_ns = 0;
	adapters->loading = NULL;
	rc = adapter_reserve(adapters->set, command->name, &command->files,
		&adapters->loading, err);
	if (rc)
		return fail(adapters, instance, rc, err);
	adapters->of[instance] = adapters->loading;
	return begin_job(adapters, instance, PHASE_CHECK, err);
}

static int map_load(struct serve_adapters *adapters, uint32_t instance,
	const struct engine_command *command, struct error *err)
{
	int rc = make_room(adapters,
		adapter_page_count(adapters->set, adapters->loading), err);

	if (rc == -EAGAIN) {
		adapters->phase = PHASE_ROOM;
		return -EINPROGRESS;
	}
	if (rc)
		error_prefix(err, "adapter \"%s\"", command->name);
	else
		rc = adapter_map(adapters->set, adapters->loading, err);
	if (rc)
		return fail(adapters, instance, rc, err);
	note_capacity(adapters->serve);
	return begin_job(adapters, instance, PHASE_COPY, err);
}

static int end_load(struct serve_adapters *adapters)
{
	serve_tell_small_pages(adapters->serve);
	adapter_publish(adapters->set, adapters->loading);
	adapters->loading = NULL;
	adapters->phase = PHASE_NONE;
	return 0;
}

static int load(void *arg, uint32_t instance,
	const struct engine_command *command, bool stop, struct error *err)
{
	struct serve_adapters *adapters = arg;
	int rc = 0;

	if (adapters->phase == PHASE_LEAVE) {
		*err = adapters->err;
		return fail(adapters, instance, adapters->rc, err);
	}
	if (stop)
		__atomic_store_n(&adapters->stop, 1, __ATOMIC_RELAXED);
	if (adapters->phase == PHASE_CHECK || adapters->phase == PHASE_COPY) {
		if (!loader_is_done(adapters->loader))
			return -EINPROGRESS;
		rc = loader_end(adapters->loader, err);
	}
	if (stop)
		return stopped(adapters, instance, command, err);
	if (rc)
		return fail(adapters, instance, rc, err);
	switch (adapters->phase) {
	case PHASE_NONE:
		return begin_load(adapters, instance, command, err);
	case PHASE_CHECK:
	case PHASE_ROOM:
		return map_load(adapters, instance, command, err);
	case PHASE_COPY:
	case PHASE_LEAVE:
		break;
	}
	return end_load(adapters);
}

static bool ready(void *arg)
{
	const struct serve_adapters *adapters = arg;

	return adapters->phase == PHASE_NONE ||
	       adapters->phase == PHASE_LEAVE ||
	       loader_is_done(adapters->loader);
}

/* --- users, and the end -------------------------------------------------------------------- */

static uint32_t row_of(const struct serve_adapters *adapters, uint32_t instance)
{
	struct adapter_info info;

	assert(instance < INSTANCE_COUNT_MAX && adapters->of[instance]);
	adapter_look(adapters->of[instance], &info);
	return info.instance;
}

static void hold(void *arg, uint32_t instance)
{
	struct serve_adapters *adapters = arg;

	adapter_use(adapters->of[instance]);
}

static void release(void *arg, uint32_t instance)
{
	struct serve_adapters *adapters = arg;

	adapter_release(adapters->set, row_of(adapters, instance));
}

static int drop(void *arg, uint32_t instance, struct error *err)
{
	struct serve_adapters *adapters = arg;
	struct adapter *adapter = adapters->of[instance];
	struct adapter_info info;
	int rc;

	/* Its number will be another's; what it computed is nobody's. */
	kv_cache_drop_instance(adapters->serve->cache, instance);
	adapter_look(adapter, &info);
	if (info.state == ADAPTER_RESIDENT)
		adapter_retire(adapter);
	rc = adapter_drop(
		adapters->set, adapter, unmap_pages(adapters->serve), err);
	if (rc)
		return rc;
	adapters->of[instance] = NULL;
	note_capacity(adapters->serve);
	return 0;
}

static void set_weight(void *arg, uint32_t entry, uint32_t weight)
{
	const struct serve_adapters *adapters = arg;

	_Static_assert(ADAPTER_WEIGHT_MAX <= SCHED_WEIGHT_MAX, "all are taken");
	sched_set_weight(adapters->serve->sched, entry, weight);
}

static void cancel(void *arg, uint32_t slot_index)
{
	const struct serve_adapters *adapters = arg;

	serve_end(adapters->serve, slot_index, FINISH_CANCELLED);
}

/* --- books ------------------------------------------------------------------------------- */

static void look(void *arg, uint32_t instance, struct adapter_book *out)
{
	const struct serve_adapters *adapters = arg;
	struct adapter_info info;

	out->state = ADAPTER_STAGING;
	if (!adapters->of[instance])
		return;
	adapter_look(adapters->of[instance], &info);
	out->state = info.state;
	out->expert_count = info.expert_count;
	out->file_bytes = info.file_bytes;
	out->done_bytes = info.done_bytes;
	out->used_bytes = info.used_bytes;
	out->page_bytes = info.page_bytes;
}

static void pages(void *arg, struct rank_books *out)
{
	const struct serve_adapters *adapters = arg;
	const struct serve *serve = adapters->serve;
	const struct model *model = serve->model;
	uint32_t per_block = kv_store_layout(model->kv)->pages_per_block;
	struct expert_books books;

	/* What a fence that failed has kept. */
	adapter_reap(adapters->set, NULL);
	expert_store_books(model->experts, &books);
	out->page_size_bytes = page_pool_page_size(model->pool);
	out->page_count = page_pool_page_count(model->pool);
	out->base_pages = page_pool_count(model->pool, PAGE_BASE);
	out->adapter_pages = page_pool_count(model->pool, PAGE_EXPERTS) +
			     page_pool_count(model->pool, PAGE_LORA);
	out->kv_idle_pages = (uint64_t)kv_cache_idle(serve->cache) * per_block;
	out->kv_held_pages =
		page_pool_count(model->pool, PAGE_KV) - out->kv_idle_pages;
	out->free_pages = page_pool_count(model->pool, PAGE_FREE);
	out->base_used_bytes = model->dense_bytes + books.base_used_bytes;
	out->adapter_used_bytes = books.adapter_used_bytes;
}

/* --- life --------------------------------------------------------------------------------- */

int serve_adapters_open(
	struct serve *serve, struct engine_mail *mail, struct error *err)
{
	struct serve_adapters *adapters = calloc(1, sizeof(*adapters));
	const struct adapter_back back = {adapters, load, ready, hold, release,
		drop, set_weight, cancel, look, pages};
	int rc = adapters ? 0 : -ENOMEM;

	serve->adapters = adapters;
	if (rc == 0) {
		adapters->serve = serve;
		adapters->pace = (struct adapter_pace){wait_pace, adapters};
		governor_idle(&adapters->governor);
		lane_cores_init(
			&adapters->cores, serve->options.compute_core_count);
		rc = adapter_set_create(serve->model, &adapters->set, err);
	}
	if (rc == 0)
		rc = loader_create(serve->rank.wake, &adapters->loader);
	if (rc == 0)
		rc = rank_adapters_create(&serve->rank, mail, &back,
			serve->options.first_loads, &adapters->life);
	if (rc)
		return error_set(
			err, -rc, "no memory for the books of adapters");
	note_capacity(serve);
	return 0;
}

void serve_adapters_close(struct serve *serve)
{
	struct serve_adapters *adapters = serve->adapters;

	if (!adapters)
		return;
	__atomic_store_n(&adapters->stop, 1, __ATOMIC_RELAXED);
	loader_destroy(adapters->loader);
	rank_adapters_destroy(adapters->life);
	adapter_set_destroy(adapters->set);
	free(adapters);
	serve->adapters = NULL;
}

bool serve_adapters_beside(
	struct serve *serve, uint64_t took_ns, uint64_t quiet_ns)
{
	/* A check reads what is hashed from end to end, as a copy does. */
	if (!serve->adapters || (serve->adapters->phase != PHASE_COPY &&
					serve->adapters->phase != PHASE_CHECK))
		return false;
	governor_step(&serve->adapters->governor, took_ns, quiet_ns);
	return true;
}

bool serve_adapters_turn(struct serve *serve)
{
	struct serve_adapters *adapters = serve->adapters;
	uint32_t running;

	assert(!serve->in_flight);
	if (!adapters)
		return false;
	running = sched_running(serve->sched);
	if (running == 0)
		governor_idle(&adapters->governor);
	else if (!adapters->beside)
		governor_busy(&adapters->governor);
	__atomic_store_n(&adapters->beside, running > 0, __ATOMIC_RELAXED);
	return rank_adapters_turn(adapters->life, serve->now);
}

bool serve_adapters_due(const struct serve *serve)
{
	return serve->adapters && rank_adapters_due(serve->adapters->life);
}

void serve_adapters_taken_in(struct serve *serve)
{
	if (serve->adapters)
		rank_adapters_taken_in(serve->adapters->life, serve->now);
}

bool serve_adapters_opening(const struct serve *serve)
{
	return serve->adapters && rank_adapters_opening(serve->adapters->life);
}

uint32_t serve_adapters_row(const struct serve *serve, uint32_t instance)
{
	return instance == INSTANCE_BASE ? INSTANCE_BASE
					 : row_of(serve->adapters, instance);
}

void serve_adapters_check(const struct serve *serve)
{
	if (!serve->adapters)
		return;
	rank_adapters_check(serve->adapters->life);
	adapter_set_check(serve->adapters->set);
}
