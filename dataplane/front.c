/* front.c - the dataplane role: clients on one side, rings on the other */
/* SPDX-License-Identifier: Apache-2.0 */
#include <assert.h>
#include <errno.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <unistd.h>

#include "dataplane/front_private.h"

#define IDLE_WAIT_NS (50 * NS_PER_MS)
/*
 * To fall asleep and be woken costs dataplane and engine as much as a token of
 * a small model: with a core to itself the loop waits awake for work that
 * comes so soon.
 */
#define REST_SHORT_NS (500 * NS_PER_US)
#define REST_MAX_NS (8 * REST_SHORT_NS) /* counts as no more than that */
#define REST_SHARE 8 /* of the average is the last rest's 1/8 */
#define LINGER_NS (1 * NS_PER_S) /* for the last bytes at the end */

void front_clock(struct front *front)
{
	front->now_ns = mono_now().ns;
}

/* --- randomness ------------------------------------------------------------------ */

static void random_bytes(struct front *front, void *out, size_t length)
{
	assert(length <= sizeof(front->random));
	while (front->random_left < length) {
		ssize_t got =
			getrandom(front->random, sizeof(front->random), 0);

		/* Only a signal can come between at this size. */
		front->random_left = got > 0 ? (size_t)got : 0;
	}
	front->random_left -= length;
	memcpy(out, front->random + front->random_left, length);
}

uint64_t front_random(struct front *front)
{
	uint64_t value;

	random_bytes(front, &value, sizeof(value));
	return value;
}

void front_make_id(struct front *front, char out[33])
{
	static const char hex[] = "0123456789abcdef";
	uint8_t bytes[16];

	random_bytes(front, bytes, sizeof(bytes));
	for (size_t i = 0; i < sizeof(bytes); i++) {
		out[2 * i] = hex[bytes[i] >> 4];
		out[2 * i + 1] = hex[bytes[i] & 15];
	}
	out[32] = '\0';
}

/* --- life ------------------------------------------------------------------------- */

static int check_setup(const struct front_setup *setup, struct error *err)
{
	const struct front_limits *limits = &setup->limits;

	if (setup->model.name_count == 0 ||
		setup->model.name_count > FRONT_NAME_COUNT_MAX ||
		setup->model.vocab == 0 || setup->model.position_count < 2 ||
		setup->model.eos_count > FRONT_EOS_COUNT_MAX)
		return error_set(err, EINVAL, "the model's facts are wrong");
	if (setup->listener_count > FRONT_LISTENER_COUNT_MAX ||
		setup->key_count > FRONT_KEY_COUNT_MAX ||
		setup->text_worker_count == 0 ||
		setup->text_worker_count > FRONT_WORKER_COUNT_MAX)
		return error_set(err, EINVAL,
			"listeners, keys or text workers are out of bounds");
	if (!limits->connection_count || !limits->request_body_bytes ||
		!limits->pipelined_count || !limits->prompt_list_count ||
		!limits->output_default || !limits->header_bytes ||
		!limits->header_count)
		return error_set(err, EINVAL, "a limit is 0");
	if (limits->header_bytes > HTTP_HEAD_BYTES_MAX ||
		limits->header_count > HTTP_HEADER_COUNT_MAX)
		return error_set(err, EINVAL,
			"the limits of a head are above %d bytes, %d headers",
			HTTP_HEAD_BYTES_MAX, HTTP_HEADER_COUNT_MAX);
	return 0;
}

static int allocate(struct front *front, struct error *err)
{
	const struct segment_shape *shape = &front->segment->shape;
	const struct front_limits *limits = &front->setup.limits;
	uint64_t exchanges =
		(uint64_t)limits->connection_count * limits->pipelined_count +
		shape->slot_count;

	if (exchanges >= FRONT_NONE)
		return error_set(err, EINVAL,
			"connections times pipelined requests are too many");
	front->exchange_count = (uint32_t)exchanges;
	front->connections =
		calloc(limits->connection_count, sizeof(*front->connections));
	front->parsers =
		calloc(limits->connection_count, sizeof(*front->parsers));
	front->exchanges =
		calloc(front->exchange_count, sizeof(*front->exchanges));
	front->slots = calloc(shape->slot_count, sizeof(*front->slots));
	front->page_next = calloc(shape->page_count, sizeof(*front->page_next));
	front->zombie_pages =
		calloc(shape->page_count, sizeof(*front->zombie_pages));
	front->workers = aligned_alloc(CACHE_LINE_BYTES,
		front->setup.text_worker_count * sizeof(*front->workers));
	if (!front->connections || !front->parsers || !front->exchanges ||
		!front->slots || !front->page_next || !front->zombie_pages ||
		!front->workers)
		return error_set(err, ENOMEM, "no memory for the dataplane");
	return 0;
}

static void wake(void *arg)
{
	struct front *front = arg;

	front->loop.ops->wake(&front->loop);
}

static int start_workers(struct front *front, struct error *err)
{
	front->shared = (struct text_shared){.tok = front->tok,
		.chat = front->chat,
		.model = &front->setup.model,
		.limits = &front->start_limits,
		.segment = front->segment,
		.page_next = front->page_next,
		.bell = &front->bell,
		.wake = wake,
		.wake_arg = front,
		.awake = front->loop.spin_ns > 0};
	front->worker_count = front->setup.text_worker_count;
	memset(front->workers, 0,
		front->worker_count * sizeof(*front->workers));
	for (uint32_t i = 0; i < front->worker_count; i++) {
		int rc = text_worker_start(
			&front->workers[i].text, &front->shared, err);

		if (rc)
			return rc;
		front->worker_started++;
	}
	return 0;
}

static void begin(struct front *front, struct front_group *group,
	const struct front_setup *setup, const struct segment *segment)
{
	front->group = group;
	front->body_bytes_max =
		FRONT_BODY_TOTAL_BYTES / (group ? group->count : 1);
	front->setup = *setup;
	front->start_limits = setup->limits;
	front->http_limits = (struct http_limits){setup->limits.header_bytes,
		setup->limits.header_count, setup->limits.request_body_bytes};
	front->segment = segment;
	front->slot_share = segment_slot_share(segment);
	front->page_share = segment_page_share(segment);
	front->counters = segment_front_counters(segment);
	counter_set(&front->counters->connections_open, 0);
	front->beat = segment_beat(segment, ROLE_INDEX_FRONT);
	front->wake = segment_wake(segment, ROLE_INDEX_FRONT);
	front->parser_free = front->exchange_free = FRONT_NONE;
	front->dirty_slots = front->dirty_exchanges = FRONT_NONE;
	front->rest_ns = REST_MAX_NS;
	front_clock(front);
	front_timers_init(front);
	pthread_mutex_init(&front->reload_lock, NULL);
	pthread_mutex_init(&front->asks.lock, NULL);
}

static int create(struct front_group *group, const struct front_setup *setup,
	const struct segment *segment, front_opener *opener, struct front **out,
	struct error *err)
{
	struct front *front;
	int rc = check_setup(setup, err);

	*out = NULL;
	if (rc)
		return rc;
	front = aligned_alloc(CACHE_LINE_BYTES, sizeof(*front));
	if (!front)
		return error_set(err, ENOMEM, "no memory for the dataplane");
	memset(front, 0, sizeof(*front));
	begin(front, group, setup, segment);
	front_beat(front, BEAT_STARTING);
	rc = allocate(front, err);
	if (rc == 0)
		rc = front_rings_attach(front, err);
	if (rc == 0)
		rc = front_load_texts(front, err);
	if (rc == 0 && front_adopt(front) != 0)
		rc = error_set(err, ENOMEM, "no memory for the dataplane");
	if (rc == 0)
		rc = front_open_streams(front, opener, err);
	if (rc == 0)
		rc = start_workers(front, err);
	if (rc) {
		front_destroy(front);
		return rc;
	}
	*out = front;
	return 0;
}

int front_create_over(const struct front_setup *setup,
	const struct segment *segment, front_opener *opener, struct front **out,
	struct error *err)
{
	return create(NULL, setup, segment, opener, out, err);
}

int front_create_in(struct front_group *group, const struct front_setup *setup,
	const struct segment *view, struct front **out, struct error *err)
{
	return create(group, setup, view, stream_kernel_create, out, err);
}

int front_create(const struct front_setup *setup, const struct segment *segment,
	struct front **out, struct error *err)
{
	return front_create_over(
		setup, segment, stream_kernel_create, out, err);
}

static void release_exchanges(struct front *front)
{
	for (uint32_t i = 0; i < front->exchange_fresh; i++) {
		struct exchange *exchange = &front->exchanges[i];

		free(exchange->body);
		free(exchange->pending);
		text_request_destroy(exchange->text);
	}
}

void front_destroy(struct front *front)
{
	if (!front)
		return;
	for (uint32_t i = 0; i < front->worker_started; i++)
		while (!text_worker_try_stop(&front->workers[i].text)) {
			front_notes_drop(front);
			sched_yield();
		}
	front_notes_drop(front);
	/* Nobody wakes the loop any more. Its last events find the front. */
	if (front->loop.ops)
		front->loop.ops->destroy(&front->loop);
	capture_destroy(front->capture);
	if (front->exchanges)
		release_exchanges(front);
	for (uint32_t i = 0; i < front->worker_started; i++)
		text_worker_release(&front->workers[i].text);
	if (!front->borrows) {
		chat_template_free(front->chat);
		tokenizer_destroy(front->tok);
	}
	api_text_release(&front->page);
	free(front->connections);
	free(front->parsers);
	free(front->exchanges);
	free(front->slots);
	free(front->sweep);
	free(front->page_next);
	free(front->zombie_pages);
	free(front->workers);
	free(front->reload);
	pthread_mutex_destroy(&front->reload_lock);
	pthread_mutex_destroy(&front->asks.lock);
	free(front);
}

/* --- the loop ------------------------------------------------------------------------
 */

static void take_reload(struct front *front)
{
	struct front_setup *fresh;

	if (!__atomic_exchange_n(&front->reload_due, 0, __ATOMIC_ACQ_REL))
		return;
	pthread_mutex_lock(&front->reload_lock);
	fresh = front->reload;
	front->reload = NULL;
	pthread_mutex_unlock(&front->reload_lock);
	if (!fresh)
		return;
	front->setup.limits = fresh->limits;
	memcpy(front->setup.keys, fresh->keys, sizeof(fresh->keys));
	front->setup.key_count = fresh->key_count;
	/* Arrays were made for these. */
	front->setup.limits.connection_count =
		front->start_limits.connection_count;
	front->setup.limits.pipelined_count =
		front->start_limits.pipelined_count;
	free(fresh);
}

/* How long work lets itself be waited for: a moving average. */
static void note_rest(struct front *front)
{
	uint64_t rest_ns = front->now_ns - front->worked_ns;

	if (rest_ns > REST_MAX_NS)
		rest_ns = REST_MAX_NS;
	front->rest_ns =
		((REST_SHARE - 1) * front->rest_ns + rest_ns) / REST_SHARE;
}

/* So long after the last work we poll on. */
static uint64_t spin_ns(const struct front *front)
{
	if (front->loop.spin_ns > 0 || !front->setup.has_core)
		return front->loop.spin_ns;
	return front->rest_ns <= REST_SHORT_NS ? 2 * REST_SHORT_NS : 0;
}

static uint64_t wait_until(struct front *front, uint32_t work)
{
	if (work > 0) {
		if (front->rests)
			note_rest(front);
		front->worked_ns = front->now_ns;
	}
	front->rests = work == 0;
	/* A loop that polls on sees work first; nobody needs to wake us. */
	if (work > 0)
		return front->now_ns;
	if (front->now_ns - front->worked_ns < spin_ns(front)) {
		/* Text workers, or a client, may have this core only. */
		if (front->loop.spin_ns == 0)
			sched_yield();
		return front->now_ns;
	}
	return front_timers_next(front, front->now_ns + IDLE_WAIT_NS);
}

/*
 * Before a wait: workers and other roles are to wake us. What came before
 * they know that is seen now, not slept over.
 */
static uint32_t fall_asleep(struct front *front)
{
	text_bell_set(&front->bell);
	(void)wake_arm(front->wake);
	return front_rings_poll(front) + front_notes_poll(front);
}

static void wake_up(struct front *front)
{
	text_bell_clear(&front->bell);
	wake_disarm(front->wake);
}

uint32_t front_turn(struct front *front, struct mono until)
{
	bool sleeps = until.ns > front->now_ns;
	uint32_t work = 0;

	if (sleeps)
		work = fall_asleep(front);
	if (work > 0)
		until.ns = front->now_ns;
	work += front->loop.ops->poll(&front->loop, until);
	if (sleeps)
		wake_up(front);
	front_clock(front);
	work += front_rings_poll(front);
	front_help(front);
	work += front_notes_poll(front);
	work += front_retry(front);
	work += front_asks_poll(front);
	work += front_timers_run(front);
	front_strike(front);
	front_names_tell(front);
	front->turn_count++;
	if (front->now_ns - front->beat_ns >= FRONT_BEAT_NS)
		front_beat(front, BEAT_READY);
	if (__atomic_load_n(&front->reload_due, __ATOMIC_RELAXED))
		take_reload(front);
	return work;
}

static uint32_t stops(const struct front *front)
{
	return __atomic_load_n(&front->stop_count, __ATOMIC_ACQUIRE);
}

static void close_idle(struct front *front)
{
	for (uint32_t i = 0; i < front->start_limits.connection_count; i++)
		if (connection_is_idle(&front->connections[i]))
			connection_close(front, &front->connections[i]);
}

/* From here on nobody connects, and an answer ends its connection. */
static void stop_listening(struct front *front)
{
	front->ending = true;
	front->loop.ops->drain(&front->loop);
	close_idle(front);
}

/* No request is open, here nor, as far as they have said, in another loop. */
static bool all_quiet(const struct front *front)
{
	struct front_group *group = front->group;
	bool quiet = front->exchange_used == 0;

	if (!group)
		return quiet;
	__atomic_store_n(&group->open[front->segment->front],
		front->exchange_used, __ATOMIC_RELAXED);
	for (uint32_t i = 0; quiet && i < group->count; i++)
		quiet = __atomic_load_n(&group->open[i], __ATOMIC_RELAXED) == 0;
	return quiet;
}

/*
 * Turn until no request is open, and once we listen no more, no connection;
 * at most until `end_ns` or a second stop.
 */
static void drain_until(struct front *front, uint64_t end_ns, bool patient)
{
	uint32_t work = 0;

	while (front->now_ns < end_ns && !(patient && stops(front) > 1)) {
		if (front->ending
				? front->exchange_used == 0 &&
					  front->counters->connections_open == 0
				: all_quiet(front))
			return;
		work = front_turn(
			front, (struct mono){wait_until(front, work)});
	}
}

/* What is still there hears that it ends, then is cut off. */
static void end_all(struct front *front)
{
	for (uint32_t i = 0; i < front->exchange_fresh; i++)
		if (front->exchanges[i].used)
			exchange_fail(
				front, &front->exchanges[i], FINISH_CANCELLED);
	drain_until(front, front->now_ns + LINGER_NS, false);
	for (uint32_t i = 0; i < front->start_limits.connection_count; i++)
		connection_abort(front, &front->connections[i]);
	drain_until(front, front->now_ns + LINGER_NS, false);
}

static void drain(struct front *front)
{
	uint64_t end_ns = front->now_ns + front->setup.limits.drain_timeout_ns;

	front->draining = true;
	front_beat(front, BEAT_DRAINING);
	drain_until(front, end_ns, true);
	stop_listening(front);
	drain_until(front, end_ns, true);
}

int front_run(struct front *front, struct error *err)
{
	uint32_t work = 0;

	(void)err;
	front_clock(front);
	front_beat(front, BEAT_READY);
	while (stops(front) == 0)
		work = front_turn(
			front, (struct mono){wait_until(front, work)});
	drain(front);
	end_all(front);
	front_beat(front, BEAT_DRAINING);
	return 0;
}

void front_stop(struct front *front)
{
	__atomic_add_fetch(&front->stop_count, 1, __ATOMIC_ACQ_REL);
	front->loop.ops->wake(&front->loop);
}

int front_capture_start(struct front *front, int fd, uint64_t max_bytes,
	uint64_t serial, struct error *err)
{
	if (front->capture)
		return capture_start(
			front->capture, fd, max_bytes, serial, err);
	close(fd);
	return error_set(err, ENOTSUP, "there is no port of our own");
}

int front_capture_stop(struct front *front, struct error *err)
{
	if (front->capture)
		return capture_stop(front->capture, err);
	return error_set(err, ENOTSUP, "there is no port of our own");
}

int front_reload(
	struct front *front, const struct front_setup *setup, struct error *err)
{
	struct front_setup *copy;
	int rc = check_setup(setup, err);

	if (rc)
		return rc;
	copy = malloc(sizeof(*copy));
	if (!copy)
		return error_set(err, ENOMEM, "no memory for the new setup");
	rc = front_identify(front, setup, err);
	if (rc) {
		free(copy);
		return rc;
	}
	*copy = *setup;
	pthread_mutex_lock(&front->reload_lock);
	free(front->reload);
	front->reload = copy;
	pthread_mutex_unlock(&front->reload_lock);
	__atomic_store_n(&front->reload_due, 1, __ATOMIC_RELEASE);
	front->loop.ops->wake(&front->loop);
	return 0;
}
