/* stream_tls_input.c - bytes in (the loop below -> records -> handler) */
/* SPDX-License-Identifier: Apache-2.0 */
#include <assert.h>
#include <string.h>

#include "dataplane/stream_tls_private.h"

static size_t less(size_t a, size_t b)
{
	return a < b ? a : b;
}

/* --- what is held ------------------------------------------------------------- */

static uint8_t *held_bytes(
	const struct stream_tls *t, const struct tls_stream *s)
{
	return unit_pool_bytes(&t->pool, s->unit);
}

/* Something for the stream is needed of which there is none now. */
static void starve(struct stream_tls *t, struct tls_stream *s)
{
	tls_queue_set(t, s, TLS_ON_STARVED);
	tls_wait(t, s);
}

static bool hold(struct stream_tls *t, struct tls_stream *s)
{
	assert(s->unit == UNIT_NONE);
	s->unit = unit_pool_get(&t->pool);
	s->start = s->end = s->part = 0;
	return s->unit != UNIT_NONE;
}

void tls_input_drop(struct stream_tls *t, struct tls_stream *s)
{
	if (s->unit == UNIT_NONE)
		return;
	unit_pool_put(&t->pool, s->unit);
	s->unit = UNIT_NONE;
	s->start = s->end = s->part = 0;
	t->returned = true;
}

static void compact(struct stream_tls *t, struct tls_stream *s)
{
	uint8_t *bytes = held_bytes(t, s);

	if (s->start == 0)
		return;
	memmove(bytes, bytes + s->start, s->end - s->start + s->part);
	s->end -= s->start;
	s->start = 0;
}

/* --- plain bytes, to the handler ---------------------------------------------- */

/*
 * No more at a time than the layer above has asked for; what was not consumed
 * of one view is shown again with what follows, and that may be there already.
 * Returns the bytes consumed.
 */
static size_t offer(struct stream_tls *t, struct tls_stream *s,
	const uint8_t *plain, size_t length)
{
	struct stream_event event = {.kind = STREAM_DATA};
	size_t at = 0, taken;

	do {
		event.data = plain + at;
		event.length = less(length - at, t->limits.receive_bytes);
		taken = tls_emit(t, s, &event);
		assert(taken <= event.length);
		at += taken;
		if (s->state != TLS_IS_OPEN)
			return at;
		s->stalled = taken == 0;
	} while (at < length && taken == event.length);
	if (!s->stalled && length - at > event.length - taken)
		tls_queue_set(t, s, TLS_ON_AGAIN);
	return at;
}

static void offer_held(struct stream_tls *t, struct tls_stream *s)
{
	size_t taken =
		offer(t, s, held_bytes(t, s) + s->start, s->end - s->start);

	if (s->state != TLS_IS_OPEN)
		return;
	s->start += (uint32_t)taken;
	if (s->start == s->end && s->part == 0)
		tls_input_drop(t, s);
}

/*
 * What the handler leaves is held; where nothing can hold it the record is
 * not taken, and comes again. false: so it is.
 */
static bool offer_scratch(
	struct stream_tls *t, struct tls_stream *s, size_t length)
{
	uint32_t skip = s->skip;
	const uint8_t *rest;
	size_t left;

	s->skip = 0;
	rest = t->scratch + skip;
	rest += offer(t, s, rest, length - skip);
	left = (size_t)(t->scratch + length - rest);
	if (s->state != TLS_IS_OPEN || left == 0)
		return true;
	if (hold(t, s)) {
		memcpy(held_bytes(t, s), rest, left);
		s->end = (uint32_t)left;
		return true;
	}
	s->skip = (uint32_t)(length - left);
	tls_record_undo(&s->record);
	/* One that has consumed nothing says itself when to go on. */
	if (!s->stalled)
		starve(t, s);
	return false;
}

static void tell_peer_done(struct stream_tls *t, struct tls_stream *s)
{
	struct stream_event event = {.kind = STREAM_PEER_DONE};

	if (s->peer_done || s->state != TLS_IS_OPEN)
		return;
	s->peer_done = true;
	tls_emit(t, s, &event);
}

/* A record that has no data for the handler. */
static void take_end(struct stream_tls *t, struct tls_stream *s,
	enum tls_record_result result, enum tls_alert alert)
{
	if (result == TLS_RECORD_CLOSED) {
		s->in_done = true;
		if (s->start == s->end)
			tls_input_drop(t, s);
		tell_peer_done(t, s);
		return;
	}
	s->failed = true;
	tls_output_end(t, s, alert);
}

/* --- records ------------------------------------------------------------------ */

/* The beginning of a record, to be held. */
static size_t keep_part(struct stream_tls *t, struct tls_stream *s,
	const uint8_t *view, size_t length)
{
	if (s->unit == UNIT_NONE && !hold(t, s)) {
		starve(t, s);
		return 0;
	}
	memcpy(held_bytes(t, s) + s->end, view, length);
	s->part = (uint32_t)length;
	return length;
}

/* A record that comes whole; the bytes taken of the view. */
static size_t take_whole(struct stream_tls *t, struct tls_stream *s,
	const uint8_t *view, size_t length)
{
	bool held = s->unit != UNIT_NONE;
	uint8_t *to = held ? held_bytes(t, s) + s->end : t->scratch;
	struct tls_opened o;
	enum tls_record_result result =
		tls_record_open(&s->record, t->aead, view, length, to, &o);

	if (result == TLS_RECORD_MORE)
		return keep_part(t, s, view, length);
	if (result != TLS_RECORD_DATA) {
		take_end(t, s, result, o.alert);
		return length;
	}
	if (o.length == 0)
		return o.taken;
	if (!held)
		return offer_scratch(t, s, o.length) ? o.taken : 0;
	s->end += (uint32_t)o.length;
	offer_held(t, s);
	return o.taken;
}

/* What is missing of a record that has begun; the bytes taken of the view. */
static size_t take_part(struct stream_tls *t, struct tls_stream *s,
	const uint8_t *view, size_t length)
{
	uint8_t *record = held_bytes(t, s) + s->end;
	uint8_t *inner = record + TLS_RECORD_HEADER_BYTES;
	enum tls_record_result result;
	struct tls_opened o;
	size_t used = 0;

	for (;;) {
		size_t more;

		result = tls_record_open(
			&s->record, t->aead, record, s->part, inner, &o);
		if (result != TLS_RECORD_MORE)
			break;
		more = less(o.need - s->part, length - used);
		if (more == 0)
			return used;
		memcpy(record + s->part, view + used, more);
		s->part += (uint32_t)more;
		used += more;
	}
	s->part = 0;
	if (result != TLS_RECORD_DATA) {
		take_end(t, s, result, o.alert);
		return length;
	}
	memmove(record, inner, o.length);
	s->end += (uint32_t)o.length;
	if (o.length > 0)
		offer_held(t, s);
	else if (s->start == s->end)
		tls_input_drop(t, s);
	return used;
}

/* May a record be opened? */
static bool takes(const struct stream_tls *t, const struct tls_stream *s)
{
	return s->state == TLS_IS_OPEN && !s->stalled && !s->in_done &&
	       s->queue != TLS_ON_STARVED &&
	       s->end - s->start < t->limits.receive_bytes;
}

static size_t take(struct stream_tls *t, struct tls_stream *s,
	const uint8_t *view, size_t length)
{
	if (s->unit != UNIT_NONE)
		compact(t, s);
	return s->part > 0 ? take_part(t, s, view, length)
			   : take_whole(t, s, view, length);
}

/* --- the handshake ------------------------------------------------------------ */

static void open_stream(struct stream_tls *t, struct tls_stream *s)
{
	struct stream_event event = {.kind = STREAM_OPENED,
		.peer = s->peer,
		.listener = s->listener};

	tls_handshake_destroy(s->handshake);
	s->handshake = NULL;
	tls_wait_end(t, s);
	s->state = TLS_IS_OPEN;
	s->opened = true;
	tls_emit(t, s, &event);
}

static size_t shake_hands(struct stream_tls *t, struct tls_stream *s,
	const uint8_t *view, size_t length)
{
	size_t flight = less(TLS_FLIGHT_BYTES, t->limits.send_bytes);
	enum tls_handshake_result result;

	t->turned = s;
	t->view = view;
	t->view_length = length;
	result = tls_handshake_turn(s->handshake, &s->record);
	t->turned = NULL;
	if (result == TLS_HANDSHAKE_DONE)
		open_stream(t, s);
	else if (result == TLS_HANDSHAKE_FULL)
		(void)t->below.ops->want(&t->below, tls_id(t, s), flight);
	else if (result == TLS_HANDSHAKE_FAILED)
		tls_output_end(t, s, TLS_ALERT_NONE);
	return length - t->view_length;
}

/* --- the whole ---------------------------------------------------------------- */

size_t tls_input(struct stream_tls *t, struct tls_stream *s,
	const uint8_t *view, size_t length)
{
	size_t used = 0;

	if (s->state == TLS_IS_HANDSHAKING)
		used = shake_hands(t, s, view, length);
	while (used < length && takes(t, s)) {
		size_t taken = take(t, s, view + used, length - used);

		if (taken == 0)
			break;
		used += taken;
	}
	if (s->state == TLS_IS_ENDING || s->in_done)
		used = length;
	s->rest = used < length;
	if (s->state == TLS_IS_OPEN && s->queue != TLS_ON_STARVED)
		tls_wait_end(t, s);
	if (s->below_done && !s->rest)
		tell_peer_done(t, s);
	return used;
}

void tls_input_again(struct stream_tls *t, struct tls_stream *s)
{
	if (s->unit != UNIT_NONE && s->start < s->end)
		offer_held(t, s);
	if (s->state == TLS_IS_OPEN && !s->stalled && s->rest)
		(void)t->below.ops->resume(&t->below, tls_id(t, s));
}

void tls_input_peer_done(struct stream_tls *t, struct tls_stream *s)
{
	s->below_done = true;
	if (s->state == TLS_IS_HANDSHAKING)
		tls_output_end(t, s, TLS_ALERT_NONE);
	else if (s->queue != TLS_ON_STARVED)
		tell_peer_done(t, s);
}
