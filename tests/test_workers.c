/* test_workers.c - the pool of threads */
/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <stdbool.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "gpu/cpu/workers.h"
#include "tests/suite.h"

#define ITEM_MAX 300

/* What a run did; items and ranges have one writer each. */
struct record {
	uint32_t visits[ITEM_MAX]; /* [item] */
	uint32_t owner[ITEM_MAX]; /* [item] worker */
	uint32_t calls[WORKER_COUNT_MAX]; /* [worker] */
	size_t size[WORKER_COUNT_MAX]; /* [worker] items */
};

struct recorded {
	struct record *record;
};

static void visit(const void *arg, size_t first, size_t end, uint32_t worker)
{
	struct record *record = ((const struct recorded *)arg)->record;

	record->calls[worker]++;
	record->size[worker] += end - first;
	for (size_t i = first; i < end; i++) {
		record->visits[i]++;
		record->owner[i] = worker;
	}
}

static void check_run(
	struct workers *workers, struct record *record, size_t item_count)
{
	struct recorded arg = {record};
	uint32_t count = workers_count(workers);
	size_t total = 0, least = SIZE_MAX, most = 0;

	memset(record, 0, sizeof(*record));
	workers_run(workers, item_count, visit, &arg);
	for (size_t i = 0; i < ITEM_MAX; i++)
		CU_ASSERT_EQUAL(record->visits[i], i < item_count);
	for (size_t i = 1; i < item_count; i++)
		CU_ASSERT(record->owner[i] >= record->owner[i - 1]);
	for (uint32_t i = 0; i < count; i++) {
		size_t size = record->size[i];

		CU_ASSERT_EQUAL(record->calls[i], size > 0);
		total += size;
		least = size < least ? size : least;
		most = size > most ? size : most;
	}
	CU_ASSERT_EQUAL(total, item_count);
	CU_ASSERT(most - least <= 1);
}

static void test_workers_run__covers_each_item_once(void)
{
	static const uint32_t counts[] = {1, 2, 3, 5, 16};
	struct record record = {0};

	for (size_t c = 0; c < sizeof(counts) / sizeof(counts[0]); c++) {
		struct workers *workers = NULL;

		CU_ASSERT_EQUAL_FATAL(workers_create(counts[c], &workers), 0);
		CU_ASSERT_EQUAL(workers_count(workers), counts[c]);
		for (size_t items = 0; items < 40; items++)
			check_run(workers, &record, items);
		check_run(workers, &record, ITEM_MAX);
		workers_destroy(workers);
	}
}

static void test_workers_run__small_runs_leave_no_thread_behind(void)
{
	struct record record = {0};
	struct workers *workers = NULL;
	uint64_t random = suite_seed(1);

	CU_ASSERT_EQUAL_FATAL(workers_create(4, &workers), 0);
	for (int i = 0; i < 2000; i++)
		check_run(workers, &record, suite_below(&random, 8));
	workers_destroy(workers);
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
	struct workers *workers = NULL;

	CU_ASSERT_EQUAL_FATAL(workers_create(3, &workers), 0);
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
	if (workers_create(1, &workers) != 0)
		return 1; /* no thread is needed for one */
	workers_destroy(workers);
	workers = NULL;
	status = workers_create(5, &workers);
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

static const struct suite_case cases[] = {
	SUITE_CASE(workers_run__covers_each_item_once),
	SUITE_CASE(workers_run__small_runs_leave_no_thread_behind),
	SUITE_CASE(workers_run__writes_are_seen_both_ways),
	SUITE_CASE(workers_destroy__takes_null),
	SUITE_CASE(workers_create__no_thread_is_refused),
};

int main(void)
{
	return SUITE_MAIN("workers", cases);
}
