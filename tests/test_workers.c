/* test_workers.c - the pool of threads */
/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <sched.h>
#include <stdbool.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "gpu/cpu/workers.h"
#include "tests/suite.h"

#define ITEM_MAX 300

/* What a run did; an item has one writer, and so has a worker's entry. */
struct record {
	uint32_t visits[ITEM_MAX]; /* [item] */
	uint32_t range[ITEM_MAX]; /* [item] size of its range */
	uint32_t calls[WORKER_COUNT_MAX]; /* [worker] */
};

struct recorded {
	struct record *record;
};

static void visit(const void *arg, size_t first, size_t end, uint32_t worker)
{
	struct record *record = ((const struct recorded *)arg)->record;

	record->calls[worker]++;
	for (size_t i = first; i < end; i++) {
		record->visits[i]++;
		record->range[i] = (uint32_t)(end - first);
	}
}

/* Each item was done once; no range was empty or somebody else's. */
static uint32_t check_visits(const struct workers *workers,
	const struct record *record, size_t item_count)
{
	uint32_t calls = 0;

	for (size_t i = 0; i < ITEM_MAX; i++)
		CU_ASSERT_EQUAL(record->visits[i], i < item_count);
	for (uint32_t i = 0; i < WORKER_COUNT_MAX; i++) {
		calls += record->calls[i];
		CU_ASSERT(i < workers_count(workers) || !record->calls[i]);
	}
	return calls;
}

static void check_run(
	struct workers *workers, struct record *record, size_t item_count)
{
	struct recorded arg = {record};

	memset(record, 0, sizeof(*record));
	workers_run(workers, item_count, visit, &arg);
	CU_ASSERT(check_visits(workers, record, item_count) <= item_count);
}

static struct workers *pool_of(uint32_t count)
{
	struct workers *workers = NULL;

	CU_ASSERT_EQUAL_FATAL(workers_create(count, NULL, &workers), 0);
	CU_ASSERT_EQUAL(workers_count(workers), count);
	return workers;
}

static void test_workers_run__covers_each_item_once(void)
{
	static const uint32_t counts[] = {1, 2, 3, 5, 16};
	struct record record = {0};

	for (size_t c = 0; c < sizeof(counts) / sizeof(counts[0]); c++) {
		struct workers *workers = pool_of(counts[c]);

		for (size_t items = 0; items < 40; items++)
			check_run(workers, &record, items);
		check_run(workers, &record, ITEM_MAX);
		workers_destroy(workers);
	}
}

static void test_workers_run__small_runs_leave_no_thread_behind(void)
{
	struct record record = {0};
	struct workers *workers = pool_of(4);
	uint64_t random = suite_seed(1);

	for (int i = 0; i < 2000; i++)
		check_run(workers, &record, suite_below(&random, 8));
	workers_destroy(workers);
}

static void test_workers_run_grain__cuts_at_multiples(void)
{
	static const size_t grains[] = {1, 2, 7, 64, ITEM_MAX, 999};
	struct record record;
	struct recorded arg = {&record};
	struct workers *workers = pool_of(3);

	for (size_t g = 0; g < sizeof(grains) / sizeof(grains[0]); g++) {
		size_t grain = grains[g], count = ITEM_MAX;

		memset(&record, 0, sizeof(record));
		workers_run_grain(workers, count, grain, visit, &arg);
		check_visits(workers, &record, count);
		for (size_t i = 0; i < count; i++) {
			size_t first = i / grain * grain;

			CU_ASSERT_EQUAL(record.range[i],
				count - first < grain ? count - first : grain);
		}
	}
	workers_destroy(workers);
}

static void test_workers_run_cost__small_runs_stay_with_the_caller(void)
{
	struct record record;
	struct recorded arg = {&record};
	struct workers *workers = pool_of(4);

	for (size_t items = 0; items <= ITEM_MAX; items += 50)
		for (uint64_t cost_ns = 1; cost_ns < 1000000000; cost_ns *= 9) {
			uint32_t calls;

			memset(&record, 0, sizeof(record));
			workers_run_cost(workers, items, cost_ns, visit, &arg);
			calls = check_visits(workers, &record, items);
			if (cost_ns < 1000)
				CU_ASSERT_EQUAL(calls, items > 0);
			if (cost_ns < 1000)
				CU_ASSERT_EQUAL(record.calls[0], items > 0);
			if (cost_ns > 10000000)
				CU_ASSERT(calls >= items / 5);
		}
	workers_destroy(workers);
}

/* Of a long run a part's last range is one item, however large the first. */
static void test_workers_run_cost__ranges_get_smaller(void)
{
	struct record record = {0};
	struct recorded arg = {&record};
	struct workers *workers = pool_of(2);

	workers_run_cost(workers, ITEM_MAX, 1000000000, visit, &arg);
	check_visits(workers, &record, ITEM_MAX);
	for (size_t i = 0; i < ITEM_MAX; i++)
		CU_ASSERT(record.range[i] <= ITEM_MAX / 2 / 4);
	CU_ASSERT_EQUAL(record.range[ITEM_MAX / 2 - 1], 1);
	CU_ASSERT_EQUAL(record.range[ITEM_MAX - 1], 1);
	workers_destroy(workers);
}

/* One item waits until all others are done. */
struct held_up {
	size_t item;
	uint32_t *done; /* of the others */
	bool *alone; /* they were not done in ten seconds */
};

static void hold_up(const void *arg, size_t first, size_t end, uint32_t worker)
{
	const struct held_up *held = arg;

	(void)worker;
	for (size_t i = first; i < end; i++) {
		int ms = 0;

		if (i != held->item) {
			__atomic_fetch_add(held->done, 1, __ATOMIC_RELEASE);
			continue;
		}
		while (__atomic_load_n(held->done, __ATOMIC_ACQUIRE) <
				ITEM_MAX - 1 &&
			ms++ < 10000)
			usleep(1000);
		*held->alone = ms > 10000;
	}
}

static void test_workers_run__others_do_the_part_of_one_held_up(void)
{
	static const uint32_t counts[] = {2, 3, 7};

	for (size_t c = 0; c < sizeof(counts) / sizeof(counts[0]); c++) {
		struct workers *workers = pool_of(counts[c]);

		/* The first, one in the middle and the last of some part. */
		for (size_t item = 0; item < ITEM_MAX; item += 23) {
			uint32_t done = 0;
			bool alone = true;
			struct held_up arg = {item, &done, &alone};

			workers_run_grain(workers, ITEM_MAX, 1, hold_up, &arg);
			CU_ASSERT(!alone);
		}
		workers_destroy(workers);
	}
}

/* Items that wait for each other end only if threads take them. */
struct meeting {
	uint32_t *arrived; /* [count] */
	uint32_t count;
};

static void meet(const void *arg, size_t first, size_t end, uint32_t worker)
{
	const struct meeting *meeting = arg;

	(void)worker;
	for (size_t i = first; i < end; i++)
		__atomic_store_n(&meeting->arrived[i], 1, __ATOMIC_RELEASE);
	for (uint32_t i = 0; i < meeting->count; i++)
		while (!__atomic_load_n(&meeting->arrived[i], __ATOMIC_ACQUIRE))
			sched_yield();
}

static void test_workers_run__all_threads_wake_up(void)
{
	uint64_t random = suite_seed(2);

	for (uint32_t count = 2; count <= 8; count++) {
		struct workers *workers = pool_of(count);

		for (int i = 0; i < 200; i++) {
			uint32_t arrived[8] = {0};
			struct meeting meeting = {arrived, count};

			/* At times after they fell asleep. */
			for (int k = 0; i % 20 == 0 && k < 200000; k++)
				suite_random(&random);
			workers_run_grain(workers, count, 1, meet, &meeting);
		}
		workers_destroy(workers);
	}
}

struct sum {
	const uint32_t *in; /* written by the caller before the run */
	uint32_t *out;
};

static void square(const void *arg, size_t first, size_t end, uint32_t worker)
{
	const struct sum *sum = arg;

	(void)worker;
	for (size_t i = first; i < end; i++)
		sum->out[i] = sum->in[i] * sum->in[i];
}

static void test_workers_run__writes_are_seen_both_ways(void)
{
	uint32_t a[ITEM_MAX] = {0}, b[ITEM_MAX] = {0};
	struct workers *workers = pool_of(3);

	for (uint32_t round = 0; round < 200; round++) {
		struct sum there = {a, b}, back = {b, a};
		bool right = true;

		for (uint32_t i = 0; i < ITEM_MAX; i++)
			a[i] = i + round;
		workers_run(workers, ITEM_MAX, square, &there);
		workers_run(workers, ITEM_MAX, square, &back);
		for (uint32_t i = 0; i < ITEM_MAX; i++) {
			uint32_t n = (i + round) * (i + round);

			right = right && b[i] == n && a[i] == n * n;
		}
		CU_ASSERT(right);
	}
	workers_destroy(workers);
}

static void test_workers_destroy__takes_null(void)
{
	workers_destroy(NULL);
}

/* In a child that may have three threads only; its status is the answer. */
static int create_without_threads(void)
{
	const struct rlimit three = {3, 3};
	struct workers *workers = NULL;
	int status;

	if (geteuid() == 0 && (setgid(65534) != 0 || setuid(65534) != 0))
		return 77;
	if (setrlimit(RLIMIT_NPROC, &three) != 0)
		return 77;
	if (workers_create(1, NULL, &workers) != 0)
		return 1; /* no thread is needed for one */
	workers_destroy(workers);
	workers = NULL;
	status = workers_create(5, NULL, &workers);
	if (status == 0)
		return 77; /* the limit does not bind here */
	return status == -EAGAIN && !workers ? 0 : 2;
}

static void test_workers_create__no_thread_is_refused(void)
{
	int status = -1;
	pid_t child = fork();

	CU_ASSERT_FATAL(child >= 0);
	if (child == 0)
		_exit(create_without_threads());
	CU_ASSERT_EQUAL(waitpid(child, &status, 0), child);
	CU_ASSERT_FATAL(WIFEXITED(status));
	if (WEXITSTATUS(status) == 77)
		suite_skip("the number of threads cannot be limited here");
	else
		CU_ASSERT_EQUAL(WEXITSTATUS(status), 0);
}

/* --- cores ---------------------------------------------------------------- */

static uint32_t core_of_caller(cpu_set_t *cores)
{
	uint32_t core = 0;

	CU_ASSERT_EQUAL_FATAL(sched_getaffinity(0, sizeof(*cores), cores), 0);
	while (!CPU_ISSET(core, cores))
		core++;
	return core;
}

struct bound {
	uint32_t *elsewhere; /* [1] */
	const uint32_t *cores;
};

static void check_core(
	const void *arg, size_t first, size_t end, uint32_t worker)
{
	const struct bound *bound = arg;
	cpu_set_t cores;

	(void)first;
	(void)end;
	if (core_of_caller(&cores) != bound->cores[worker] ||
		CPU_COUNT(&cores) != 1 ||
		sched_getcpu() != (int)bound->cores[worker])
		__atomic_fetch_add(bound->elsewhere, 1, __ATOMIC_RELAXED);
}

static void test_workers_create__binds_until_destroy(void)
{
	cpu_set_t before, after;
	uint32_t cores[4], elsewhere = 0, least = core_of_caller(&before);
	struct bound bound = {&elsewhere, cores};
	struct workers *workers = NULL;

	for (uint32_t i = 0, core = least; i < 4; i++) {
		cores[i] = core;
		do
			core = (core + 1) % CPU_SETSIZE;
		while (!CPU_ISSET(core, &before));
	}
	CU_ASSERT_EQUAL_FATAL(workers_create(4, cores, &workers), 0);
	for (int i = 0; i < 50; i++)
		workers_run(workers, ITEM_MAX, check_core, &bound);
	CU_ASSERT_EQUAL(elsewhere, 0);
	workers_destroy(workers);
	core_of_caller(&after);
	CU_ASSERT(CPU_EQUAL(&before, &after));
}

static void test_workers_create__forbidden_core_is_refused(void)
{
	cpu_set_t before, after;
	uint32_t cores[2] = {core_of_caller(&before), 0};
	struct workers *workers = NULL;

	while (cores[1] < CPU_SETSIZE && CPU_ISSET(cores[1], &before))
		cores[1]++;
	CU_ASSERT_EQUAL(workers_create(2, cores, &workers), -EINVAL);
	cores[1] = UINT32_MAX;
	CU_ASSERT_EQUAL(workers_create(2, cores, &workers), -EINVAL);
	cores[0] = UINT32_MAX;
	CU_ASSERT_EQUAL(workers_create(1, cores, &workers), -EINVAL);
	CU_ASSERT_PTR_NULL(workers);
	core_of_caller(&after);
	CU_ASSERT(CPU_EQUAL(&before, &after));
}

static const struct suite_case cases[] = {
	SUITE_CASE(workers_run__covers_each_item_once),
	SUITE_CASE(workers_run__small_runs_leave_no_thread_behind),
	SUITE_CASE(workers_run_grain__cuts_at_multiples),
	SUITE_CASE(workers_run_cost__small_runs_stay_with_the_caller),
	SUITE_CASE(workers_run_cost__ranges_get_smaller),
	SUITE_CASE(workers_run__others_do_the_part_of_one_held_up),
	SUITE_CASE(workers_run__all_threads_wake_up),
	SUITE_CASE(workers_run__writes_are_seen_both_ways),
	SUITE_CASE(workers_destroy__takes_null),
	SUITE_CASE(workers_create__no_thread_is_refused),
	SUITE_CASE(workers_create__binds_until_destroy),
	SUITE_CASE(workers_create__forbidden_core_is_refused),
};

int main(void)
{
	return SUITE_MAIN("workers", cases);
}
