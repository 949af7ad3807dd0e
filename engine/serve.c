/* serve.c - the rank that computes (life and loop) */
/* SPDX-License-Identifier: Apache-2.0 */
#include <assert.h>
#include <errno.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>

#include "base/log.h"
#include "engine/serve_private.h"

/* Deadlines are looked at this often ... */
#define SWEEP_NS (20 * NS_PER_MS)
/* ... and requests that were closed, should their RING_CANCEL be lost. */
#define CLOSED_NS NS_PER_S
/* Requests wait and nothing can run: look again. */
#define STUCK_WAIT_NS NS_PER_MS

/* --- the loop ------------------------------------------------------------------------ */

static void sweep(struct serve *serve)
{
	uint32_t id = 0;

	if (serve->now.ns - serve->sweep_ns < SWEEP_NS)
		return;
	serve->sweep_ns = serve->now.ns;
	for (; sched_expired(serve->sched, serve->now.ns, id, &id); id++)
		serve_end(serve, id, FINISH_DEADLINE);
	if (serve->now.ns - serve->closed_ns < CLOSED_NS ||
		sched_running(serve->sched) + sched_waiting(serve->sched) == 0)
		return;
	serve->closed_ns = serve->now.ns;
	rank_sweep_closed(&serve->rank);
}

/* What the cache counted since it was asked last, and gauges. */
static void note_cache(struct serve *serve)
{
	const struct kv_cache_counts *counts = kv_cache_counts(serve->cache);
	struct engine_counters *counters = serve->rank.counters;

	counter_add(&counters->queried_tokens_total,
		counts->queried_tokens - serve->counted.queried_tokens);
	counter_add(&counters->cached_tokens_total,
		counts->found_tokens - serve->counted.found_tokens);
	serve->counted = *counts;
	counter_set(&counters->kv_pages_used,
		page_pool_count(serve->model->pool, PAGE_KV));
}

static void beat(struct serve *serve)
{
	/* Those that were put aside are neither queued nor in a lane. */
	uint32_t aside = sched_waiting(serve->sched) - serve->rank.waiting;

	rank_beat(
		&serve->rank, sched_running(serve->sched) + aside, serve->now);
}

/* Between two steps. */
static int next_step(struct serve *serve, struct error *err)
{
	int rc;

	serve_end_due(serve);
	serve_adapters_turn(serve);
	rc = serve_begin(serve, err);
	if (rc)
		return rc;
	/* From here on the step runs beside us. */
	serve_tell_all(serve);
	note_cache(serve);
	return 0;
}

/* Then no token of this life can be trusted any more. */
static int give_up_weights(struct serve *serve, struct error *err)
{
	__atomic_store_n(&serve->keep->model.filled, 0, __ATOMIC_RELEASE);
	return error_set(err, EIO,
		"rank %u: the weights in memory are not what was read; the "
		"next start reads them again",
		serve->rank.config.rank);
}

/* The rank's hook, and ours. */
static bool may_go_on(const struct serve *serve)
{
	return !serve->in_flight && serve_adapters_due(serve);
}

static bool pending(void *arg)
{
	return may_go_on(arg);
}

/* Under the lock. */
static int turn(struct serve *serve, uint64_t *out_until, struct error *err)
{
	uint32_t work;
	int rc;

	if (serve->verify && verify_failed(serve->verify))
		return give_up_weights(serve, err);
	serve->now = mono_now();
	*out_until = serve->now.ns + RANK_RING_FULL_WAIT_NS;
	if (!rank_flush(&serve->rank)) {
		beat(serve);
		return 0;
	}
	if (serve->in_flight && compute_is_done(serve->compute)) {
		rc = serve_collect(serve, err);
		if (rc)
			return rc;
	}
	if (!serve->in_flight) {
		rc = next_step(serve, err);
		if (rc)
			return rc;
	}
	rank_flush(&serve->rank);
	work = rank_intake(&serve->rank, serve->now);
	serve_adapters_taken_in(serve);
	sweep(serve);
	rank_flush(&serve->rank);
	beat(serve);
	if (work > 0 || may_go_on(serve))
		*out_until = 0;
	else if (!serve->in_flight && sched_waiting(serve->sched) > 0)
		*out_until = serve->now.ns + STUCK_WAIT_NS;
	else
		*out_until = serve->now.ns + RANK_BEAT_NS;
	return 0;
}

int serve_turn(struct serve *serve, uint64_t *out_until, struct error *err)
{
	int rc;

	pthread_mutex_lock(&serve->lock);
	rc = serve->broken;
	if (rc && err)
		*err = serve->err;
	if (rc == 0)
		rc = turn(serve, out_until, err);
	pthread_mutex_unlock(&serve->lock);
	return rc;
}

/* The compute thread's turn; false: the rank's thread has to have one. */
static bool step_ended(void *arg)
{
	struct serve *serve = arg;
	bool goes_on = false;
	uint64_t until = 0;

	pthread_mutex_lock(&serve->lock);
	if (serve->drives && !serve->broken) {
		serve->broken = turn(serve, &until, &serve->err);
		goes_on = !serve->broken && serve->in_flight && until != 0 &&
			  serve->rank.unsent == 0;
	}
	pthread_mutex_unlock(&serve->lock);
	return goes_on;
}

void serve_drive(struct serve *serve, bool drives)
{
	pthread_mutex_lock(&serve->lock);
	serve->drives = drives;
	pthread_mutex_unlock(&serve->lock);
}

void serve_sleep(struct serve *serve, const uint32_t *stop, struct mono until)
{
	bool collects, sleeps;
	uint32_t seen;

	pthread_mutex_lock(&serve->lock);
	/* While the dataplane does not listen, a step that is done waits. */
	collects = serve->in_flight && serve->rank.unsent == 0;
	sleeps = rank_sleep_begin(&serve->rank, stop,
		collects ? compute_done_word(serve->compute) : NULL, &seen);
	pthread_mutex_unlock(&serve->lock);
	rank_sleep_end(serve->rank.wake, sleeps, seen, until);
}

static int run(struct serve *serve, const uint32_t *stop, struct error *err)
{
	int rc = 0;

	serve_drive(serve, true);
	while (rc == 0 && !__atomic_load_n(stop, __ATOMIC_ACQUIRE)) {
		uint64_t until = 0;

		rc = serve_turn(serve, &until, err);
		if (rc == 0 && until != 0)
			serve_sleep(serve, stop, (struct mono){until});
	}
	serve_drive(serve, false);
	return rc;
}

/* The step that runs is waited for; what is not done is cancelled. */
void serve_cancel_all(struct serve *serve)
{
	uint64_t took_ns;

	if (serve->in_flight) {
		(void)compute_end(serve->compute, &took_ns, NULL);
		serve->in_flight = false;
		sched_ran(serve->sched, took_ns);
	}
	serve_tell_all(serve);
	for (uint32_t i = 0; i < serve->rank.segment->shape.slot_count; i++)
		if (rank_is_live(&serve->rank.requests[i]))
			serve_finish(serve, i, FINISH_CANCELLED);
	rank_flush(&serve->rank);
	kv_cache_clear(serve->cache);
	note_cache(serve);
	beat(serve);
}

/* --- life ------------------------------------------------------------------------------ */

static int check_options(
	const struct engine_serve_options *options, struct error *err)
{
	if (options->sequence_count < 1 ||
		options->sequence_count > STEP_SEQUENCE_COUNT_MAX ||
		options->row_count < options->sequence_count ||
		options->row_count > STEP_ROW_COUNT_MAX)
		return error_set(err, EINVAL,
			"cpu engine: %u sequences and %u rows; 1 to %d "
			"sequences, and as many rows or more, up to %d, are "
			"possible",
			options->sequence_count, options->row_count,
			STEP_SEQUENCE_COUNT_MAX, STEP_ROW_COUNT_MAX);
	if (options->kv_type != DTYPE_F32 && options->kv_type != DTYPE_BF16)
		return error_set(
			err, EINVAL, "cpu engine: the cache holds f32 or bf16");
	if (options->adapter_count >= INSTANCE_COUNT_MAX)
		return error_set(err, EINVAL,
			"cpu engine: %u adapters at once; up to %d are "
			"possible",
			options->adapter_count, INSTANCE_COUNT_MAX - 1);
	if (options->kv_token_count < 2 &&
		(options->kv_token_count == 1 || options->pool_bytes == 0))
		return error_set(err, EINVAL,
			"cpu engine: a cache of %llu tokens holds no request",
			(unsigned long long)options->kv_token_count);
	return 0;
}

uint32_t serve_thread_count(const struct engine_serve_options *options)
{
	cpu_set_t set;

	if (options->thread_count)
		return options->thread_count;
	if (sched_getaffinity(0, sizeof(set), &set))
		return 1;
	return (uint32_t)CPU_COUNT(&set);
}

/* A long load is a life, too. */
static void show_life(void *arg, uint64_t done_bytes, uint64_t total_bytes)
{
	struct role_beat *mark = arg;

	(void)done_bytes;
	(void)total_bytes;
	__atomic_store_n(&mark->beat_ns, mono_now().ns, __ATOMIC_RELAXED);
}

/* Nothing is wrong with the weights: only their time is another. */
void serve_tell_small_pages(struct serve *serve)
{
	struct vmm_large_pages pages;

	vmm_host_large_pages(&serve->vmm, &pages);
	if (pages.refused_count == 0 || serve->told_small)
		return;
	serve->told_small = true;
	log_warnx("rank %u: the system gave no large page (of 2 MiB) for %llu "
		  "of %llu of the weights' memory: %s; small ones do, and "
		  "steps and loads take longer",
		serve->rank.config.rank,
		(unsigned long long)pages.refused_count,
		(unsigned long long)pages.asked_count, strerror(pages.code));
}

static int open_model(struct serve *serve, const struct engine_place *place,
	const struct model_files *files, enum cpu_isa isa, struct error *err)
{
	const struct engine_serve_options *options = &serve->options;
	struct model_options load = {
		.layout = cpu_isa_layout(isa),
		.thread_count = serve_thread_count(options),
		.page_size_bytes = options->page_size_bytes,
		.kv_type = (enum dtype)options->kv_type,
		.kv_token_count = options->kv_token_count,
		.pool_bytes = options->pool_bytes,
		.instance_count_max = options->adapter_count + 1,
		.adapter_slot_count_max = options->adapter_slot_count,
		.progress = show_life,
		.progress_arg = segment_beat(
			place->segment, ROLE_INDEX_RANK0 + place->rank),
	};
	int rc;

	if (options->adapter_slot_count == 0)
		load.adapter_slot_count_max =
			options->adapter_count * SERVE_ADAPTER_SLOTS;
	load.keep = serve->keep ? &serve->keep->model : NULL;
	rc = model_load(&serve->vmm, files, &load, &serve->model, err);
	if (rc == 0 && serve->model->was_kept)
		log_info("rank %u: the weights are still in memory",
			place->rank);
	return rc;
}

/* Memory for pages, and what an earlier life wrote at its head. */
static int open_memory(struct serve *serve, struct error *err)
{
	const struct vmm_host_config host = {
		.granularity_bytes = PAGE_SIZE_BYTES_MIN,
		.adopts = serve->options.memory_fd >= 0,
		.descriptor = serve->options.memory_fd,
		.head_bytes = PAGE_SIZE_BYTES_MIN,
	};
	void *head;
	int rc = vmm_host_init(&serve->vmm, &host, err);

	if (rc || !host.adopts)
		return rc;
	head = mmap(NULL, sizeof(*serve->keep), PROT_READ | PROT_WRITE,
		MAP_SHARED, serve->options.memory_fd, 0);
	if (head == MAP_FAILED)
		return error_set(
			err, errno, "the memory file: %s", strerror(errno));
	serve->keep = head;
	return 0;
}

/* Kept weights are read once more, beside all else. */
static int open_verify(struct serve *serve, struct error *err)
{
	if (!serve->keep)
		return 0;
	if (!serve->model->was_kept)
		serve->keep->sum.known = 0;
	return verify_start(serve->model, &serve->keep->sum, serve->rank.wake,
		&serve->verify, err);
}

static int open_rank(struct serve *serve, const struct engine_place *place,
	struct error *err)
{
	const struct generation_config *generation = &serve->model->generation;
	struct rank_config config = {
		.rank = place->rank,
		.name = "cpu",
		.vocab = serve->model->config.vocab,
		.position_count = serve->position_count,
		.row_count = serve->options.sequence_count,
		.eos_count = generation->eos_count,
		.resume = serve->options.resume != 0,
		.hooks = {serve, serve_submitted, serve_end, pending},
	};

	_Static_assert(RANK_EOS_COUNT_MAX >= EOS_TOKEN_COUNT_MAX, "all fit");
	memcpy(config.eos, generation->eos, sizeof(generation->eos));
	return rank_open(place->segment, &config, &serve->rank, err);
}

static int open_compute(
	struct serve *serve, enum cpu_isa isa, struct error *err)
{
	const struct kv_layout *layout = kv_store_layout(serve->model->kv);
	struct compute_config config = {
		.isa = isa,
		.thread_count = serve_thread_count(&serve->options),
		.core_count = serve->options.compute_core_count,
		.capacity = {.row_count = serve->options.row_count,
			.sequence_count = serve->options.sequence_count,
			.sample_count = serve->options.sequence_count},
		.wake = serve->rank.wake,
		.ended = step_ended,
		.arg = serve,
	};

	serve->block_max = kv_layout_blocks(layout, serve->position_count);
	config.capacity.table_stride =
		serve->block_max * layout->pages_per_block;
	if (step_init(&serve->steps[0], &config.capacity) ||
		step_init(&serve->steps[1], &config.capacity))
		return error_set(err, ENOMEM, "no memory for a step of %u rows",
			config.capacity.row_count);
	return compute_create(serve->model, &config, &serve->compute, err);
}

static int open_lanes(struct serve *serve, struct error *err)
{
	uint32_t lanes = serve->options.sequence_count;
	uint32_t slots = serve->rank.segment->shape.slot_count;
	int rc = 0;

	serve->use_mask = 1;
	while (serve->use_mask < 2 * serve->position_count)
		serve->use_mask = 2 * serve->use_mask + 1;
	serve->lanes = calloc(lanes, sizeof(*serve->lanes));
	serve->outcomes = calloc(lanes, sizeof(*serve->outcomes));
	serve->lane_of = malloc(slots * sizeof(*serve->lane_of));
	if (!serve->lanes || !serve->outcomes || !serve->lane_of)
		rc = -ENOMEM;
	else
		memset(serve->lane_of, 0xff, slots * sizeof(*serve->lane_of));
	for (uint32_t i = 0; rc == 0 && i < lanes; i++)
		rc = lane_init(serve, &serve->lanes[i]);
	return rc ? error_set(err, ENOMEM,
			    "no memory for %u requests of %u tokens", lanes,
			    serve->position_count)
		  : 0;
}

/* Measured anew, unless an earlier life did so for the same pages. */
static int learn_costs(
	struct serve *serve, struct sched_model *out, struct error *err)
{
	uint32_t threads = serve_thread_count(&serve->options);
	struct serve_keep *keep = serve->keep;
	int rc;

	if (keep && serve->model->was_kept && keep->thread_count == threads) {
		*out = keep->measured;
		sched_model_clamp(out);
		return 0;
	}
	if (keep)
		keep->thread_count = 0;
	rc = serve_measure(serve, out, err);
	if (rc || !keep)
		return rc;
	keep->measured = *out;
	/* Last, so that a life that ends here leaves no half of it. */
	__atomic_store_n(&keep->thread_count, threads, __ATOMIC_RELEASE);
	return 0;
}

static int open_sched(struct serve *serve, struct error *err)
{
	const struct kv_layout *layout = kv_store_layout(serve->model->kv);
	uint32_t blocks = kv_store_block_count_max(serve->model->kv);
	const struct sched_config config = {
		.job_count = serve->rank.segment->shape.slot_count,
		.name_count = ADAPTER_ENTRY_COUNT_MAX,
		.sequence_count = serve->options.sequence_count,
		.row_count = serve->options.row_count,
		.block_tokens = layout->block_tokens,
		.block_count = blocks,
		.budget_percent = serve->options.budget_percent,
		.step_max_ns = serve->options.step_max_ns,
		.kv = {serve, serve_start, serve_grow, serve_stop,
			serve_available},
	};
	struct sched_model model;
	int rc;

	counter_set(&serve->rank.counters->kv_pages_total,
		(uint64_t)blocks * layout->pages_per_block);
	rc = kv_cache_create(serve->model->kv, blocks, &serve->cache);
	if (rc)
		return error_set(err, -rc, "no memory for the prefix cache");
	rc = learn_costs(serve, &model, err);
	if (rc)
		return rc;
	rc = sched_create(&config, &model, &serve->sched);
	return rc ? error_set(err, -rc, "no memory for the scheduler") : 0;
}

void serve_close(struct serve *serve)
{
	uint64_t took_ns;

	if (serve->in_flight)
		(void)compute_end(serve->compute, &took_ns, NULL);
	for (uint32_t i = 0; serve->cache && i < serve->options.sequence_count;
		i++)
		if (serve->lanes[i].slot != SLOT_NONE)
			kv_cache_release(serve->cache, &serve->lanes[i].chain);
	serve_adapters_close(serve);
	verify_stop(serve->verify);
	compute_destroy(serve->compute);
	for (uint32_t i = 0; serve->lanes && i < serve->options.sequence_count;
		i++)
		lane_release(&serve->lanes[i]);
	free(serve->lanes);
	free(serve->outcomes);
	free(serve->lane_of);
	sched_destroy(serve->sched);
	kv_cache_destroy(serve->cache);
	step_release(&serve->steps[0]);
	step_release(&serve->steps[1]);
	rank_close(&serve->rank);
	model_destroy(serve->model);
	if (serve->keep)
		munmap(serve->keep, sizeof(*serve->keep));
	vmm_host_destroy(&serve->vmm);
	pthread_mutex_destroy(&serve->lock);
	free(serve);
}

/* A request that needs more than the pool has could never run. */
static uint32_t position_count(const struct serve *serve)
{
	const struct model *model = serve->model;
	uint64_t most = (uint64_t)kv_store_block_count_max(model->kv) *
			kv_store_layout(model->kv)->block_tokens;
	uint32_t count = engine_serve_positions(
		&serve->options, model->config.position_count);

	return count < most ? count : (uint32_t)most;
}

static int open_parts(struct serve *serve, const struct engine_place *place,
	const struct model_files *files, struct error *err)
{
	enum cpu_isa isa;
	int rc = check_options(&serve->options, err);

	if (rc == 0)
		rc = cpu_isa_choose(&isa, err);
	if (rc == 0)
		rc = open_memory(serve, err);
	if (rc == 0)
		rc = open_model(serve, place, files, isa, err);
	if (rc)
		return rc;
	serve->position_count = position_count(serve);
	rc = open_rank(serve, place, err);
	if (rc == 0)
		rc = open_verify(serve, err);
	if (rc == 0)
		rc = open_compute(serve, isa, err);
	if (rc == 0)
		rc = open_lanes(serve, err);
	if (rc == 0)
		rc = open_sched(serve, err);
	if (rc == 0 && place->mail)
		rc = serve_adapters_open(serve, place->mail, err);
	return rc;
}

/* What requests of an earlier life hold has to be there before them. */
static void await_first_loads(struct serve *serve, const uint32_t *stop)
{
	while (serve_adapters_opening(serve) &&
		!__atomic_load_n(stop, __ATOMIC_ACQUIRE)) {
		uint32_t seen = wake_arm(serve->rank.wake);

		serve->now = mono_now();
		beat(serve);
		if (!serve_adapters_turn(serve))
			wake_wait(serve->rank.wake, seen,
				mono_add(serve->now, RANK_BEAT_NS));
		wake_disarm(serve->rank.wake);
	}
}

int serve_open(const struct engine_place *place,
	const struct engine_serve_options *options,
	const struct model_files *files, struct serve **out, struct error *err)
{
	struct serve *serve = calloc(1, sizeof(*serve));
	int rc;

	if (!serve)
		return error_set(err, ENOMEM, "no memory for an engine");
	serve->options = *options;
	/* Without attributes it cannot fail on Linux. */
	pthread_mutex_init(&serve->lock, NULL);
	rc = open_parts(serve, place, files, err);
	if (rc) {
		serve_close(serve);
		return rc;
	}
	serve_tell_small_pages(serve);
	await_first_loads(serve, place->stop);
	serve->now = mono_now();
	rank_take_over(&serve->rank, serve->now);
	beat(serve);
	*out = serve;
	return 0;
}

int engine_serve_run(const struct engine_place *place,
	const struct engine_serve_options *options,
	const struct model_files *files, struct error *err)
{
	struct serve *serve = NULL;
	int rc = serve_open(place, options, files, &serve, err);

	if (rc)
		return rc;
	assert(serve);
	/* A step of a millisecond must not begin late. */
	prctl(PR_SET_TIMERSLACK, 1UL, 0UL, 0UL, 0UL);
	rank_set_state(&serve->rank, BEAT_READY);
	rc = run(serve, place->stop, err);
	/* A broken one says nothing more: the next life goes on from the logs. */
	if (rc == 0) {
		rank_set_state(&serve->rank, BEAT_ABSENT);
		serve_cancel_all(serve);
	}
	serve_close(serve);
	return rc;
}
