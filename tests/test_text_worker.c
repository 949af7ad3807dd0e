/* test_text_worker.c - a pair of text threads, how it waits (jobs -> notes) */
/* SPDX-License-Identifier: Apache-2.0 */
#include <stdlib.h>
#include <time.h>

#include "base/clock.h"
#include "dataplane/text_worker.h"
#include "tests/suite.h"
#include "tests/text_case.h"

#define JOB_COUNT 3000u
#define OPEN_MAX 40u /* jobs that are on their way */
#define GAP_US_MAX 250u /* longer than a worker waits awake, and shorter */
#define PATIENCE_NS (20 * NS_PER_S)

static struct text_bell network;
static struct text_shared shared;
static struct text_worker worker;

static void wake_nobody(void *arg)
{
	(void)arg;
}

static void start(struct tokenizer *tok, bool awake)
{
	static const struct front_limits limits = {.request_body_bytes = 65536};
	struct error err = {0};

	shared = (struct text_shared){.tok = tok,
		.limits = &limits,
		.bell = &network,
		.wake = wake_nobody,
		.awake = awake};
	if (text_worker_start(&worker, &shared, &err))
		CU_FAIL_FATAL(err.text);
}

static void stop(void)
{
	while (!text_worker_try_stop(&worker)) {
	}
	text_worker_release(&worker);
}

static void pause_us(uint32_t us)
{
	const struct timespec time = {.tv_nsec = (long)us * 1000};

	nanosleep(&time, NULL);
}

/* A request that is let go of at once: its note comes back with its number. */
static void push_job(uint32_t number)
{
	struct text_message job = {.kind = TEXT_RELEASE};

	job.request = text_request_create(API_COMPLETIONS, NULL, 0);
	CU_ASSERT_PTR_NOT_NULL_FATAL(job.request);
	job.request->exchange = number;
	CU_ASSERT_FATAL(text_ring_push(&worker.out_jobs, &job, NULL));
}

static uint32_t take_notes(uint32_t taken)
{
	const struct text_message *note;

	while ((note = text_ring_peek(&worker.out_notes))) {
		CU_ASSERT_EQUAL(note->kind, TEXT_RELEASED);
		CU_ASSERT_EQUAL(note->exchange, taken);
		text_ring_pop(&worker.out_notes);
		taken++;
	}
	return taken;
}

/* Bursts of some jobs with some time in between, all done in their order. */
static void run_jobs(bool awake)
{
	struct tokenizer *tok = text_tokenizer("qwen");
	uint64_t random = suite_seed(5);
	uint64_t until = mono_now().ns + PATIENCE_NS;
	uint32_t pushed = 0, taken = 0;

	start(tok, awake);
	while (taken < JOB_COUNT && mono_now().ns < until) {
		uint32_t burst = (uint32_t)(random >> 33) % 8;

		random = random * UINT64_C(6364136223846793005) +
			 UINT64_C(1442695040888963407);
		while (burst-- > 0 && pushed < JOB_COUNT &&
			pushed - taken < OPEN_MAX)
			push_job(pushed++);
		text_bell_strike(&worker.out_bell);
		if (random & (UINT64_C(1) << 40))
			pause_us((uint32_t)(random >> 41) % GAP_US_MAX);
		taken = take_notes(taken);
	}
	CU_ASSERT_EQUAL(taken, JOB_COUNT);
	stop();
	tokenizer_destroy(tok);
}

static void test_text_worker__does_jobs_in_order(void)
{
	run_jobs(false);
}

static void test_text_worker__does_them_in_order_where_it_waits_awake(void)
{
	run_jobs(true);
}

static bool sleeps(void)
{
	return __atomic_load_n(&worker.out_bell.asleep, __ATOMIC_ACQUIRE) == 1;
}

/* Whoever is not needed for a while sleeps, though it may wait awake. */
static void test_text_worker__sleeps_in_the_end(void)
{
	struct tokenizer *tok = text_tokenizer("qwen");
	uint64_t until = mono_now().ns + PATIENCE_NS;
	struct timespec before, after;
	clockid_t clock;
	uint32_t taken = 0;

	start(tok, true);
	push_job(0);
	text_bell_strike(&worker.out_bell);
	while (taken == 0 && mono_now().ns < until)
		taken = take_notes(taken);
	CU_ASSERT_EQUAL(taken, 1);
	while (!sleeps() && mono_now().ns < until) {
	}
	CU_ASSERT(sleeps());
	/* It looks up ten times a second at most. */
	CU_ASSERT_EQUAL_FATAL(
		pthread_getcpuclockid(worker.out_thread, &clock), 0);
	clock_gettime(clock, &before);
	pause_us(300000);
	clock_gettime(clock, &after);
	CU_ASSERT((after.tv_sec - before.tv_sec) * (int64_t)NS_PER_S +
			  (after.tv_nsec - before.tv_nsec) <
		  (int64_t)(100 * NS_PER_MS));
	stop();
	tokenizer_destroy(tok);
}

static const struct suite_case cases[] = {
	SUITE_CASE(text_worker__does_jobs_in_order),
	SUITE_CASE(text_worker__does_them_in_order_where_it_waits_awake),
	SUITE_CASE(text_worker__sleeps_in_the_end),
};

int main(void)
{
	return SUITE_MAIN("text_worker", cases);
}
