/* text_worker.c - pairs of threads that do the text (jobs -> notes) */
/* SPDX-License-Identifier: Apache-2.0 */
#include <assert.h>
#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/prefetch.h"
#include "base/relax.h"
#include "dataplane/text_worker.h"

#define JOB_BYTES ((size_t)1 << 20)
#define OUT_NOTE_BYTES ((size_t)4 << 20)
#define IN_NOTE_BYTES ((size_t)1 << 17)
#define SLEEP_NS (100 * NS_PER_MS)
#define WAKE_JOBS 64
/*
 * Of these the notes are shown at once: a turn of the network thread costs as
 * much as an event, and else finds hardly more than one.
 */
#define SHOWN_JOBS 16
#define EVENT_BYTES ((size_t)65536) /* of one job's output, to begin with */
#define HELP_JOBS 8 /* a thread wakes up in the time of some ten */
#define HELP_TOKENS 4 /* of one job */
#define HELP_ROOM_BYTES ((size_t)1 << 20) /* far more than these can say */
/*
 * For so long the next job is waited for awake: about what it takes to be
 * woken. After a wait in vain not again for a hundred times as long.
 */
#define AWAKE_NS (60 * NS_PER_US)
#define AWAKE_AGAIN_NS (100 * AWAKE_NS)
#define IN_NICE 5 /* tokens of running streams go before new prompts */
#define LEAD_BYTES 192 /* what an event starts with, mostly */
#define TEMPLATE_SPARE_BYTES ((size_t)1 << 20)

struct text_request *text_request_create(
	enum api_route route, char *body, size_t body_length)
{
	struct text_request *request = calloc(1, sizeof(*request));

	if (!request)
		return NULL;
	request->route = route;
	request->body = body;
	request->body_length = body_length;
	return request;
}

void text_request_destroy(struct text_request *request)
{
	if (!request)
		return;
	for (uint32_t i = 0; i < request->choice_count; i++)
		api_text_release(&request->choices[i].text);
	free(request->choices);
	free(request->body);
	api_text_release(&request->reply);
	api_text_release(&request->lead);
	api_request_release(&request->api);
	free(request);
}

/* What was noted is seen from now on. */
static void wake_network(
	const struct text_shared *shared, struct text_ring *ring)
{
	text_ring_publish(ring);
	if (text_bell_take(shared->bell))
		shared->wake(shared->wake_arg);
}

void text_note(struct text_worker *worker, struct text_ring *ring,
	const struct text_message *message, const char *bytes)
{
	while (!text_ring_put(ring, message, bytes)) {
		wake_network(worker->shared, ring);
		sched_yield();
	}
}

/* A thread's own ends of what it shares with the network thread. */
struct ends {
	struct text_ring *jobs, *notes;
	struct text_bell *bell;
	pthread_mutex_t *turn; /* let go of while it sleeps; NULL: none */
	bool awake; /* it may wait so */
	uint64_t vain_ns; /* when it last did so in vain */
};

/* The next job if it comes soon, and soon enough of late; else NULL. */
static const struct text_message *await_job(struct ends *ends)
{
	const struct text_message *job;
	uint64_t from_ns, now_ns;

	if (!ends->awake)
		return NULL;
	from_ns = now_ns = mono_now().ns;
	if (ends->vain_ns && now_ns - ends->vain_ns < AWAKE_AGAIN_NS)
		return NULL;
	while (now_ns - from_ns < AWAKE_NS) {
		relax();
		job = text_ring_peek(ends->jobs);
		if (job)
			return job;
		now_ns = mono_now().ns;
	}
	ends->vain_ns = now_ns;
	return NULL;
}

/* The next job; waits. A pause is when the network thread has to know. */
static const struct text_message *next_job(
	const struct text_worker *worker, struct ends *ends)
{
	const struct text_message *job = text_ring_peek(ends->jobs);

	if (job)
		return job;
	wake_network(worker->shared, ends->notes);
	job = await_job(ends);
	if (job)
		return job;
	for (;;) {
		text_bell_set(ends->bell);
		job = text_ring_peek(ends->jobs);
		if (job)
			break;
		if (ends->turn)
			pthread_mutex_unlock(ends->turn);
		text_bell_wait(ends->bell, SLEEP_NS);
		if (ends->turn)
			pthread_mutex_lock(ends->turn);
	}
	text_bell_clear(ends->bell);
	return job;
}

static void *in_main(void *arg)
{
	struct text_worker *worker = arg;
	struct ends ends = {.jobs = &worker->in_jobs,
		.notes = &worker->in_notes,
		.bell = &worker->in_bell};
	struct text_message note = {.kind = TEXT_PARSED};

	(void)setpriority(PRIO_PROCESS, (id_t)syscall(SYS_gettid), IN_NICE);
	for (;;) {
		const struct text_message *job = next_job(worker, &ends);

		if (job->kind == TEXT_QUIT)
			return NULL;
		note.request = job->request;
		note.exchange = job->request->exchange;
		note.generation = job->request->generation;
		text_in_run(worker->shared, worker->scratch,
			worker->text_bytes_max, job->request);
		text_ring_pop(&worker->in_jobs);
		text_note(worker, &worker->in_notes, &note, NULL);
		/* One prompt may take long: its answer does not wait. */
		wake_network(worker->shared, ends.notes);
	}
}

/* Of the second job on the request, of the next one what that has named. */
static void look_ahead(
	const struct text_ring *jobs, const struct text_message *job)
{
	const struct text_message *next = text_ring_after(jobs, job);
	const struct text_request *request;

	if (!next || !(request = next->request))
		return;
	if (next->choice < request->choice_count) {
		const struct text_choice *c = &request->choices[next->choice];

		prefetch(c, offsetof(struct text_choice, detok.run));
		prefetch(&c->detok.partial_bytes,
			offsetof(struct detokenizer, text) -
				offsetof(struct detokenizer, partial_bytes) +
				CACHE_LINE_BYTES);
	}
	prefetch(request->lead.data, LEAD_BYTES);
	prefetch(&request->api.sampling, CACHE_LINE_BYTES);
	next = text_ring_after(jobs, next);
	if (next && next->request)
		prefetch(&next->request->reply,
			sizeof(*request) -
				offsetof(struct text_request, reply));
}

static void *out_main(void *arg)
{
	struct text_worker *worker = arg;
	struct ends ends = {.jobs = &worker->out_jobs,
		.notes = &worker->out_notes,
		.bell = &worker->out_bell,
		.turn = &worker->out_turn,
		.awake = worker->shared->awake};
	uint32_t count = 0;

	pthread_mutex_lock(&worker->out_turn);
	for (;;) {
		const struct text_message *job = next_job(worker, &ends);

		if (job->kind == TEXT_QUIT)
			break;
		look_ahead(&worker->out_jobs, job);
		text_out_run(worker, job);
		text_ring_pop(&worker->out_jobs);
		/* In a long burst the first tokens do not wait for the last. */
		if (++count % WAKE_JOBS == 0)
			wake_network(worker->shared, ends.notes);
		else if (count % SHOWN_JOBS == 0)
			text_ring_publish(ends.notes);
	}
	text_ring_publish(ends.notes);
	pthread_mutex_unlock(&worker->out_turn);
	return NULL;
}

/* Its notes are few and small, whatever becomes of it. */
static bool is_small(const struct text_message *job)
{
	const struct text_request *request = job->request;
	const struct text_choice *choice;

	if (job->kind != TEXT_TOKENS || !request->api.sampling.stream ||
		request->api.sampling.want_logprob ||
		job->choice >= request->choice_count)
		return false;
	choice = &request->choices[job->choice];
	return job->value - choice->done_count <= HELP_TOKENS;
}

bool text_worker_help(struct text_worker *worker)
{
	const struct text_message *job = NULL;

	if (pthread_mutex_trylock(&worker->out_turn))
		return false;
	for (uint32_t i = 0; i < HELP_JOBS; i++) {
		job = text_ring_peek(&worker->out_jobs);
		if (!job || !is_small(job) ||
			!text_ring_has_room(
				&worker->out_notes, HELP_ROOM_BYTES))
			break;
		text_out_run(worker, job);
		text_ring_pop(&worker->out_jobs);
	}
	job = text_ring_peek(&worker->out_jobs);
	text_ring_publish(&worker->out_notes);
	pthread_mutex_unlock(&worker->out_turn);
	return !job;
}

static int make_rings(struct text_worker *worker)
{
	int rc = text_ring_init(&worker->in_jobs, JOB_BYTES);

	if (rc == 0)
		rc = text_ring_init(&worker->in_notes, IN_NOTE_BYTES);
	if (rc == 0)
		rc = text_ring_init(&worker->out_jobs, JOB_BYTES);
	if (rc == 0)
		rc = text_ring_init(&worker->out_notes, OUT_NOTE_BYTES);
	return rc;
}

static int make_scratch(struct text_worker *worker)
{
	size_t body = worker->shared->limits->request_body_bytes;
	size_t most = 2 * body + TEMPLATE_SPARE_BYTES;

	worker->text_bytes_max = most < TOKENIZER_TEXT_BYTES_MAX
					 ? most
					 : TOKENIZER_TEXT_BYTES_MAX;
	return tokenizer_scratch_create(
		worker->shared->tok, worker->text_bytes_max, &worker->scratch);
}

/* Signals are the main thread's; but each gives up its privileges by this one
 * (control/role_drop.h). */
static int start_threads(struct text_worker *worker)
{
	sigset_t all, before;
	int rc;

	sigfillset(&all);
	sigdelset(&all, SIGRTMIN);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	rc = pthread_create(&worker->in_thread, NULL, in_main, worker);
	worker->in_started = rc == 0;
	if (rc == 0) {
		rc = pthread_create(
			&worker->out_thread, NULL, out_main, worker);
		worker->out_started = rc == 0;
	}
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	return -rc;
}

int text_worker_start(struct text_worker *worker,
	const struct text_shared *shared, struct error *err)
{
	int rc;

	*worker = (struct text_worker){.shared = shared};
	pthread_mutex_init(&worker->out_turn, NULL);
	rc = make_rings(worker);
	if (rc == 0)
		rc = make_scratch(worker);
	if (rc == 0 && !api_text_reserve(&worker->event, EVENT_BYTES))
		rc = -ENOMEM;
	if (rc == 0)
		rc = start_threads(worker);
	if (rc == 0)
		return 0;
	while (!text_worker_try_stop(worker))
		sched_yield();
	text_worker_release(worker);
	return error_set(err, -rc, "a text worker cannot start");
}

/* True when the thread has ended; tells it to, once. */
static bool end_thread(pthread_t thread, bool *told, struct text_ring *jobs,
	struct text_bell *bell)
{
	const struct text_message message = {.kind = TEXT_QUIT};

	if (!*told) {
		*told = text_ring_push(jobs, &message, NULL);
		text_bell_strike(bell);
	}
	return *told && pthread_tryjoin_np(thread, NULL) == 0;
}

bool text_worker_try_stop(struct text_worker *worker)
{
	if (worker->in_started &&
		end_thread(worker->in_thread, &worker->in_told,
			&worker->in_jobs, &worker->in_bell))
		worker->in_started = false;
	if (worker->out_started &&
		end_thread(worker->out_thread, &worker->out_told,
			&worker->out_jobs, &worker->out_bell))
		worker->out_started = false;
	return !worker->in_started && !worker->out_started;
}

void text_worker_release(struct text_worker *worker)
{
	assert(!worker->in_started && !worker->out_started);
	pthread_mutex_destroy(&worker->out_turn);
	tokenizer_scratch_destroy(worker->scratch);
	api_text_release(&worker->event);
	text_ring_release(&worker->in_jobs);
	text_ring_release(&worker->in_notes);
	text_ring_release(&worker->out_jobs);
	text_ring_release(&worker->out_notes);
	*worker = (struct text_worker){0};
}
