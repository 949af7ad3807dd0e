/* serve_run.c - a plan carried out by loops, with a line of progress */
/* SPDX-License-Identifier: Apache-2.0 */
#include <assert.h>
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include "bench/serve_run.h"

#define DESCRIPTORS_KEPT 64u /* for everything that is no connection */

struct worker {
	pthread_t thread;
	struct serve_loop_setup setup;
	struct serve_faults faults;
	struct error err;
	int rc, done_fd;
	bool is_started;
};

struct watch {
	const struct serve_run_setup *setup;
	struct serve_live *lives;
	struct mono start;
	atomic_bool stop;
	int done_fd;
	bool interrupted, is_terminal, noted;
	uint64_t last_ns, last_done, last_tokens; /* of the last line */
};

int serve_run_block_signals(void)
{
	sigset_t set;
	int fd;

	sigemptyset(&set);
	sigaddset(&set, SIGINT);
	sigaddset(&set, SIGTERM);
	if (pthread_sigmask(SIG_BLOCK, &set, NULL))
		return -EINVAL;
	fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
	return fd < 0 ? -errno : fd;
}

uint32_t serve_run_connection_max(void)
{
	struct rlimit limit;

	if (getrlimit(RLIMIT_NOFILE, &limit))
		return 256;
	limit.rlim_cur = limit.rlim_max;
	(void)setrlimit(RLIMIT_NOFILE, &limit);
	if (limit.rlim_cur > 1000000)
		return 1000000;
	return limit.rlim_cur / 2 > DESCRIPTORS_KEPT
		       ? (uint32_t)limit.rlim_cur - DESCRIPTORS_KEPT
		       : DESCRIPTORS_KEPT;
}

static void *work(void *context)
{
	struct worker *worker = context;
	const uint64_t one = 1;

	worker->rc =
		serve_loop_run(&worker->setup, &worker->faults, &worker->err);
	/* An eventfd takes a write at any time. */
	if (write(worker->done_fd, &one, sizeof(one)) != sizeof(one))
		abort();
	return NULL;
}

/* --- progress -------------------------------------------------------------- */

static uint64_t sum(const struct watch *watch, size_t offset)
{
	return serve_live_sum(watch->lives, watch->setup->thread_count, offset);
}

static double ms(const struct watch *watch, size_t offset, double percent)
{
	return (double)serve_live_percentile(watch->lives,
		       watch->setup->thread_count, offset, percent) /
	       1e6;
}

static void print_progress(struct watch *watch, bool last)
{
	uint64_t now_ns = mono_diff(mono_now(), watch->start);
	uint64_t done = sum(watch, offsetof(struct serve_live, done));
	uint64_t tokens = sum(watch, offsetof(struct serve_live, tokens));
	double passed_s = (double)(now_ns - watch->last_ns) / 1e9;
	const size_t ttft = offsetof(struct serve_live, ttft);
	const size_t itl = offsetof(struct serve_live, itl);

	if (passed_s <= 0)
		return;
	fprintf(stderr,
		"%s%6.1f s  %llu of %zu done  %.1f req/s  %.0f tok/s  "
		"%llu in flight  %llu errors  TTFT %.1f/%.1f ms  "
		"ITL %.2f/%.2f ms%s",
		watch->is_terminal ? "\r\033[K" : "", (double)now_ns / 1e9,
		(unsigned long long)done, watch->setup->plan->count,
		(double)(done - watch->last_done) / passed_s,
		(double)(tokens - watch->last_tokens) / passed_s,
		(unsigned long long)sum(
			watch, offsetof(struct serve_live, in_flight)),
		(unsigned long long)sum(
			watch, offsetof(struct serve_live, failed)),
		ms(watch, ttft, 50), ms(watch, ttft, 99), ms(watch, itl, 50),
		ms(watch, itl, 99), watch->is_terminal && !last ? "" : "\n");
	watch->last_ns = now_ns;
	watch->last_done = done;
	watch->last_tokens = tokens;
}

/* Milliseconds until there is something to print or to end. */
static int wait_ms(const struct watch *watch)
{
	uint64_t now_ns = mono_diff(mono_now(), watch->start);
	uint64_t every_ns = (watch->is_terminal ? 1 : 10) * NS_PER_S;
	uint64_t until_ns = watch->last_ns + every_ns;

	if (watch->setup->duration_ns && watch->setup->duration_ns < until_ns)
		until_ns = watch->setup->duration_ns;
	if (watch->setup->note && !watch->noted &&
		watch->setup->note_ns < until_ns)
		until_ns = watch->setup->note_ns;
	return until_ns > now_ns ? (int)((until_ns - now_ns) / NS_PER_MS) + 1
				 : 0;
}

static bool read_signal(struct watch *watch)
{
	struct signalfd_siginfo info;

	if (watch->setup->signal_fd < 0 ||
		read(watch->setup->signal_fd, &info, sizeof(info)) !=
			sizeof(info))
		return false;
	/* A second one does not wait for anything. */
	if (watch->interrupted)
		_exit(130);
	watch->interrupted = true;
	return true;
}

static void note(struct watch *watch, uint64_t now_ns)
{
	if (!watch->setup->note || watch->noted ||
		now_ns < watch->setup->note_ns)
		return;
	watch->noted = true;
	watch->setup->note(watch->setup->note_arg);
}

static void watch_loops(struct watch *watch)
{
	struct pollfd fds[2] = {{.fd = watch->done_fd, .events = POLLIN},
		{.fd = watch->setup->signal_fd, .events = POLLIN}};
	uint64_t ended = 0, count;

	while (ended < watch->setup->thread_count) {
		uint64_t now_ns, duration_ns = watch->setup->duration_ns;

		(void)poll(fds, 2, wait_ms(watch));
		if (read(watch->done_fd, &count, sizeof(count)) ==
			sizeof(count))
			ended += count;
		now_ns = mono_diff(mono_now(), watch->start);
		if (read_signal(watch) ||
			(duration_ns && now_ns >= duration_ns))
			atomic_store(&watch->stop, true);
		note(watch, now_ns);
		if (watch->setup->progress &&
			now_ns - watch->last_ns >=
				(watch->is_terminal ? 1 : 10) * NS_PER_S)
			print_progress(watch, false);
		else if (!watch->setup->progress)
			watch->last_ns = now_ns;
	}
	if (watch->setup->progress)
		print_progress(watch, true);
}

/* --- the loops ------------------------------------------------------------- */

static uint32_t share(uint32_t total, uint32_t index, uint32_t count)
{
	return total / count + (index < total % count ? 1 : 0);
}

static void set_worker(struct worker *worker, struct watch *watch, uint32_t i)
{
	const struct serve_run_setup *setup = watch->setup;
	uint32_t count = setup->thread_count;
	uint32_t connections = share(setup->connection_max, i, count);

	worker->done_fd = watch->done_fd;
	worker->setup =
		(struct serve_loop_setup){.address = setup->target->address,
			.address_bytes = setup->target->address_bytes,
			.plan = setup->plan,
			.first = i,
			.stride = count,
			.concurrency = share(setup->concurrency, i, count),
			.connection_max = connections ? connections : 1,
			.retry_max = setup->retry_max,
			.timeout_ns = setup->timeout_ns,
			.fresh = setup->fresh,
			.start = watch->start,
			.stop = &watch->stop,
			.live = &watch->lives[i]};
}

static int start_workers(
	struct watch *watch, struct worker *workers, struct error *err)
{
	for (uint32_t i = 0; i < watch->setup->thread_count; i++) {
		int rc;

		set_worker(&workers[i], watch, i);
		rc = pthread_create(
			&workers[i].thread, NULL, work, &workers[i]);
		if (rc) {
			atomic_store(&watch->stop, true);
			return error_set(err, rc, "thread: %s", strerror(rc));
		}
		workers[i].is_started = true;
	}
	return 0;
}

static void add_faults(
	struct serve_faults *sum, const struct serve_faults *part)
{
	for (int i = 0; i < SERVE_FAULT_COUNT; i++) {
		if (sum->counts[i] == 0)
			memcpy(sum->examples[i], part->examples[i],
				sizeof(sum->examples[i]));
		sum->counts[i] += part->counts[i];
	}
	for (size_t i = 0; i < sizeof(sum->statuses) / sizeof(sum->statuses[0]);
		i++)
		sum->statuses[i] += part->statuses[i];
}

static int join_workers(const struct watch *watch, struct worker *workers,
	struct serve_run *out, struct error *err)
{
	int rc = 0;

	for (uint32_t i = 0; i < watch->setup->thread_count; i++) {
		if (!workers[i].is_started)
			continue;
		pthread_join(workers[i].thread, NULL);
		add_faults(&out->faults, &workers[i].faults);
		if (workers[i].rc && rc == 0)
			rc = error_set(
				err, -workers[i].rc, "%s", workers[i].err.text);
	}
	return rc;
}

int serve_run(const struct serve_run_setup *setup, struct serve_run *out,
	struct error *err)
{
	struct watch watch = {.setup = setup, .is_terminal = isatty(2)};
	struct worker *workers = calloc(setup->thread_count, sizeof(*workers));
	int rc;

	assert(!setup->concurrency ||
		setup->concurrency >= setup->thread_count);
	memset(out, 0, sizeof(*out));
	watch.lives = calloc(setup->thread_count, sizeof(*watch.lives));
	watch.done_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (!workers || !watch.lives || watch.done_fd < 0) {
		rc = error_set(err, ENOMEM, "no memory for loops");
		goto out;
	}
	watch.start = mono_now();
	rc = start_workers(&watch, workers, err);
	if (rc == 0)
		watch_loops(&watch);
	if (join_workers(&watch, workers, out, err) && rc == 0)
		rc = err ? err->code : -EIO;
	out->waited = sum(&watch, offsetof(struct serve_live, waited));
	out->reconnects = sum(&watch, offsetof(struct serve_live, reconnects));
	out->retries = sum(&watch, offsetof(struct serve_live, retries));
	out->interrupted = watch.interrupted;
out:
	if (watch.done_fd >= 0)
		close(watch.done_fd);
	free(watch.lives);
	free(workers);
	return rc;
}
