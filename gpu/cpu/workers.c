/* workers.c - a small pool of threads that split an array of items */
/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Items go out in units of the grain. Each worker begins with an equal part of
 * them, side by side, and takes from its front; who has none left takes the
 * second half of what is left of the largest part. So a thread reads one
 * stretch of memory, with what is fetched in front of it, for nearly all of a
 * run (ranges in turn from one list cost a step of one row 15 %), and all end
 * together. A part is one word, first and end: an item is in one part only
 * and only once, so a word never comes back with the same units in it.
 *
 * The gate is one 32-bit word: the number of the run, whether it is open, and
 * how many threads are inside. A thread enters an open run that it has not
 * seen by adding itself, takes ranges until there are none, and leaves. The
 * caller opens the gate, takes ranges as well, shuts the gate and waits until
 * nobody is inside. So the fields of a run change only while the gate is shut
 * and empty, and a late thread finds it shut. The run's number wraps after
 * 2^19: a thread that slept through exactly so many misses one run, which the
 * others do without it.
 */
#include <assert.h>
#include <errno.h>
#include <limits.h>
#include <linux/futex.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "base/limits.h"
#include "base/relax.h"
#include "gpu/cpu/workers.h"

#define GATE_OPEN 1u
#define GATE_STOP 2u
#define GATE_ENTER 4u /* one thread inside */
#define GATE_INSIDE (2047u * GATE_ENTER)
#define GATE_ROUND 8192u /* one run */
#define GATE_ROUNDS (~(GATE_ROUND - 1))

_Static_assert(WORKER_COUNT_MAX <= GATE_INSIDE / GATE_ENTER, "gate too narrow");

/* Who sleeps on the gate: bits of FUTEX_WAIT_BITSET. */
#define SLEEPER_THREAD 1u
#define SLEEPER_CALLER 2u

/* Longest spin: longer than most gaps between operations. */
#define SPIN_NS_MAX 50000
#define SPIN_NS_MIN 2000
#define SPIN_PAUSES 8 /* looks at the gate for one look at the clock */

/* Ranges per worker of workers_run(). */
#define RUN_RANGES 8

/*
 * workers_run_cost(): what pays for a barrier; the smallest range; and one is
 * so much of what is left of its worker's part: the rest may be taken away.
 */
#define COST_BARRIER_NS 4000
#define COST_RANGE_NS 2000
#define COST_SHARES 4

/* The processors that a thread may use; Linux has at most 8192. */
#define CORE_COUNT_MAX 8192u

struct core_mask {
	cpu_set_t sets[CORE_COUNT_MAX / CPU_SETSIZE];
};

struct worker {
	/* Its part of the run: the first unit, and the end << 32. */
	_Alignas(CACHE_LINE_BYTES) _Atomic uint64_t part;

	/* Borrows: the pool outlives its threads. */
	_Alignas(CACHE_LINE_BYTES) struct workers *pool;
	uint32_t index;
	pthread_t thread; /* of all but the caller */
};

struct workers {
	/* Set by workers_create(). */
	uint32_t count;
	uint64_t spin_ns_max; /* 0: there are fewer cores than threads */
	bool bound;
	struct core_mask before; /* where the caller might run before */

	/* The run; the caller's while the gate is shut and empty. */
	_Alignas(CACHE_LINE_BYTES) size_t item_count;
	size_t grain;
	uint32_t shares; /* a range is one of so many of what is left of its
			    part, but a unit at least; 0 = it is a unit */
	workers_fn fn;
	const void *arg;

	/* Everybody's. */
	_Alignas(CACHE_LINE_BYTES) _Atomic uint32_t gate;
	_Atomic uint32_t sleeper_count; /* threads that sleep or will */
	_Atomic uint32_t caller_sleeps;

	struct worker each[]; /* owns; [count], the first is the caller */
};

static uint64_t now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

/* Sleep while the gate is `value`; may wake for no reason. */
static void gate_sleep(struct workers *pool, uint32_t value, uint32_t sleeper)
{
	syscall(SYS_futex, &pool->gate, FUTEX_WAIT_BITSET | FUTEX_PRIVATE_FLAG,
		value, NULL, NULL, sleeper);
}

static void gate_wake(struct workers *pool, uint32_t count, uint32_t sleeper)
{
	syscall(SYS_futex, &pool->gate, FUTEX_WAKE_BITSET | FUTEX_PRIVATE_FLAG,
		count, NULL, NULL, sleeper);
}

/* There is a run that a thread who has seen `seen` may enter, or the end. */
static bool is_open(uint32_t gate, uint32_t seen)
{
	return gate & GATE_STOP ||
	       (gate & GATE_OPEN && (gate & GATE_ROUNDS) != seen);
}

static bool is_empty(uint32_t gate, uint32_t unused)
{
	(void)unused;
	return !(gate & GATE_INSIDE);
}

/* Spin until ready() or for limit_ns; the answer is ready(). */
static bool gate_spin(struct workers *pool,
	bool (*ready)(uint32_t gate, uint32_t seen), uint32_t seen,
	uint64_t limit_ns)
{
	uint64_t end_ns;

	if (ready(atomic_load(&pool->gate), seen))
		return true;
	if (limit_ns == 0)
		return false;
	end_ns = now_ns() + limit_ns;
	do {
		for (int i = 0; i < SPIN_PAUSES; i++) {
			relax();
			if (ready(atomic_load(&pool->gate), seen))
				return true;
		}
	} while (now_ns() < end_ns);
	return false;
}

/*
 * The seq_cst counter and gate pair with gate_open(): either it sees the
 * sleeper and wakes it, or the sleeper sees the new gate.
 */
static void thread_sleep(struct workers *pool, uint32_t seen)
{
	uint32_t gate;

	atomic_fetch_add(&pool->sleeper_count, 1);
	while (gate = atomic_load(&pool->gate), !is_open(gate, seen))
		gate_sleep(pool, gate, SLEEPER_THREAD);
	atomic_fetch_sub(&pool->sleeper_count, 1);
}

/*
 * Wait for a run or the end. *spin_ns adapts: a wait that a full spin would
 * have covered calls for one next time, a longer one for half as much.
 */
static void thread_wait(struct workers *pool, uint32_t seen, uint64_t *spin_ns)
{
	uint64_t begin_ns;

	if (pool->spin_ns_max == 0) {
		thread_sleep(pool, seen);
		return;
	}
	begin_ns = now_ns();
	if (gate_spin(pool, is_open, seen, *spin_ns))
		return;
	thread_sleep(pool, seen);
	if (now_ns() - begin_ns <= pool->spin_ns_max)
		*spin_ns = pool->spin_ns_max;
	else if (*spin_ns / 2 >= SPIN_NS_MIN)
		*spin_ns /= 2;
}

/* Enter the next run, *seen becomes its number; false: the pool ends. */
static bool thread_enter(
	struct workers *pool, uint32_t *seen, uint64_t *spin_ns)
{
	for (;;) {
		uint32_t gate = atomic_load(&pool->gate);

		if (gate & GATE_STOP)
			return false;
		if (!is_open(gate, *seen))
			thread_wait(pool, *seen, spin_ns);
		else if (atomic_compare_exchange_weak(
				 &pool->gate, &gate, gate + GATE_ENTER)) {
			*seen = gate & GATE_ROUNDS;
			return true;
		}
	}
}

/* The last one out wakes the caller, if it sleeps: pairs with gate_shut(). */
static void thread_leave(struct workers *pool)
{
	uint32_t gate = atomic_fetch_sub(&pool->gate, GATE_ENTER) - GATE_ENTER;

	if (!(gate & (GATE_INSIDE | GATE_OPEN)) &&
		atomic_load(&pool->caller_sleeps))
		gate_wake(pool, 1, SLEEPER_CALLER);
}

static uint64_t part_of(uint64_t first, uint64_t end)
{
	return first | end << 32;
}

static uint64_t part_first(uint64_t part)
{
	return part & UINT32_MAX;
}

static uint64_t part_end(uint64_t part)
{
	return part >> 32;
}

static uint64_t part_size(uint64_t part)
{
	return part_end(part) - part_first(part);
}

/* From the front of one's own part; false: there is nothing left. */
static bool take_own(struct worker *self, uint64_t *first, uint64_t *end)
{
	uint32_t shares = self->pool->shares;
	uint64_t part = atomic_load_explicit(&self->part, memory_order_relaxed);

	do {
		uint64_t size = shares > 0 ? part_size(part) / shares : 0;

		if (part_size(part) == 0)
			return false;
		*first = part_first(part);
		*end = *first + (size > 0 ? size : 1);
	} while (!atomic_compare_exchange_weak_explicit(&self->part, &part,
		part_of(*end, part_end(part)), memory_order_relaxed,
		memory_order_relaxed));
	return true;
}

/* Half of the largest part becomes one's own; false: all are empty. */
static bool take_half(struct worker *self)
{
	struct workers *pool = self->pool;

	for (;;) {
		struct worker *from = NULL;
		uint64_t most = 0, middle;

		for (uint32_t i = 0; i < pool->count; i++) {
			uint64_t part = atomic_load_explicit(
				&pool->each[i].part, memory_order_relaxed);

			if (part_size(part) > part_size(most)) {
				most = part;
				from = &pool->each[i];
			}
		}
		if (!from)
			return false;
		middle = part_first(most) + part_size(most) / 2;
		if (!atomic_compare_exchange_weak_explicit(&from->part, &most,
			    part_of(part_first(most), middle),
			    memory_order_relaxed, memory_order_relaxed))
			continue;
		/* Nobody takes from an empty part, so this is ours to write. */
		atomic_store_explicit(&self->part,
			part_of(middle, part_end(most)), memory_order_relaxed);
		return true;
	}
}

static void take_ranges(struct worker *self)
{
	const struct workers *pool = self->pool;
	uint64_t first, end;

	do {
		while (take_own(self, &first, &end)) {
			size_t item_end = end * pool->grain;

			pool->fn(pool->arg, first * pool->grain,
				item_end < pool->item_count ? item_end
							    : pool->item_count,
				self->index);
		}
	} while (take_half(self));
}

static void *thread_main(void *arg)
{
	struct worker *self = arg;
	struct workers *pool = self->pool;
	uint64_t spin_ns = pool->spin_ns_max;
	uint32_t seen = 0;

	while (thread_enter(pool, &seen, &spin_ns)) {
		take_ranges(self);
		thread_leave(pool);
	}
	return NULL;
}

static void gate_open(struct workers *pool, size_t unit_count)
{
	uint32_t gate = atomic_load(&pool->gate);
	size_t wake = unit_count - 1; /* one is the caller's */

	assert(!(gate & (GATE_OPEN | GATE_INSIDE))); /* a run within a run */
	atomic_store(&pool->gate, gate + GATE_ROUND + GATE_OPEN);
	if (atomic_load(&pool->sleeper_count) > 0)
		gate_wake(pool, wake < pool->count ? (uint32_t)wake : INT_MAX,
			SLEEPER_THREAD);
}

static void gate_shut(struct workers *pool)
{
	uint32_t gate = atomic_fetch_and(&pool->gate, ~GATE_OPEN);

	if (is_empty(gate, 0) ||
		gate_spin(pool, is_empty, 0, pool->spin_ns_max))
		return;
	atomic_store(&pool->caller_sleeps, 1);
	while (gate = atomic_load(&pool->gate), !is_empty(gate, 0))
		gate_sleep(pool, gate, SLEEPER_CALLER);
	atomic_store(&pool->caller_sleeps, 0);
}

/* End the first `thread_count` threads and free the pool. */
static void stop_and_free(struct workers *workers, uint32_t thread_count)
{
	assert(!(atomic_load(&workers->gate) & (GATE_OPEN | GATE_INSIDE)));
	atomic_fetch_or(&workers->gate, GATE_STOP);
	gate_wake(workers, INT_MAX, SLEEPER_THREAD);
	for (uint32_t i = 0; i < thread_count; i++)
		pthread_join(workers->each[i + 1].thread, NULL);
	if (workers->bound)
		sched_setaffinity(
			0, sizeof(workers->before), workers->before.sets);
	free(workers);
}

/* Put only `core` into the mask. */
static void mask_set(struct core_mask *mask, uint32_t core)
{
	memset(mask, 0, sizeof(*mask));
	CPU_SET_S(core, sizeof(*mask), mask->sets);
}

/* Different cores among those that the workers will use. */
static uint32_t core_count(
	const struct core_mask *allowed, uint32_t count, const uint32_t *cores)
{
	struct core_mask used = {0};

	if (!cores)
		return (uint32_t)CPU_COUNT_S(sizeof(*allowed), allowed->sets);
	for (uint32_t i = 0; i < count; i++)
		CPU_SET_S(cores[i], sizeof(used), used.sets);
	return (uint32_t)CPU_COUNT_S(sizeof(used), used.sets);
}

/* Start thread `index`, on `core` where it is not NULL; 0 or -errno. */
static int thread_start(
	struct workers *workers, uint32_t index, const uint32_t *core)
{
	struct worker *self = &workers->each[index];
	struct core_mask mask;
	pthread_attr_t attr;
	int status;

	/* Without a mask this cannot fail on Linux. */
	pthread_attr_init(&attr);
	if (core) {
		mask_set(&mask, *core);
		status = pthread_attr_setaffinity_np(
			&attr, sizeof(mask), mask.sets);
		if (status)
			goto out;
	}
	status = pthread_create(&self->thread, &attr, thread_main, self);
out:
	pthread_attr_destroy(&attr);
	return -status;
}

/* Bind the caller; `before` was read by workers_create(). */
static int bind_caller(struct workers *workers, uint32_t core)
{
	struct core_mask mask;

	mask_set(&mask, core);
	if (sched_setaffinity(0, sizeof(mask), mask.sets) != 0)
		return -errno;
	workers->bound = true;
	return 0;
}

/* Where this thread may run, and whether it may on all of cores. */
static int read_cores(
	struct core_mask *allowed, uint32_t count, const uint32_t *cores)
{
	memset(allowed, 0, sizeof(*allowed));
	if (sched_getaffinity(0, sizeof(*allowed), allowed->sets) != 0)
		return -errno;
	for (uint32_t i = 0; cores && i < count; i++)
		if (cores[i] >= CORE_COUNT_MAX ||
			!CPU_ISSET_S(cores[i], sizeof(*allowed), allowed->sets))
			return -EINVAL;
	return 0;
}

static struct workers *pool_alloc(uint32_t count)
{
	/* Whole cache lines, as both structures are. */
	size_t size = sizeof(struct workers) + count * sizeof(struct worker);
	struct workers *workers = aligned_alloc(CACHE_LINE_BYTES, size);

	if (!workers)
		return NULL;
	memset(workers, 0, size);
	workers->count = count;
	for (uint32_t i = 0; i < count; i++) {
		workers->each[i].pool = workers;
		workers->each[i].index = i;
	}
	return workers;
}

int workers_create(uint32_t count, const uint32_t *cores, struct workers **out)
{
	struct workers *workers;
	int status;

	assert(count >= 1 && count <= WORKER_COUNT_MAX);
	workers = pool_alloc(count);
	if (!workers)
		return -ENOMEM;
	status = read_cores(&workers->before, count, cores);
	if (status) {
		free(workers);
		return status;
	}
	if (core_count(&workers->before, count, cores) >= count)
		workers->spin_ns_max = SPIN_NS_MAX;
	for (uint32_t i = 1; i < count; i++) {
		status = thread_start(workers, i, cores ? &cores[i] : NULL);
		if (status) {
			stop_and_free(workers, i - 1);
			return status;
		}
	}
	if (cores)
		status = bind_caller(workers, cores[0]);
	if (status) {
		stop_and_free(workers, count - 1);
		return status;
	}
	*out = workers;
	return 0;
}

void workers_destroy(struct workers *workers)
{
	if (workers)
		stop_and_free(workers, workers->count - 1);
}

uint32_t workers_count(const struct workers *workers)
{
	return workers->count;
}

/* workers->grain and ->shares are set. */
static void run_ranges(struct workers *workers, size_t item_count,
	workers_fn fn, const void *arg)
{
	size_t grain = workers->grain;
	uint64_t unit_count, count = workers->count;

	if (item_count == 0)
		return;
	if (count == 1 || item_count <= grain) {
		fn(arg, 0, item_count, 0);
		return;
	}
	unit_count = (item_count - 1) / grain + 1;
	assert(unit_count <= UINT32_MAX);
	workers->item_count = item_count;
	workers->fn = fn;
	workers->arg = arg;
	for (uint64_t i = 0; i < count; i++)
		atomic_store_explicit(&workers->each[i].part,
			part_of(unit_count * i / count,
				unit_count * (i + 1) / count),
			memory_order_relaxed);
	gate_open(workers, unit_count);
	take_ranges(&workers->each[0]);
	gate_shut(workers);
}

void workers_run_grain(struct workers *workers, size_t item_count, size_t grain,
	workers_fn fn, const void *arg)
{
	assert(grain > 0);
	workers->grain = grain;
	workers->shares = 0;
	run_ranges(workers, item_count, fn, arg);
}

void workers_run(struct workers *workers, size_t item_count, workers_fn fn,
	const void *arg)
{
	size_t range_count = (size_t)workers->count * RUN_RANGES;

	workers_run_grain(
		workers, item_count, item_count / range_count + 1, fn, arg);
}

void workers_run_cost(struct workers *workers, size_t item_count,
	uint64_t cost_ns, workers_fn fn, const void *arg)
{
	uint64_t range_count = cost_ns / COST_RANGE_NS;

	if (cost_ns < COST_BARRIER_NS || range_count == 0)
		range_count = 1;
	workers->grain = item_count / (size_t)range_count + 1;
	workers->shares = COST_SHARES;
	run_ranges(workers, item_count, fn, arg);
}
