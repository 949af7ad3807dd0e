/* fake_stream.c - byte streams in memory, driven by a test (stream.h's twin) */
/* SPDX-License-Identifier: Apache-2.0 */
#include <assert.h>
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "tests/fake/fake_stream.h"

struct stream {
	bool used, opened, closed, aborted, closing;
	bool peer_done, peer_told, reset, fresh;
	uint32_t generation, listener;
	size_t room, want;
	char *in, *out;
	size_t in_at, in_end, out_end;
};

static struct {
	struct stream streams[FAKE_STREAM_COUNT];
	struct stream_kernel_config config;
	pthread_mutex_t lock;
	pthread_cond_t bell;
	bool rung, draining;
	uint64_t sends;
} fake = {.lock = PTHREAD_MUTEX_INITIALIZER};

static struct stream *find(struct stream_id id)
{
	struct stream *s = &fake.streams[id.index];

	assert(id.index < FAKE_STREAM_COUNT);
	if (!s->used || s->closed || s->closing ||
		s->generation != id.generation)
		return NULL;
	return s;
}

static size_t deliver(uint32_t index, struct stream_event event)
{
	struct stream *s = &fake.streams[index];

	event.id = (struct stream_id){index, s->generation};
	return fake.config.handler(fake.config.arg, &event);
}

static uint32_t deliver_input(uint32_t index)
{
	struct stream *s = &fake.streams[index];
	struct stream_event event = {.kind = STREAM_DATA,
		.data = (const uint8_t *)s->in + s->in_at,
		.length = s->in_end - s->in_at};
	size_t taken;

	if (!s->fresh || event.length == 0 || s->closing)
		return 0;
	s->fresh = false;
	taken = deliver(index, event);
	assert(taken <= event.length);
	s->in_at += taken;
	return 1;
}

static uint32_t deliver_end(uint32_t index)
{
	struct stream *s = &fake.streams[index];

	if (s->peer_done && !s->peer_told &&
		(!s->fresh || s->in_at == s->in_end) && !s->closing) {
		s->peer_told = true;
		deliver(index, (struct stream_event){.kind = STREAM_PEER_DONE});
		return 1;
	}
	if (!s->closing && !s->reset)
		return 0;
	deliver(index,
		(struct stream_event){.kind = STREAM_CLOSED,
			.end = s->aborted || s->reset ? STREAM_END_RESET
						      : STREAM_END_CLEAN});
	s->closed = true;
	return 1;
}

static uint32_t turn(uint32_t index)
{
	struct stream *s = &fake.streams[index];
	uint32_t count = 0;

	if (!s->used || s->closed)
		return 0;
	if (!s->opened) {
		s->opened = true;
		deliver(index, (struct stream_event){.kind = STREAM_OPENED,
				       .listener = s->listener});
		count++;
	}
	if (s->want > 0 && s->room >= s->want && !s->closing) {
		s->want = 0;
		deliver(index, (struct stream_event){.kind = STREAM_WRITABLE});
		count++;
	}
	count += deliver_input(index);
	return count + deliver_end(index);
}

static void wait_until(struct mono until)
{
	const struct timespec at = {.tv_sec = (time_t)(until.ns / NS_PER_S),
		.tv_nsec = (long)(until.ns % NS_PER_S)};

	pthread_mutex_lock(&fake.lock);
	while (!fake.rung && mono_before(mono_now(), until))
		(void)pthread_cond_timedwait(&fake.bell, &fake.lock, &at);
	fake.rung = false;
	pthread_mutex_unlock(&fake.lock);
}

static uint32_t fake_poll(struct stream_loop *loop, struct mono until)
{
	uint32_t count = 0;

	(void)loop;
	for (uint32_t i = 0; i < FAKE_STREAM_COUNT; i++)
		count += turn(i);
	if (count == 0)
		wait_until(until);
	return count;
}

static int fake_send(struct stream_loop *loop, struct stream_id id,
	const struct stream_segment *segments, uint32_t count)
{
	struct stream *s = find(id);
	size_t total = 0;

	(void)loop;
	if (!s)
		return -ENOTCONN;
	for (uint32_t i = 0; i < count; i++)
		total += segments[i].length;
	if (total > s->room)
		return total > fake.config.limits.send_bytes ? -EMSGSIZE
							     : -EAGAIN;
	assert(s->out_end + total < FAKE_STREAM_BYTES);
	for (uint32_t i = 0; i < count; i++) {
		memcpy(s->out + s->out_end, segments[i].data,
			segments[i].length);
		s->out_end += segments[i].length;
	}
	s->out[s->out_end] = '\0';
	if (s->room != SIZE_MAX)
		s->room -= total;
	fake.sends++;
	return 0;
}

static size_t fake_room(const struct stream_loop *loop, struct stream_id id)
{
	const struct stream *s = find(id);
	size_t most = fake.config.limits.send_bytes;

	(void)loop;
	if (!s)
		return 0;
	return s->room < most ? s->room : most;
}

static int fake_want(struct stream_loop *loop, struct stream_id id, size_t want)
{
	struct stream *s = find(id);

	(void)loop;
	if (!s)
		return -ENOTCONN;
	s->want = want ? want : 1;
	return 0;
}

static int fake_resume(struct stream_loop *loop, struct stream_id id)
{
	struct stream *s = find(id);

	(void)loop;
	if (!s)
		return -ENOTCONN;
	s->fresh = true;
	return 0;
}

static int fake_close(struct stream_loop *loop, struct stream_id id)
{
	struct stream *s = find(id);

	(void)loop;
	if (!s)
		return -ENOTCONN;
	s->closing = true;
	return 0;
}

static int fake_abort(struct stream_loop *loop, struct stream_id id)
{
	struct stream *s = &fake.streams[id.index];

	(void)loop;
	if (!s->used || s->closed || s->generation != id.generation)
		return -ENOTCONN;
	s->closing = s->aborted = true;
	return 0;
}

static void fake_drain(struct stream_loop *loop)
{
	(void)loop;
	fake.draining = true;
}

static int fake_identify(struct stream_loop *loop,
	const struct stream_identity *identity, struct error *err)
{
	(void)loop;
	(void)identity;
	return error_set(err, EINVAL, "no listener speaks TLS");
}

static void fake_wake(struct stream_loop *loop)
{
	(void)loop;
	pthread_mutex_lock(&fake.lock);
	fake.rung = true;
	pthread_cond_signal(&fake.bell);
	pthread_mutex_unlock(&fake.lock);
}

static void fake_destroy(struct stream_loop *loop)
{
	for (uint32_t i = 0; i < FAKE_STREAM_COUNT; i++) {
		free(fake.streams[i].in);
		free(fake.streams[i].out);
	}
	memset(fake.streams, 0, sizeof(fake.streams));
	pthread_cond_destroy(&fake.bell);
	*loop = (struct stream_loop){0};
}

static const struct stream_ops ops = {.name = "fake",
	.poll = fake_poll,
	.send = fake_send,
	.room = fake_room,
	.want = fake_want,
	.resume = fake_resume,
	.close = fake_close,
	.abort = fake_abort,
	.drain = fake_drain,
	.identify = fake_identify,
	.wake = fake_wake,
	.destroy = fake_destroy};

int fake_stream_create(const struct stream_kernel_config *config,
	struct stream_loop *out, struct error *err)
{
	pthread_condattr_t attributes;

	(void)err;
	memset(fake.streams, 0, sizeof(fake.streams));
	fake.config = *config;
	fake.draining = fake.rung = false;
	fake.sends = 0;
	pthread_condattr_init(&attributes);
	pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
	pthread_cond_init(&fake.bell, &attributes);
	pthread_condattr_destroy(&attributes);
	*out = (struct stream_loop){.ops = &ops, .context = &fake};
	return 0;
}

/* --- the test's side --------------------------------------------------------------
 */

uint32_t fake_stream_open(uint32_t listener)
{
	uint32_t i = 0;
	char *in, *out;

	while (i < FAKE_STREAM_COUNT &&
		(fake.streams[i].used && !fake.streams[i].closed))
		i++;
	assert(i < FAKE_STREAM_COUNT && i < fake.config.limits.stream_count);
	/* Those of the stream before serve again. */
	in = fake.streams[i].in ? fake.streams[i].in
				: malloc(FAKE_STREAM_BYTES);
	out = fake.streams[i].out ? fake.streams[i].out
				  : malloc(FAKE_STREAM_BYTES);
	assert(in && out);
	out[0] = '\0';
	fake.streams[i] = (struct stream){.used = true,
		.generation = fake.streams[i].generation + 1,
		.listener = listener,
		.room = SIZE_MAX,
		.in = in,
		.out = out};
	return i;
}

void fake_stream_input(uint32_t number, const char *bytes, size_t length)
{
	struct stream *s = &fake.streams[number];

	assert(s->used && s->in_end + length <= FAKE_STREAM_BYTES);
	memcpy(s->in + s->in_end, bytes, length);
	s->in_end += length;
	s->fresh = true;
}

void fake_stream_peer_done(uint32_t number)
{
	fake.streams[number].peer_done = true;
}

void fake_stream_reset(uint32_t number)
{
	fake.streams[number].reset = true;
}

void fake_stream_room(uint32_t number, size_t bytes)
{
	fake.streams[number].room = bytes;
}

const char *fake_stream_output(uint32_t number, size_t *length)
{
	if (length)
		*length = fake.streams[number].out_end;
	return fake.streams[number].out;
}

void fake_stream_clear(uint32_t number)
{
	fake.streams[number].out_end = 0;
	fake.streams[number].out[0] = '\0';
}

bool fake_stream_is_closed(uint32_t number)
{
	return fake.streams[number].closed;
}

bool fake_stream_was_aborted(uint32_t number)
{
	return fake.streams[number].aborted;
}

size_t fake_stream_unread(uint32_t number)
{
	return fake.streams[number].in_end - fake.streams[number].in_at;
}

uint64_t fake_stream_sends(void)
{
	return fake.sends;
}

bool fake_stream_is_draining(void)
{
	return fake.draining;
}
