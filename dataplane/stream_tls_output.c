/* stream_tls_output.c - bytes out (handler -> records -> the loop below) */
/* SPDX-License-Identifier: Apache-2.0 */
#include <assert.h>
#include <errno.h>
#include <string.h>

#include "dataplane/stream_tls_private.h"

static size_t less(size_t a, size_t b)
{
	return a < b ? a : b;
}

size_t tls_output_plain(size_t room)
{
	const size_t record = TLS_RECORD_BYTES_MAX + TLS_RECORD_EXTRA_BYTES;
	size_t rest;

	if (room <= TLS_SLACK_BYTES)
		return 0;
	room -= TLS_SLACK_BYTES;
	rest = room % record;
	rest = rest > TLS_RECORD_EXTRA_BYTES ? rest - TLS_RECORD_EXTRA_BYTES
					     : 0;
	return room / record * TLS_RECORD_BYTES_MAX + rest;
}

size_t tls_output_sealed(size_t plain)
{
	size_t records =
		(plain + TLS_RECORD_BYTES_MAX - 1) / TLS_RECORD_BYTES_MAX;

	return plain + records * TLS_RECORD_EXTRA_BYTES + TLS_SLACK_BYTES;
}

size_t tls_output_room(const struct stream_tls *t, const struct tls_stream *s)
{
	return tls_output_plain(t->below.ops->room(&t->below, tls_id(t, s)));
}

static int send_below(
	struct stream_tls *t, const struct tls_stream *s, size_t length)
{
	const struct stream_segment segment = {t->sealed, length, false};

	return t->below.ops->send(&t->below, tls_id(t, s), &segment, 1);
}

/*
 * Segments become records in t->sealed: filled in place behind their headers,
 * then sealed in place.
 */
static int seal_all(struct stream_tls *t, struct tls_stream *s,
	const struct stream_segment *segments, uint32_t count, size_t *at)
{
	uint32_t place = tls_index(t, s);
	size_t filled = 0;

	for (uint32_t i = 0; i < count; i++) {
		const uint8_t *from = segments[i].data;
		size_t left = segments[i].length;

		while (left > 0) {
			size_t part = less(TLS_RECORD_BYTES_MAX - filled, left);
			bool last;

			memcpy(t->sealed + *at + TLS_RECORD_HEADER_BYTES +
					filled,
				from, part);
			filled += part;
			from += part;
			left -= part;
			last = left == 0 && i + 1 == count;
			if (filled < TLS_RECORD_BYTES_MAX && !last)
				continue;
			if (tls_record_seal(&s->record, t->aead, place,
				    t->sealed + *at, filled))
				return -ENOMEM;
			*at += filled + TLS_RECORD_EXTRA_BYTES;
			filled = 0;
		}
	}
	assert(filled == 0);
	return 0;
}

int tls_output_send(struct stream_tls *t, struct tls_stream *s,
	const struct stream_segment *segments, uint32_t count)
{
	size_t length = 0, at = 0;
	int rc = 0;

	for (uint32_t i = 0; i < count; i++)
		if (__builtin_add_overflow(length, segments[i].length, &length))
			return -EMSGSIZE;
	if (length > tls_output_plain(t->limits.send_bytes + TLS_SLACK_BYTES))
		return -EMSGSIZE;
	if (length > tls_output_room(t, s))
		return -EAGAIN;
	while (count > 0 && segments[count - 1].length == 0)
		count--;
	if (count == 0)
		return 0;
	if (tls_record_update_due(&s->record)) {
		rc = tls_record_seal_key_update(
			&s->record, t->aead, tls_index(t, s), t->sealed);
		at = TLS_RECORD_KEY_UPDATE_BYTES;
	}
	if (rc == 0)
		rc = seal_all(t, s, segments, count, &at);
	if (rc == 0)
		rc = send_below(t, s, at);
	if (rc) {
		/* What was sealed has its numbers: nothing may follow. */
		tls_output_abort(t, s);
		return -ENOTCONN;
	}
	return 0;
}

static void leave(struct stream_tls *t, struct tls_stream *s)
{
	s->state = TLS_IS_ENDING;
	s->want = 0;
	tls_queue_set(t, s, TLS_ON_NONE);
	tls_wait_end(t, s);
	tls_input_drop(t, s);
	tls_handshake_destroy(s->handshake);
	s->handshake = NULL;
}

void tls_output_end(
	struct stream_tls *t, struct tls_stream *s, enum tls_alert alert)
{
	if (alert != TLS_ALERT_NONE && s->state == TLS_IS_OPEN &&
		t->below.ops->room(&t->below, tls_id(t, s)) >=
			TLS_RECORD_ALERT_BYTES &&
		tls_record_seal_alert(&s->record, t->aead, tls_index(t, s),
			alert, t->sealed) == 0)
		(void)send_below(t, s, TLS_RECORD_ALERT_BYTES);
	leave(t, s);
	(void)t->below.ops->close(&t->below, tls_id(t, s));
}

void tls_output_abort(struct stream_tls *t, struct tls_stream *s)
{
	leave(t, s);
	(void)t->below.ops->abort(&t->below, tls_id(t, s));
}
