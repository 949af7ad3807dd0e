/* machine.c - what this machine can do at best: bytes read, FMAs done */
/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/clock.h"
#include "bench/machine.h"
#include "bench/machine_loops.h"
#include "bench/median.h"

#define RUN_COUNT_DEFAULT 9
#define BUFFER_BYTES_DEFAULT ((size_t)512 << 20)
#define FMA_TURNS 4000000

struct measurement {
	const struct machine_load *load;
	float (*multiply)(uint64_t turns); /* NULL: it reads */
	size_t buffer_bytes;
	uint32_t run_count;
	pthread_mutex_t gate; /* held while threads are started */
	pthread_barrier_t barrier;
	bool has_barrier;
	_Atomic int failure; /* first errno of a thread, 0 = none */
	_Atomic uint64_t sink; /* results, so that no loop is left out */
	struct mono *start, *end; /* [run_count], written by thread 0 */
};

struct member {
	struct measurement *all;
	uint32_t index;
	pthread_t thread;
};

static int bind_to(uint32_t core)
{
	cpu_set_t set;

	CPU_ZERO(&set);
	if (core >= CPU_SETSIZE)
		return EINVAL;
	CPU_SET(core, &set);
	return sched_setaffinity(0, sizeof(set), &set) ? errno : 0;
}

static void *make_buffer(size_t bytes, bool memory_file)
{
	int flags = MAP_PRIVATE | MAP_ANONYMOUS;
	int fd = -1;
	void *buffer;

	if (memory_file) {
		fd = memfd_create("machine", MFD_CLOEXEC);
		if (fd < 0 || ftruncate(fd, (off_t)bytes)) {
			if (fd >= 0)
				close(fd);
			return NULL;
		}
		flags = MAP_SHARED;
	}
	buffer = mmap(NULL, bytes, PROT_READ | PROT_WRITE, flags, fd, 0);
	if (fd >= 0)
		close(fd);
	if (buffer == MAP_FAILED)
		return NULL;
	/* Advice may be refused: then the pages are small, and so it is. */
	if (!memory_file)
		(void)madvise(buffer, bytes, MADV_HUGEPAGE);
	memset(buffer, 1, bytes);
	return buffer;
}

/* One thread's part of one run. */
static void run_once(struct measurement *m, const void *buffer)
{
	const struct machine_loops *loops = machine_loops();
	uint64_t result;

	if (m->multiply)
		result = (uint64_t)m->multiply(FMA_TURNS);
	else
		result = loops->read(buffer, m->buffer_bytes);
	atomic_fetch_add_explicit(&m->sink, result, memory_order_relaxed);
}

static void *member_main(void *arg)
{
	struct member *member = arg;
	struct measurement *m = member->all;
	void *buffer = NULL;
	int failure, none = 0;

	pthread_mutex_lock(&m->gate);
	pthread_mutex_unlock(&m->gate);
	if (!m->has_barrier)
		return NULL;
	failure = bind_to(m->load->cores[member->index]);
	if (!failure && !m->multiply) {
		buffer = make_buffer(m->buffer_bytes, m->load->memory_file);
		if (!buffer)
			failure = ENOMEM;
	}
	if (failure)
		atomic_compare_exchange_strong(&m->failure, &none, failure);
	pthread_barrier_wait(&m->barrier);
	if (atomic_load(&m->failure) == 0)
		run_once(m, buffer); /* caches and clocks settle */
	for (uint32_t run = 0; run < m->run_count; run++) {
		pthread_barrier_wait(&m->barrier);
		if (member->index == 0)
			m->start[run] = mono_now();
		if (atomic_load(&m->failure) == 0)
			run_once(m, buffer);
		pthread_barrier_wait(&m->barrier);
		if (member->index == 0)
			m->end[run] = mono_now();
	}
	if (buffer)
		munmap(buffer, m->buffer_bytes);
	return NULL;
}

/* Of the runs, in seconds: the median of reads, the shortest of FMAs. */
static int typical_seconds(const struct measurement *m, double *out)
{
	double *seconds = calloc(m->run_count, sizeof(*seconds));
	double middle;

	if (!seconds)
		return -ENOMEM;
	for (uint32_t run = 0; run < m->run_count; run++)
		seconds[run] =
			(double)(mono_diff(m->end[run], m->start[run]) + 1) /
			1e9;
	middle = median(seconds, m->run_count); /* sorts */
	*out = m->multiply ? seconds[0] : middle;
	free(seconds);
	return 0;
}

static void start_others(
	struct measurement *m, struct member *members, uint32_t *started)
{
	for (; *started < m->load->thread_count; (*started)++) {
		struct member *member = &members[*started];
		int failure = pthread_create(
			&member->thread, NULL, member_main, member);

		if (failure) {
			atomic_store(&m->failure, failure);
			return;
		}
	}
}

/*
 * How many will meet at the barrier is known when all have been started, so
 * they wait at a gate until then; after a failure nobody measures.
 */
static int run_members(struct measurement *m)
{
	struct member *members =
		calloc(m->load->thread_count, sizeof(*members));
	uint32_t started = 1;
	int failure;

	if (!members)
		return -ENOMEM;
	for (uint32_t i = 0; i < m->load->thread_count; i++)
		members[i] = (struct member){.all = m, .index = i};
	pthread_mutex_lock(&m->gate);
	start_others(m, members, &started);
	failure = pthread_barrier_init(&m->barrier, NULL, started);
	if (failure)
		atomic_store(&m->failure, failure);
	m->has_barrier = failure == 0;
	pthread_mutex_unlock(&m->gate);
	member_main(&members[0]);
	for (uint32_t i = 1; i < started; i++)
		pthread_join(members[i].thread, NULL);
	if (m->has_barrier)
		pthread_barrier_destroy(&m->barrier);
	free(members);
	return -atomic_load(&m->failure);
}

static int measure(
	struct measurement *m, double *out_seconds, struct error *err)
{
	cpu_set_t before;
	int rc;

	m->run_count =
		m->load->run_count ? m->load->run_count : RUN_COUNT_DEFAULT;
	m->start = calloc(m->run_count, sizeof(*m->start));
	m->end = calloc(m->run_count, sizeof(*m->end));
	if (sched_getaffinity(0, sizeof(before), &before))
		rc = -errno;
	else if (!m->start || !m->end)
		rc = -ENOMEM;
	else
		rc = run_members(m);
	if (rc == 0)
		rc = typical_seconds(m, out_seconds);
	/* Going back to what was allowed before cannot fail. */
	(void)sched_setaffinity(0, sizeof(before), &before);
	free(m->start);
	free(m->end);
	if (rc)
		return error_set(err, -rc,
			"measuring the machine with %u threads failed: %s",
			m->load->thread_count, strerror(-rc));
	return 0;
}

const char *machine_isa(void)
{
	return machine_loops()->isa;
}

int machine_cores(uint32_t count, uint32_t *out_cores, struct error *err)
{
	cpu_set_t set;
	uint32_t found = 0;

	if (sched_getaffinity(0, sizeof(set), &set))
		return error_set(err, errno, "asking for this process's cores");
	for (uint32_t core = 0; core < CPU_SETSIZE && found < count; core++)
		if (CPU_ISSET(core, &set))
			out_cores[found++] = core;
	if (found < count)
		return error_set(err, EINVAL,
			"%u threads, but this process may use only %u cores",
			count, found);
	return 0;
}

int machine_read_rate(const struct machine_load *load,
	double *out_bytes_per_second, struct error *err)
{
	size_t bytes =
		load->buffer_bytes ? load->buffer_bytes : BUFFER_BYTES_DEFAULT;
	struct measurement m = {
		.load = load,
		.gate = PTHREAD_MUTEX_INITIALIZER,
		.buffer_bytes = bytes / MACHINE_READ_STEP_BYTES *
				MACHINE_READ_STEP_BYTES,
	};
	double seconds = 1;
	int rc = measure(&m, &seconds, err);

	if (rc == 0)
		*out_bytes_per_second = (double)m.buffer_bytes *
					(double)load->thread_count / seconds;
	return rc;
}

/* Each turn of the loop is `flops` operations. */
static int multiply_rate(const struct machine_load *load,
	float (*multiply)(uint64_t turns), uint32_t flops,
	double *out_flops_per_second, struct error *err)
{
	struct measurement m = {.load = load,
		.multiply = multiply,
		.gate = PTHREAD_MUTEX_INITIALIZER};
	double seconds = 1;
	int rc = measure(&m, &seconds, err);

	if (rc == 0)
		*out_flops_per_second = (double)FMA_TURNS * (double)flops *
					(double)load->thread_count / seconds;
	return rc;
}

int machine_fma_rate(const struct machine_load *load,
	double *out_flops_per_second, struct error *err)
{
	const struct machine_loops *loops = machine_loops();

	return multiply_rate(
		load, loops->fma, loops->fma_flops, out_flops_per_second, err);
}

int machine_tile_rate(const struct machine_load *load,
	double *out_flops_per_second, struct error *err)
{
	const struct machine_loops *loops = machine_loops();

	return multiply_rate(load, loops->tiles, loops->tile_flops,
		out_flops_per_second, err);
}
