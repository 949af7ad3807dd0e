/* stream_tcp.c - byte streams over our own TCP (frames <-> handler) */
/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Queues: a connection that has opened waits in `backlog` for a stream; a
 *         stream whose handler has asked for something (resume) is in `again`;
 *         one that waits for room that others hold is in `wanting`.
 */
#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>

#include "base/check.h"
#include "dataplane/poll_meter.h"
#include "dataplane/stream_tcp.h"

#define EVENT_BURST_COUNT 256
#define BACKLOG_COUNT_MIN 16
#define LINGER_NS (1 * NS_PER_S)
#define SEGMENT_COUNT_MAX 64 /* of one send() */
#define SLAB_COUNT_MIN 2
#define FRAME_COUNT_MAX 2048 /* taken at once */
#define BEHIND_NS (50 * NS_PER_MS)
#define SLACK_SEGMENT_COUNT 2 /* beyond receive_bytes */

struct tcp_stream {
	TAILQ_ENTRY(tcp_stream) link; /* free, again */
	TAILQ_ENTRY(tcp_stream) want_link;
	struct tcp_id tcp;
	uint32_t generation;
	uint8_t listener;
	bool used, closing;
	bool stalled; /* the handler consumed nothing */
	bool again; /* in that queue */
	bool wanting; /* in that queue */
	bool peer_done; /* told */
	uint32_t want;
};

TAILQ_HEAD(tcp_stream_list, tcp_stream);

/* What is known of a connection of tcp.h, by its index. */
struct tcp_accepted {
	TAILQ_ENTRY(tcp_accepted) link; /* backlog */
	struct tcp_stream *stream; /* NULL: it waits for one */
	struct tcp_news news; /* while it waits, all that has come */
	bool waits;
};

TAILQ_HEAD(tcp_accepted_list, tcp_accepted);

struct stream_tcp {
	struct stream_limits limits;
	struct stream_port port;
	struct poll_meter *meter; /* borrowed; may be NULL */
	stream_handler *handler;
	void *arg;
	struct net_stack *net;
	struct tcp *tcp;
	uint32_t listener_count;
	struct tcp_stream *streams; /* owned */
	struct tcp_accepted *accepted; /* owned, [connection_count] */
	struct tcp_stream_list free, again, wanting;
	struct tcp_accepted_list backlog;
	uint32_t used_counts[TCP_LISTENER_COUNT_MAX], used_count;
	uint32_t event_count; /* of this turn */
	struct mono caught_up; /* timers have run until then */
	struct mono looked; /* for frames */
};

static struct tcp_stream *find(struct stream_tcp *k, struct stream_id id)
{
	struct tcp_stream *s;

	if (id.index >= k->limits.stream_count)
		return NULL;
	s = &k->streams[id.index];
	return s->used && s->generation == id.generation ? s : NULL;
}

static size_t emit(struct stream_tcp *k, const struct tcp_stream *s,
	struct stream_event *event)
{
	event->id =
		(struct stream_id){(uint32_t)(s - k->streams), s->generation};
	k->event_count++;
	return k->handler(k->arg, event);
}

static void again_add(struct stream_tcp *k, struct tcp_stream *s)
{
	if (!s->again)
		TAILQ_INSERT_TAIL(&k->again, s, link);
	s->again = true;
}

static void again_remove(struct stream_tcp *k, struct tcp_stream *s)
{
	if (s->again)
		TAILQ_REMOVE(&k->again, s, link);
	s->again = false;
}

static void wanting_remove(struct stream_tcp *k, struct tcp_stream *s)
{
	if (s->wanting)
		TAILQ_REMOVE(&k->wanting, s, want_link);
	s->wanting = false;
	s->want = 0;
}

/* --- events of one stream --- */

static void tell_data(struct stream_tcp *k, struct tcp_stream *s)
{
	struct stream_event event = {.kind = STREAM_DATA};
	size_t taken;
	bool cut;

	event.data = tcp_unread(k->tcp, s->tcp, &event.length);
	if (!event.data || s->stalled || s->closing)
		return;
	cut = event.length > k->limits.receive_bytes;
	if (cut)
		event.length = k->limits.receive_bytes;
	taken = emit(k, s, &event);
	assert(taken <= event.length);
	if (s->closing)
		return;
	s->stalled = taken == 0;
	tcp_consume(k->tcp, s->tcp, taken);
	/* More came than one view may show: that is what follows. */
	if (taken > 0 && cut)
		again_add(k, s);
}

static void tell(
	struct stream_tcp *k, struct tcp_stream *s, enum stream_event_kind kind)
{
	struct stream_event event = {.kind = kind};

	if (!s->closing)
		emit(k, s, &event);
}

static void tell_room(struct stream_tcp *k, struct tcp_stream *s)
{
	if (s->want == 0)
		return;
	/* Since the news came the handler may have sent more. */
	if (tcp_room(k->tcp, s->tcp) < s->want) {
		tcp_want(k->tcp, s->tcp, s->want);
		return;
	}
	wanting_remove(k, s);
	tell(k, s, STREAM_WRITABLE);
}

static void tell_closed(
	struct stream_tcp *k, struct tcp_stream *s, enum tcp_end end)
{
	static const enum stream_end ends[] = {
		[TCP_END_CLEAN] = STREAM_END_CLEAN,
		[TCP_END_RESET] = STREAM_END_RESET,
		[TCP_END_TIMEOUT] = STREAM_END_TIMEOUT,
	};
	struct stream_event event = {.kind = STREAM_CLOSED, .end = ends[end]};

	again_remove(k, s);
	wanting_remove(k, s);
	s->closing = true;
	emit(k, s, &event);
	again_remove(k, s);
	s->used = false;
	k->used_count--;
	k->used_counts[s->listener]--;
	k->accepted[s->tcp.index].stream = NULL;
	TAILQ_INSERT_TAIL(&k->free, s, link);
}

/* --- accepting --- */

/* Each listener that has no stream is left one. */
static bool may_open(const struct stream_tcp *k, uint32_t listener)
{
	uint32_t kept = 0;

	for (uint32_t i = 0; i < k->listener_count; i++)
		kept += i != listener && k->used_counts[i] == 0;
	return !TAILQ_EMPTY(&k->free) &&
	       k->limits.stream_count - k->used_count > kept;
}

static void open_stream(struct stream_tcp *k, struct tcp_accepted *a,
	const struct tcp_news *news)
{
	struct tcp_stream *s = TAILQ_FIRST(&k->free);
	struct stream_event event = {.kind = STREAM_OPENED};

	TAILQ_REMOVE(&k->free, s, link);
	*s = (struct tcp_stream){.tcp = news->id,
		.generation = s->generation + 1,
		.listener = (uint8_t)news->listener,
		.used = true};
	k->used_count++;
	k->used_counts[s->listener]++;
	a->stream = s;
	memcpy(event.peer.address, news->remote.bytes, 16);
	event.peer.port = news->remote_port;
	event.listener = news->listener;
	emit(k, s, &event);
}

static void deliver(
	struct stream_tcp *k, struct tcp_stream *s, const struct tcp_news *news)
{
	if (news->data)
		tell_data(k, s);
	if (news->room)
		tell_room(k, s);
	if (news->peer_done && !s->peer_done && !s->closing) {
		s->peer_done = true;
		tell(k, s, STREAM_PEER_DONE);
	}
	if (news->closed)
		tell_closed(k, s, news->end);
}

static void backlog_remove(struct stream_tcp *k, struct tcp_accepted *a)
{
	TAILQ_REMOVE(&k->backlog, a, link);
	a->waits = false;
}

/* News of a connection that still waits are kept, or end it. */
static void take_waiting(struct stream_tcp *k, struct tcp_accepted *a,
	const struct tcp_news *news)
{
	if (news->closed) {
		backlog_remove(k, a);
		return;
	}
	a->news.data |= news->data;
	a->news.peer_done |= news->peer_done;
}

static void take_news(struct stream_tcp *k, const struct tcp_news *news)
{
	struct tcp_accepted *a = &k->accepted[news->id.index];

	if (news->opened) {
		assert(!a->stream && !a->waits);
		a->news = *news;
		a->waits = true;
		TAILQ_INSERT_TAIL(&k->backlog, a, link);
		if (news->closed)
			backlog_remove(k, a);
	} else if (a->waits) {
		take_waiting(k, a, news);
	} else if (a->stream) {
		deliver(k, a->stream, news);
	}
}

static void accept_waiting(struct stream_tcp *k)
{
	struct tcp_accepted *a, *next;

	for (a = TAILQ_FIRST(&k->backlog); a; a = next) {
		next = TAILQ_NEXT(a, link);
		if (TAILQ_EMPTY(&k->free) ||
			k->event_count >= EVENT_BURST_COUNT)
			return;
		if (!may_open(k, a->news.listener))
			continue;
		backlog_remove(k, a);
		open_stream(k, a, &a->news);
		if (a->stream)
			deliver(k, a->stream, &a->news);
	}
}

/* --- a turn --- */

/*
 * All that has come by now, and what has fallen due by then: else an ACK that
 * lies in the port beside a burst of others, or since a pause in which this
 * thread did not run, would count as late. A port that is filled faster than
 * it is emptied is left after as many as its ring holds; timers wait until it
 * is empty, but not for long. What the port has taken is added to *rx_ns, where
 * that is not NULL.
 */
static void take_frames(struct stream_tcp *k, uint64_t *rx_ns)
{
	struct net_frame frames[NET_BURST_COUNT_MAX];
	struct mono now = mono_now(), from = now;
	uint32_t total = 0, count;

	k->looked = now;
	do {
		if (rx_ns)
			from = mono_now();
		count = k->port.frames_next(
			k->port.arg, frames, NET_BURST_COUNT_MAX);
		if (rx_ns)
			*rx_ns += mono_diff(mono_now(), from);
		net_input_burst(k->net, frames, count, now);
		total += count;
	} while (count == NET_BURST_COUNT_MAX && total < FRAME_COUNT_MAX);
	if (count < NET_BURST_COUNT_MAX ||
		mono_diff(now, k->caught_up) > BEHIND_NS) {
		k->caught_up = now;
		net_expire(k->net, now);
	}
	net_flush(k->net, total > 0 ? mono_now() : now);
}

/* Who has asked again before this turn; what asks meanwhile is next. */
static void run_again(struct stream_tcp *k)
{
	struct tcp_stream *last = TAILQ_LAST(&k->again, tcp_stream_list), *s;

	while ((s = TAILQ_FIRST(&k->again)) &&
		k->event_count < EVENT_BURST_COUNT) {
		again_remove(k, s);
		tell_data(k, s);
		if (s == last)
			break;
	}
}

/* Room that others have given back makes no news of its own. */
static void run_wanting(struct stream_tcp *k)
{
	struct tcp_stream *s, *next;

	for (s = TAILQ_FIRST(&k->wanting);
		s && k->event_count < EVENT_BURST_COUNT; s = next) {
		next = TAILQ_NEXT(s, want_link);
		if (tcp_room(k->tcp, s->tcp) < s->want)
			continue;
		tell_room(k, s);
		/* The handler may have changed the queue. */
		return;
	}
}

static void run_events(struct stream_tcp *k)
{
	struct tcp_news news;

	accept_waiting(k);
	while (k->event_count < EVENT_BURST_COUNT && tcp_next(k->tcp, &news)) {
		take_news(k, &news);
		if (news.opened)
			accept_waiting(k);
	}
	run_again(k);
	run_wanting(k);
}

/* The same as turn(), with a look at the clock between its stages. */
static void timed_turn(struct stream_tcp *k)
{
	struct mono at[4] = {mono_now()};
	uint64_t rx_ns = 0;

	take_frames(k, &rx_ns);
	at[1] = mono_now();
	run_events(k);
	at[2] = mono_now();
	net_flush(k->net, at[2]);
	at[3] = mono_now();
	poll_meter_add(k->meter, POLL_RX, POLL_METER_SHARE * rx_ns);
	poll_meter_add(k->meter, POLL_STACK,
		POLL_METER_SHARE * (mono_diff(at[1], at[0]) - rx_ns +
					   mono_diff(at[3], at[2])));
	poll_meter_add(k->meter, POLL_FRONT,
		POLL_METER_SHARE * mono_diff(at[2], at[1]));
}

static void turn(struct stream_tcp *k)
{
	if (k->meter && poll_meter_chosen(k->meter)) {
		timed_turn(k);
		return;
	}
	take_frames(k, NULL);
	run_events(k);
	/* What is sent is sent by who has heard of something. */
	if (k->event_count > 0)
		net_flush(k->net, mono_now());
}

static uint32_t tcp_loop_poll(struct stream_loop *loop, struct mono until)
{
	struct stream_tcp *k = loop->context;
	struct mono at;

	k->event_count = 0;
	turn(k);
	if (k->event_count > 0)
		return k->event_count;
	at = net_deadline(k->net);
	if (!TAILQ_EMPTY(&k->again))
		return 0;
	k->port.wait(k->port.arg, mono_before(at, until) ? at : until);
	/* Who may not wait has more to do before there can be another frame. */
	if (mono_before(k->looked, until))
		turn(k);
	return k->event_count;
}

void stream_tcp_turn(struct stream_loop *loop)
{
	struct stream_tcp *k = loop->context;

	take_frames(k, NULL);
}

struct net_stack *stream_tcp_stack(const struct stream_loop *loop)
{
	const struct stream_tcp *k = loop->context;

	return k->net;
}

/* --- calls --- */

static int tcp_loop_send(struct stream_loop *loop, struct stream_id id,
	const struct stream_segment *segments, uint32_t count)
{
	struct stream_tcp *k = loop->context;
	struct tcp_stream *s = find(k, id);
	struct tcp_piece pieces[SEGMENT_COUNT_MAX];
	size_t total = 0;

	if (!s || s->closing)
		return -ENOTCONN;
	for (uint32_t i = 0; i < count; i++)
		if (!add_ok(total, segments[i].length, &total) ||
			total > k->limits.send_bytes)
			return -EMSGSIZE;
	if (total > tcp_room(k->tcp, s->tcp))
		return -EAGAIN;
	for (uint32_t at = 0; at < count;) {
		uint32_t part = count - at < SEGMENT_COUNT_MAX
					? count - at
					: SEGMENT_COUNT_MAX;
		int rc;

		for (uint32_t i = 0; i < part; i++)
			pieces[i] = (struct tcp_piece){
				segments[at + i].data, segments[at + i].length};
		rc = tcp_send(k->tcp, s->tcp, pieces, part);
		if (rc)
			return rc; /* the connection is gone, with all of it */
		at += part;
	}
	return 0;
}

static void tcp_loop_ahead(const struct stream_loop *loop, uint32_t index)
{
	const struct stream_tcp *k = loop->context;

	tcp_ahead_of_send(k->tcp, k->streams[index].tcp);
}

static size_t tcp_loop_room(const struct stream_loop *loop, struct stream_id id)
{
	struct stream_tcp *k = loop->context;
	const struct tcp_stream *s = find(k, id);

	return s && !s->closing ? tcp_room(k->tcp, s->tcp) : 0;
}

static int tcp_loop_want(
	struct stream_loop *loop, struct stream_id id, size_t want)
{
	struct stream_tcp *k = loop->context;
	struct tcp_stream *s = find(k, id);

	if (!s || s->closing)
		return -ENOTCONN;
	if (want > k->limits.send_bytes)
		return -EMSGSIZE;
	wanting_remove(k, s);
	if (want == 0)
		return tcp_want(k->tcp, s->tcp, 0);
	s->want = (uint32_t)want;
	s->wanting = true;
	TAILQ_INSERT_TAIL(&k->wanting, s, want_link);
	return tcp_want(k->tcp, s->tcp, want);
}

static int tcp_loop_resume(struct stream_loop *loop, struct stream_id id)
{
	struct stream_tcp *k = loop->context;
	struct tcp_stream *s = find(k, id);

	if (!s || s->closing)
		return -ENOTCONN;
	s->stalled = false;
	again_add(k, s);
	return 0;
}

static void stop_events(struct stream_tcp *k, struct tcp_stream *s)
{
	s->closing = true;
	again_remove(k, s);
	wanting_remove(k, s);
}

static int tcp_loop_close(struct stream_loop *loop, struct stream_id id)
{
	struct stream_tcp *k = loop->context;
	struct tcp_stream *s = find(k, id);

	if (!s)
		return -ENOTCONN;
	if (!s->closing)
		tcp_close(k->tcp, s->tcp);
	stop_events(k, s);
	return 0;
}

static int tcp_loop_abort(struct stream_loop *loop, struct stream_id id)
{
	struct stream_tcp *k = loop->context;
	struct tcp_stream *s = find(k, id);

	if (!s)
		return -ENOTCONN;
	stop_events(k, s);
	tcp_abort(k->tcp, s->tcp);
	return 0;
}

static void abort_backlog(struct stream_tcp *k)
{
	struct tcp_accepted *a;

	while ((a = TAILQ_FIRST(&k->backlog))) {
		backlog_remove(k, a);
		tcp_abort(k->tcp, a->news.id);
	}
}

/* Peers shall not wait for somebody who is gone. */
static void abort_all(struct stream_tcp *k)
{
	for (uint32_t i = 0; i < k->limits.stream_count; i++)
		if (k->streams[i].used)
			tcp_abort(k->tcp, k->streams[i].tcp);
	abort_backlog(k);
}

/* Also those that wait for a stream: nobody will ever hear of them. */
static void tcp_loop_drain(struct stream_loop *loop)
{
	struct stream_tcp *k = loop->context;

	tcp_drain(k->tcp);
	abort_backlog(k);
	net_poll(k->net, mono_now());
}

static int tcp_loop_identify(struct stream_loop *loop,
	const struct stream_identity *identity, struct error *err)
{
	(void)loop;
	(void)identity;
	return error_set(err, EINVAL, "no listener speaks TLS");
}

static void tcp_loop_wake(struct stream_loop *loop)
{
	const struct stream_tcp *k = loop->context;

	k->port.wake(k->port.arg);
}

static void tcp_loop_destroy(struct stream_loop *loop)
{
	struct stream_tcp *k = loop->context;

	if (!k)
		return;
	if (k->net) {
		abort_all(k);
		net_stack_destroy(k->net);
	}
	free(k->accepted);
	free(k->streams);
	free(k);
	loop->context = NULL;
}

static const struct stream_ops stream_tcp_ops = {
	.name = "tcp",
	.poll = tcp_loop_poll,
	.send = tcp_loop_send,
	.room = tcp_loop_room,
	.ahead = tcp_loop_ahead,
	.want = tcp_loop_want,
	.resume = tcp_loop_resume,
	.close = tcp_loop_close,
	.abort = tcp_loop_abort,
	.drain = tcp_loop_drain,
	.identify = tcp_loop_identify,
	.wake = tcp_loop_wake,
	.destroy = tcp_loop_destroy,
};

/* --- create --- */

static int tcp_bounds(const struct stream_tcp_config *config,
	struct tcp_config *out, struct error *err)
{
	const struct stream_limits *l = &config->limits;
	uint32_t backlog = config->backlog_count;
	uint64_t slab_count;

	if (l->stream_count == 0 ||
		l->stream_count > TCP_CONNECTION_COUNT_MAX / 2)
		return error_set(err, EINVAL, "%u streams", l->stream_count);
	if (l->send_bytes > TCP_BUFFER_BYTES_MAX || l->receive_bytes == 0 ||
		l->receive_bytes > TCP_BUFFER_BYTES_MAX / 2 ||
		config->net.mtu_bytes > NET_MTU_BYTES_MAX)
		return error_set(err, EINVAL, "buffers are too large");
	out->send_bytes = (uint32_t)l->send_bytes;
	out->receive_bytes = (uint32_t)l->receive_bytes;
	if (backlog == 0)
		backlog = l->stream_count / 4;
	if (backlog < BACKLOG_COUNT_MIN)
		backlog = BACKLOG_COUNT_MIN;
	out->open_count = l->stream_count + backlog;
	/* As many again that are half open, or that only wait to be over. */
	out->connection_count = out->open_count + out->open_count / 2;
	out->half_open_count = out->open_count / 4;
	slab_count = l->total_bytes / 4 / l->receive_bytes;
	if (slab_count < SLAB_COUNT_MIN)
		slab_count = SLAB_COUNT_MIN;
	out->receive_bytes += SLACK_SEGMENT_COUNT * config->net.mtu_bytes;
	out->receive_total_bytes = slab_count * out->receive_bytes;
	out->send_total_bytes = l->total_bytes - l->total_bytes / 4;
	out->user_timeout_ns = l->user_timeout_ns;
	out->fin_wait_2_ns = LINGER_NS;
	return 0;
}

static int make_tables(struct stream_tcp *k, uint32_t connection_count)
{
	k->streams = calloc(k->limits.stream_count, sizeof(*k->streams));
	k->accepted = calloc(connection_count, sizeof(*k->accepted));
	if (!k->streams || !k->accepted)
		return -ENOMEM;
	TAILQ_INIT(&k->free);
	TAILQ_INIT(&k->again);
	TAILQ_INIT(&k->wanting);
	TAILQ_INIT(&k->backlog);
	for (uint32_t i = 0; i < k->limits.stream_count; i++)
		TAILQ_INSERT_TAIL(&k->free, &k->streams[i], link);
	return 0;
}

int stream_tcp_create(const struct stream_tcp_config *config,
	struct stream_loop *out, struct error *err)
{
	struct net_config net = config->net;
	struct stream_loop loop = {.ops = &stream_tcp_ops};
	struct stream_tcp *k;
	int rc = tcp_bounds(config, &net.tcp, err);

	if (rc)
		return rc;
	if (config->listener_count > TCP_LISTENER_COUNT_MAX)
		return error_set(err, EINVAL, "too many listeners");
	k = calloc(1, sizeof(*k));
	if (!k)
		return error_set(err, ENOMEM, "no memory for the loop");
	k->limits = config->limits;
	k->port = config->port;
	k->meter = config->meter;
	k->handler = config->handler;
	k->arg = config->arg;
	k->listener_count = config->listener_count;
	loop.context = k;
	rc = make_tables(k, net.tcp.connection_count);
	if (rc)
		error_set(err, -rc, "no memory for the streams");
	else
		rc = net_stack_create(&net, mono_now(), &k->net, err);
	if (rc) {
		tcp_loop_destroy(&loop);
		return rc;
	}
	k->tcp = net_stack_tcp(k->net);
	for (uint32_t i = 0; i < config->listener_count; i++) {
		rc = tcp_listen(k->tcp, config->listen_ports[i], i);
		assert(rc == 0);
	}
	*out = loop;
	return 0;
}
