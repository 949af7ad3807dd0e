/* stream_tls.c - TLS 1.3 over any byte stream (stream.h <- stream.h) */
/* SPDX-License-Identifier: Apache-2.0 */
#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "dataplane/stream_tls_private.h"

#define PLACE_COUNT_MAX 4096 /* ready ciphers, 1.2 KB each */
#define BURST_COUNT 256 /* handler calls of what was asked for again */
#define UNIT_COUNT_MIN 64 /* so many streams never wait for each other */

/* --- streams ------------------------------------------------------------------ */

uint32_t tls_index(const struct stream_tls *t, const struct tls_stream *s)
{
	return (uint32_t)(s - t->streams);
}

struct stream_id tls_id(const struct stream_tls *t, const struct tls_stream *s)
{
	return (struct stream_id){tls_index(t, s), s->generation};
}

size_t tls_emit(struct stream_tls *t, const struct tls_stream *s,
	struct stream_event *event)
{
	event->id = tls_id(t, s);
	t->event_count++;
	return t->handler(t->arg, event);
}

static struct tls_stream_list *list_of(
	struct stream_tls *t, enum tls_queue queue)
{
	return queue == TLS_ON_AGAIN ? &t->again : &t->starved;
}

void tls_queue_set(
	struct stream_tls *t, struct tls_stream *s, enum tls_queue queue)
{
	if (s->queue == queue)
		return;
	if (s->queue != TLS_ON_NONE)
		TAILQ_REMOVE(list_of(t, (enum tls_queue)s->queue), s, link);
	if (queue != TLS_ON_NONE)
		TAILQ_INSERT_TAIL(list_of(t, queue), s, link);
	s->queue = (uint8_t)queue;
}

void tls_wait(struct stream_tls *t, struct tls_stream *s)
{
	if (s->waits)
		return;
	s->waits = true;
	s->deadline_ns = mono_now().ns + t->patience_ns;
	TAILQ_INSERT_TAIL(&t->waiting, s, wait_link);
}

void tls_wait_end(struct stream_tls *t, struct tls_stream *s)
{
	if (s->waits)
		TAILQ_REMOVE(&t->waiting, s, wait_link);
	s->waits = false;
}

/* NULL: dead, never was, or not known above. */
static struct tls_stream *find(const struct stream_tls *t, struct stream_id id)
{
	struct tls_stream *s;

	if (id.index >= t->limits.stream_count)
		return NULL;
	s = &t->streams[id.index];
	return s->opened && s->generation == id.generation ? s : NULL;
}

/* Nothing of its keys is left, nor of what it has sent. */
static void forget(struct stream_tls *t, struct tls_stream *s)
{
	if (s->record.in.key.suite != 0)
		tls_aead_forget(t->aead, tls_index(t, s), &s->record.in.key,
			&s->record.out.key);
	tls_record_wipe(&s->record);
	tls_handshake_destroy(s->handshake);
	s->handshake = NULL;
}

/* --- what the handshake reaches ----------------------------------------------- */

static size_t pipe_take(void *arg, uint8_t *to, size_t size)
{
	struct stream_tls *t = arg;

	if (size > t->view_length)
		size = t->view_length;
	if (size == 0)
		return 0;
	memcpy(to, t->view, size);
	t->view += size;
	t->view_length -= size;
	return size;
}

static size_t pipe_put(void *arg, const uint8_t *from, size_t size)
{
	struct stream_tls *t = arg;
	struct stream_id id = tls_id(t, t->turned);
	struct stream_segment segment = {from, size, false};
	size_t room = t->below.ops->room(&t->below, id);

	if (segment.length > room)
		segment.length = room;
	if (segment.length == 0 ||
		t->below.ops->send(&t->below, id, &segment, 1))
		return 0;
	return segment.length;
}

/* --- events of the loop below ------------------------------------------------- */

static void take_identity(struct stream_tls *t)
{
	struct tls_context *fresh = atomic_exchange(&t->fresh, NULL);

	if (!fresh)
		return;
	tls_context_destroy(t->context);
	t->context = fresh;
}

static void opened(struct stream_tls *t, struct tls_stream *s,
	const struct stream_event *event)
{
	const struct tls_pipe pipe = {pipe_take, pipe_put, t};

	assert(s->state == TLS_IS_FREE);
	*s = (struct tls_stream){.generation = event->id.generation,
		.state = TLS_IS_PLAIN,
		.unit = UNIT_NONE,
		.peer = event->peer,
		.listener = (uint8_t)event->listener};
	if (!(t->listeners & 1u << event->listener)) {
		s->opened = true;
		t->handler(t->arg, event);
		return;
	}
	take_identity(t);
	s->state = TLS_IS_HANDSHAKING;
	s->handshake = tls_handshake_create(t->context, &pipe);
	if (s->handshake)
		tls_wait(t, s);
	else
		tls_output_abort(t, s);
}

static void closed(struct stream_tls *t, struct tls_stream *s,
	const struct stream_event *event)
{
	struct stream_event copy = *event;
	bool told = s->opened;

	tls_queue_set(t, s, TLS_ON_NONE);
	tls_wait_end(t, s);
	tls_input_drop(t, s);
	if (s->state != TLS_IS_PLAIN)
		forget(t, s);
	if (s->failed)
		copy.end = STREAM_END_RESET;
	s->state = TLS_IS_FREE;
	s->opened = false;
	if (told)
		tls_emit(t, s, &copy);
}

/* There is room below; also for what is wanted? */
static void writable(struct stream_tls *t, struct tls_stream *s)
{
	struct stream_event event = {.kind = STREAM_WRITABLE};
	bool rest = s->rest;

	if (s->state == TLS_IS_HANDSHAKING) {
		(void)tls_input(t, s, NULL, 0);
		s->rest = rest;
		if (rest && s->state != TLS_IS_ENDING)
			(void)t->below.ops->resume(&t->below, tls_id(t, s));
	} else if (s->want > 0 && tls_output_room(t, s) >= s->want) {
		s->want = 0;
		tls_emit(t, s, &event);
	} else if (s->want > 0) {
		(void)t->below.ops->want(
			&t->below, tls_id(t, s), tls_output_sealed(s->want));
	}
}

size_t stream_tls_event(void *arg, const struct stream_event *event)
{
	struct stream_tls *t = arg;
	struct tls_stream *s = &t->streams[event->id.index];

	assert(event->id.index < t->limits.stream_count);
	assert(event->kind == STREAM_OPENED ||
		(s->state != TLS_IS_FREE &&
			s->generation == event->id.generation));
	if (event->kind == STREAM_OPENED) {
		opened(t, s, event);
	} else if (event->kind == STREAM_CLOSED) {
		closed(t, s, event);
	} else if (s->state == TLS_IS_PLAIN) {
		t->event_count++;
		return t->handler(t->arg, event);
	} else if (s->state == TLS_IS_ENDING) {
		return event->kind == STREAM_DATA ? event->length : 0;
	} else if (event->kind == STREAM_DATA) {
		return tls_input(t, s, event->data, event->length);
	} else if (event->kind == STREAM_WRITABLE) {
		writable(t, s);
	} else {
		tls_input_peer_done(t, s);
	}
	return 0;
}

/* --- a turn ------------------------------------------------------------------- */

static void expire(struct stream_tls *t)
{
	struct tls_stream *s = TAILQ_FIRST(&t->waiting);
	uint64_t now_ns = s ? mono_now().ns : 0;

	for (; s && s->deadline_ns <= now_ns; s = TAILQ_FIRST(&t->waiting))
		tls_output_abort(t, s);
}

/* Who has asked before this turn; what asks meanwhile is next. */
static void run_again(struct stream_tls *t)
{
	struct tls_stream *last = TAILQ_LAST(&t->again, tls_stream_list), *s;

	while (last && (s = TAILQ_FIRST(&t->again)) &&
		t->event_count < BURST_COUNT) {
		tls_queue_set(t, s, TLS_ON_NONE);
		tls_input_again(t, s);
		if (s == last)
			break;
	}
}

static void feed_starved(struct stream_tls *t)
{
	struct tls_stream *s;

	if (!t->returned)
		return;
	t->returned = false;
	while ((s = TAILQ_FIRST(&t->starved))) {
		tls_queue_set(t, s, TLS_ON_NONE);
		(void)t->below.ops->resume(&t->below, tls_id(t, s));
	}
}

static uint32_t tls_poll(struct stream_loop *loop, struct mono until)
{
	struct stream_tls *t = loop->context;
	const struct tls_stream *s;
	uint32_t count;

	t->event_count = 0;
	expire(t);
	run_again(t);
	feed_starved(t);
	count = t->event_count;
	s = TAILQ_FIRST(&t->waiting);
	if (s && s->deadline_ns < until.ns)
		until.ns = s->deadline_ns;
	if (count > 0 || !TAILQ_EMPTY(&t->again))
		until.ns = 0;
	return count + t->below.ops->poll(&t->below, until);
}

/* --- what handlers and the caller do ------------------------------------------ */

static int tls_send(struct stream_loop *loop, struct stream_id id,
	const struct stream_segment *segments, uint32_t count)
{
	struct stream_tls *t = loop->context;
	struct tls_stream *s = find(t, id);

	if (!s)
		return -ENOTCONN;
	if (s->state == TLS_IS_PLAIN)
		return t->below.ops->send(&t->below, id, segments, count);
	return s->state == TLS_IS_OPEN ? tls_output_send(t, s, segments, count)
				       : -ENOTCONN;
}

static size_t tls_room(const struct stream_loop *loop, struct stream_id id)
{
	const struct stream_tls *t = loop->context;
	const struct tls_stream *s = find(t, id);

	if (!s)
		return 0;
	if (s->state == TLS_IS_PLAIN)
		return t->below.ops->room(&t->below, id);
	return s->state == TLS_IS_OPEN ? tls_output_room(t, s) : 0;
}

static int tls_want(struct stream_loop *loop, struct stream_id id, size_t want)
{
	struct stream_tls *t = loop->context;
	struct tls_stream *s = find(t, id);

	if (s && s->state == TLS_IS_PLAIN)
		return t->below.ops->want(&t->below, id, want);
	if (!s || s->state != TLS_IS_OPEN)
		return -ENOTCONN;
	if (want > tls_output_plain(t->limits.send_bytes + TLS_SLACK_BYTES))
		return -EMSGSIZE;
	s->want = (uint32_t)want;
	return t->below.ops->want(
		&t->below, id, want > 0 ? tls_output_sealed(want) : 0);
}

static int tls_resume(struct stream_loop *loop, struct stream_id id)
{
	struct stream_tls *t = loop->context;
	struct tls_stream *s = find(t, id);

	if (s && s->state == TLS_IS_PLAIN)
		return t->below.ops->resume(&t->below, id);
	if (!s || s->state != TLS_IS_OPEN)
		return -ENOTCONN;
	s->stalled = false;
	tls_queue_set(t, s, TLS_ON_AGAIN);
	return 0;
}

static int tls_close(struct stream_loop *loop, struct stream_id id)
{
	struct stream_tls *t = loop->context;
	struct tls_stream *s = find(t, id);

	if (!s)
		return -ENOTCONN;
	if (s->state == TLS_IS_PLAIN)
		return t->below.ops->close(&t->below, id);
	if (s->state == TLS_IS_OPEN)
		tls_output_end(t, s, TLS_ALERT_CLOSE_NOTIFY);
	return 0;
}

static int tls_abort(struct stream_loop *loop, struct stream_id id)
{
	struct stream_tls *t = loop->context;
	struct tls_stream *s = find(t, id);

	if (!s)
		return -ENOTCONN;
	if (s->state == TLS_IS_PLAIN)
		return t->below.ops->abort(&t->below, id);
	tls_output_abort(t, s);
	return 0;
}

static void tls_drain(struct stream_loop *loop)
{
	struct stream_tls *t = loop->context;

	t->below.ops->drain(&t->below);
}

static int tls_identify(struct stream_loop *loop,
	const struct stream_identity *identity, struct error *err)
{
	struct stream_tls *t = loop->context;
	struct tls_context *fresh;
	int rc = tls_context_create(identity->certificate,
		identity->certificate_length, identity->key,
		identity->key_length, &fresh, err);

	if (rc)
		return rc;
	/* One that was not yet taken up has no handshake. */
	tls_context_destroy(atomic_exchange(&t->fresh, fresh));
	return 0;
}

static void tls_wake(struct stream_loop *loop)
{
	struct stream_tls *t = loop->context;

	t->below.ops->wake(&t->below);
}

static void discard(struct stream_tls *t)
{
	tls_context_destroy(t->context);
	tls_context_destroy(atomic_load(&t->fresh));
	tls_aead_destroy(t->aead);
	if (t->pool.memory)
		unit_pool_release(&t->pool);
	free(t->sealed);
	free(t->scratch);
	free(t->streams);
	free(t);
}

static void tls_destroy(struct stream_loop *loop)
{
	struct stream_tls *t = loop->context;

	if (!t)
		return;
	t->below.ops->destroy(&t->below);
	for (uint32_t i = 0; i < t->limits.stream_count; i++)
		if (t->streams[i].state > TLS_IS_PLAIN)
			forget(t, &t->streams[i]);
	discard(t);
	*loop = (struct stream_loop){0};
}

/* --- create ------------------------------------------------------------------- */

static struct stream_limits limits_below(const struct stream_limits *above)
{
	struct stream_limits limits = *above;

	limits.send_bytes += TLS_SLACK_BYTES;
	return limits;
}

static int make_tables(struct stream_tls *t, struct error *err)
{
	const struct stream_limits *l = &t->limits;
	size_t unit_bytes =
		(l->receive_bytes + TLS_RECORD_SEALED_BYTES_MAX + 7) / 8 * 8;
	size_t units = l->total_bytes / 4 / unit_bytes;
	uint32_t places = l->stream_count < PLACE_COUNT_MAX ? l->stream_count
							    : PLACE_COUNT_MAX;
	int rc;

	if (units < UNIT_COUNT_MIN)
		units = UNIT_COUNT_MIN;
	if (units > l->stream_count)
		units = l->stream_count;
	t->streams = calloc(l->stream_count, sizeof(*t->streams));
	t->scratch = malloc(TLS_RECORD_SEALED_BYTES_MAX);
	t->sealed = malloc(tls_output_sealed(l->send_bytes));
	rc = t->streams && t->scratch && t->sealed ? 0 : -ENOMEM;
	if (rc == 0)
		rc = tls_aead_create(places, &t->aead);
	if (rc == 0)
		rc = unit_pool_init(
			&t->pool, (uint32_t)unit_bytes, (uint32_t)units);
	return rc ? error_set(err, ENOMEM, "TLS: no memory for %u streams",
			    l->stream_count)
		  : 0;
}

static int create(const struct stream_tls_config *config,
	struct stream_tls **out, struct error *err)
{
	const struct stream_identity *who = &config->identity;
	struct stream_tls *t;
	int rc;

	if (config->limits.stream_count == 0 ||
		config->limits.receive_bytes > UINT32_MAX / 2)
		return error_set(err, EINVAL, "TLS: no streams, or too large");
	t = calloc(1, sizeof(*t));
	if (!t)
		return error_set(err, ENOMEM, "TLS: no memory");
	t->limits = config->limits;
	t->listeners = config->listeners;
	t->handler = config->handler;
	t->arg = config->arg;
	t->patience_ns = config->limits.user_timeout_ns < TLS_PATIENCE_NS
				 ? config->limits.user_timeout_ns
				 : TLS_PATIENCE_NS;
	TAILQ_INIT(&t->again);
	TAILQ_INIT(&t->starved);
	TAILQ_INIT(&t->waiting);
	rc = tls_context_create(who->certificate, who->certificate_length,
		who->key, who->key_length, &t->context, err);
	if (rc == 0)
		rc = make_tables(t, err);
	if (rc) {
		discard(t);
		return rc;
	}
	*out = t;
	return 0;
}

static const struct stream_ops stream_tls_ops = {
	.poll = tls_poll,
	.send = tls_send,
	.room = tls_room,
	.want = tls_want,
	.resume = tls_resume,
	.close = tls_close,
	.abort = tls_abort,
	.drain = tls_drain,
	.identify = tls_identify,
	.wake = tls_wake,
	.destroy = tls_destroy,
};

static void join(struct stream_tls *t, const struct stream_loop *below,
	struct stream_loop *out)
{
	t->below = *below;
	t->ops = stream_tls_ops;
	t->ops.name = below->ops->name;
	*out = (struct stream_loop){
		.ops = &t->ops, .context = t, .spin_ns = below->spin_ns};
}

int stream_tls_over(const struct stream_tls_config *config,
	stream_tls_maker *make, const void *of, struct stream_loop *out,
	struct error *err)
{
	struct stream_limits limits = limits_below(&config->limits);
	struct stream_loop below;
	struct stream_tls *t = NULL;
	int rc = create(config, &t, err);

	if (rc)
		return rc;
	assert(t);
	rc = make(of, &limits, t, &below, err);
	if (rc)
		discard(t);
	else
		join(t, &below, out);
	return rc;
}

const struct stream_loop *stream_tls_below(const struct stream_loop *loop)
{
	const struct stream_tls *t = loop->context;

	return loop->ops->poll == stream_tls_ops.poll ? &t->below : loop;
}
