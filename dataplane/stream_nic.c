/* stream_nic.c - byte streams over a polled port (nic.h <-> handler) */
/* SPDX-License-Identifier: Apache-2.0 */
#include <assert.h>
#include <errno.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "base/relax.h"
#include "dataplane/frame_ring.h"
#include "dataplane/poll_meter.h"
#include "dataplane/stream_nic.h"
#include "dataplane/stream_tcp.h"
#include "dataplane/stream_tls.h"

#define SOCKETS_LOOK_NS (1 * NS_PER_MS)
#define LINK_LOOK_NS (100 * NS_PER_MS)
#define SOCKET_STREAM_COUNT_MAX 64
#define SOCKET_STREAM_SHARE 16
#define QUIET_SHARE 8 /* of the quiet time so far: a sleep */
#define PAUSE_COUNT 8 /* of a turn without work: below a microsecond */
#define SLEEP_NS_MIN (20 * NS_PER_US) /* shorter ones cost as much */

struct stream_nic;

/* The loops of a port, where there are several. */
struct stream_nic_group {
	uint32_t count;
	struct stream_nic *loops[NIC_QUEUE_COUNT_MAX];
	/* owned: [from][to]; NULL where they are the same */
	struct frame_ring *rings[NIC_QUEUE_COUNT_MAX][NIC_QUEUE_COUNT_MAX];
};

struct stream_nic {
	struct nic *nic; /* owned */
	struct stream_loop tcp, sockets; /* owned */
	stream_handler *handler;
	void *arg;
	uint32_t tcp_count; /* streams below this index are TCP's */
	uint32_t tcp_listeners[STREAM_LISTENER_COUNT_MAX]; /* -> config's */
	uint32_t socket_listeners[STREAM_LISTENER_COUNT_MAX];
	bool placed; /* the thread is on its core */
	int32_t core;
	uint64_t sleep_ns;
	/* of the turn */
	uint32_t event_count;
	bool worked; /* a frame or an event, or something was sent */
	uint64_t worked_ns, looked_ns, watched_ns, busy_count;
	bool has_bell; /* the port ends our sleep */
	_Atomic bool woken;
	uint32_t rung; /* of the sockets' loop, as seen last */
	struct poll_meter meter;
	struct capture_tap *capture; /* borrowed; may be NULL */
	uint32_t queue;
	struct stream_nic_group *group; /* the first's; NULL = it is alone */
	_Atomic bool asleep; /* with others: whoever pushes wakes us */
	uint64_t handed_count, handed_lost;
	/* what is counted goes on from what an earlier life has left */
	struct nic_counters *counters; /* may be NULL */
	struct nic_counters before;
};

/* --- events --- */

static size_t on_tcp(void *arg, const struct stream_event *event)
{
	struct stream_nic *n = arg;
	struct stream_event copy = *event;

	n->event_count++;
	n->worked = true;
	if (event->kind == STREAM_OPENED)
		copy.listener = n->tcp_listeners[event->listener];
	return n->handler(n->arg, &copy);
}

static size_t on_socket(void *arg, const struct stream_event *event)
{
	struct stream_nic *n = arg;
	struct stream_event copy = *event;

	n->event_count++;
	n->worked = true;
	copy.id.index += n->tcp_count;
	if (event->kind == STREAM_OPENED)
		copy.listener = n->socket_listeners[event->listener];
	return n->handler(n->arg, &copy);
}

/* --- other loops --- */

#define TAG_TOLD UINT32_MAX /* else how many have passed it */

static void wake_loop(struct stream_nic *n)
{
	if (atomic_exchange(&n->woken, true))
		return;
	poll_meter_call(&n->meter);
	n->sockets.ops->wake(&n->sockets);
}

static void hand(struct stream_nic *n, uint32_t to, const uint8_t *frame,
	size_t length, uint32_t tag)
{
	struct stream_nic *other = n->group->loops[to];

	if (!frame_ring_push(n->group->rings[n->queue][to], frame, length, tag))
		n->handed_lost++;
	/* Pairs with may_sleep(): it has seen the frame, or we see this. */
	else if (atomic_load(&other->asleep))
		wake_loop(other);
}

static void tell_peers(void *arg, const uint8_t *frame, size_t length)
{
	struct stream_nic *n = arg;

	for (uint32_t i = 0; i < n->group->count; i++)
		if (i != n->queue)
			hand(n, i, frame, length, TAG_TOLD);
}

static void pass_on(
	void *arg, const uint8_t *frame, size_t length, uint8_t passes)
{
	struct stream_nic *n = arg;

	hand(n, (n->queue + 1) % n->group->count, frame, length, passes);
}

static uint32_t take_from(struct stream_nic *n, struct frame_ring *ring,
	struct net_frame *out, uint32_t max)
{
	const uint8_t *bytes;
	uint32_t count = 0, tag;
	size_t length;

	/* Those of the last time have been read. */
	frame_ring_release(ring);
	while (count < max && (bytes = frame_ring_peek(ring, &length, &tag)))
		out[count++] = (struct net_frame){.bytes = bytes,
			.length = length,
			.checksum_good = true,
			.told = tag == TAG_TOLD,
			.passes = tag == TAG_TOLD ? 0 : (uint8_t)tag};
	n->handed_count += count;
	return count;
}

/* What others have handed over, behind what the port has. */
static uint32_t take_handed(
	struct stream_nic *n, struct net_frame *out, uint32_t max)
{
	uint32_t count = 0;

	for (uint32_t i = 0; i < n->group->count; i++)
		if (i != n->queue)
			count += take_from(n, n->group->rings[i][n->queue],
				out + count, max - count);
	return count;
}

/* Nobody has handed over anything; whoever does from now on wakes us. */
static bool may_sleep(struct stream_nic *n)
{
	struct stream_nic_group *group = n->group;
	bool empty = true;

	if (!group)
		return true;
	atomic_store(&n->asleep, true);
	for (uint32_t i = 0; i < group->count; i++)
		empty = empty &&
			(i == n->queue ||
				frame_ring_is_empty(group->rings[i][n->queue]));
	if (!empty)
		atomic_store(&n->asleep, false);
	return empty;
}

/* --- counting --- */

#define SET(field, value)                                                      \
	counter_set(&c->field##_total, n->before.field##_total + (value))

static void count_port(const struct stream_nic *n, struct nic_counters *c)
{
	struct nic_numbers port;

	nic_get_numbers(n->nic, &port);
	SET(in_frames, port.in_frames);
	SET(in_bytes, port.in_bytes);
	SET(in_lost_port, port.in_lost);
	SET(in_lost_pieces, port.in_pieces);
	SET(out_frames, port.out_frames);
	SET(out_bytes, port.out_bytes);
	SET(link_changes, port.link_changes);
	SET(takeovers, port.takeovers);
	counter_set(&c->port_count, port.port_count);
	counter_set(&c->port_active, port.active);
	counter_set(&c->link_up, port.link_up);
	counter_set(&c->buffers_used, nic_buffers_out(n->nic));
	SET(out_lost_port,
		port.out_lost + net_stack_counters(stream_tcp_stack(&n->tcp))
					->out_lost_device);
}

static void count_stack(const struct stream_nic *n, struct nic_counters *c)
{
	struct net_stack *stack = stream_tcp_stack(&n->tcp);
	const struct net_counters *net = net_stack_counters(stack);
	const struct tcp_counters *tcp = tcp_get_counters(net_stack_tcp(stack));

	SET(in_lost_link, net->in_dropped_link);
	SET(in_lost_ip, net->in_dropped_ip + net->in_dropped_fragments);
	SET(in_lost_icmp, net->in_dropped_icmp);
	SET(out_lost_neighbor, net->out_lost_neighbor);
	SET(passed, net->out_passed);
	SET(handed, n->handed_count);
	SET(handed_lost, n->handed_lost);
	/* A bad cookie is for nobody: it is among the unknown. */
	SET(in_lost_tcp, tcp->in_bad_checksum + tcp->in_malformed +
				 tcp->in_unknown + tcp->in_unacceptable +
				 tcp->in_old_timestamp + tcp->in_bad_ack +
				 tcp->in_no_slab + tcp->in_no_island +
				 tcp->syn_dropped);
	/* Of those that were passed on another loop counts. */
	SET(segments_in, tcp->in_segments - net->out_passed);
	SET(segments_out, tcp->out_segments);
	SET(segments_again, tcp->out_retransmitted);
}

static void count(struct stream_nic *n, struct mono now)
{
	if (!poll_meter_due(&n->meter, now))
		return;
	poll_meter_write(&n->meter, now);
	if (!n->counters)
		return;
	count_port(n, n->counters);
	count_stack(n, n->counters);
}

#undef SET

/* --- the port, as TCP's loop sees it --- */

static void capture_frames(
	struct stream_nic *n, const struct net_frame *frames, uint32_t count)
{
	struct mono now = mono_now();

	for (uint32_t i = 0; i < count; i++)
		capture_put(n->capture, frames[i].bytes, frames[i].length, now);
}

static uint32_t port_frames(void *arg, struct net_frame *out, uint32_t max)
{
	struct stream_nic *n = arg;
	uint32_t got = nic_receive(n->nic, out, max);

	n->worked |= got > 0;
	n->meter.bursts += got > 0;
	if (got > 0 && capture_wants(n->capture))
		capture_frames(n, out, got);
	if (n->group) {
		uint32_t handed = take_handed(n, out + got, max - got);

		n->worked |= handed > 0;
		got += handed;
	}
	return got;
}

static uint8_t *port_frame_get(void *arg, size_t size)
{
	const struct stream_nic *n = arg;

	return nic_frame_get(n->nic, size);
}

static void port_frame_send(void *arg, uint8_t *frame, size_t length,
	const struct net_offload *offload)
{
	const struct stream_nic *n = arg;

	if (capture_wants(n->capture))
		capture_put(n->capture, frame, length, mono_now());
	nic_frame_send(n->nic, frame, length, offload);
}

static void look_at_sockets(struct stream_nic *n, struct mono until)
{
	(void)n->sockets.ops->poll(&n->sockets, until);
	n->looked_ns = mono_now().ns;
	/* Others than wake() have the descriptor, too. */
	if (n->sockets.rung != n->rung)
		atomic_store(&n->woken, true);
	n->rung = n->sockets.rung;
}

/* The longer it has been quiet, the longer, up to the bound. */
static uint64_t sleep_for(const struct stream_nic *n, uint64_t now_ns)
{
	uint64_t ns = (now_ns - n->worked_ns) / QUIET_SHARE;

	if (ns < SLEEP_NS_MIN)
		ns = SLEEP_NS_MIN;
	return ns < n->sleep_ns ? ns : n->sleep_ns;
}

static void fall_asleep(
	struct stream_nic *n, struct mono now, struct mono until)
{
	struct mono end;
	bool armed;

	if (!may_sleep(n))
		return;
	armed = n->has_bell && nic_arm(n->nic);
	end = mono_add(now, armed ? LINK_LOOK_NS : sleep_for(n, now.ns));
	if (mono_before(until, end))
		end = until;
	look_at_sockets(n, end);
	if (n->group)
		atomic_store_explicit(&n->asleep, false, memory_order_relaxed);
	if (n->has_bell)
		nic_disarm(n->nic);
	poll_meter_slept(&n->meter, now, end, (struct mono){n->looked_ns});
}

static bool send_out(struct stream_nic *n)
{
	bool all, timed = poll_meter_chosen(&n->meter);
	struct mono from = {0};

	if (timed)
		from = mono_now();
	all = nic_flush(n->nic);
	if (timed)
		poll_meter_add(&n->meter, POLL_TX,
			POLL_METER_SHARE * mono_diff(mono_now(), from));
	return all;
}

/*
 * Between two halves of a turn in which nothing has happened. Frames that
 * did not find room keep us awake: nobody tells when there is some.
 */
static void port_wait(void *arg, struct mono until)
{
	struct stream_nic *n = arg;
	bool sent = send_out(n);
	struct mono now;

	if (n->worked)
		return;
	now = mono_now();
	if (mono_before(now, until) && sent &&
		!atomic_load_explicit(&n->woken, memory_order_relaxed))
		fall_asleep(n, now, until);
	else
		for (int i = 0; i < PAUSE_COUNT; i++)
			relax();
}

static void port_wake(void *arg)
{
	/* The loop of both is woken, see nic_loop_wake(). */
	(void)arg;
}

/* --- the loop --- */

static void take_core(struct stream_nic *n)
{
	cpu_set_t own;

	n->placed = true;
	nic_enter(n->nic);
	if (n->core < 0)
		return;
	CPU_ZERO(&own);
	CPU_SET((size_t)n->core, &own);
	/* That it may be had was checked at the start. */
	(void)sched_setaffinity(0, sizeof(own), &own);
}

static void turn(struct stream_nic *n, struct mono until)
{
	(void)n->tcp.ops->poll(&n->tcp, until);
	(void)send_out(n);
	n->meter.turns++;
}

static void watch_link(struct stream_nic *n, struct mono now)
{
	if (now.ns - n->watched_ns < LINK_LOOK_NS)
		return;
	n->watched_ns = now.ns;
	if (nic_watch(n->nic))
		net_announce(stream_tcp_stack(&n->tcp), now);
}

/* What the turn has done is the last work for a while. */
static void note_work(struct stream_nic *n, struct mono now)
{
	if (!n->worked)
		return;
	n->worked = false;
	n->worked_ns = now.ns;
	n->meter.busy++;
	n->busy_count++;
}

static uint32_t nic_loop_poll(struct stream_loop *loop, struct mono until)
{
	struct stream_nic *n = loop->context;
	struct mono now = mono_now();

	poll_meter_enter(&n->meter, now);
	if (!n->placed)
		take_core(n);
	n->event_count = 0;
	do {
		turn(n, until);
		now = mono_now();
		/* TCP's loop does not sleep while it has something to do. */
		if (now.ns - n->looked_ns >= SOCKETS_LOOK_NS)
			look_at_sockets(n, now);
		note_work(n, now);
		watch_link(n, now);
		count(n, now);
	} while (n->event_count == 0 && mono_before(now, until) &&
		 !atomic_load_explicit(&n->woken, memory_order_relaxed));
	/* Acquires what the waker wrote before it called. */
	if (atomic_load_explicit(&n->woken, memory_order_relaxed))
		(void)atomic_exchange(&n->woken, false);
	poll_meter_leave(&n->meter, now, 1);
	return n->event_count;
}

static void nic_loop_wake(struct stream_loop *loop)
{
	wake_loop(loop->context);
}

/* Whose stream it is; *id as it is known there. */
static struct stream_loop *loop_of(struct stream_nic *n, struct stream_id *id)
{
	if (id->index < n->tcp_count)
		return &n->tcp;
	id->index -= n->tcp_count;
	return &n->sockets;
}

static int nic_loop_send(struct stream_loop *loop, struct stream_id id,
	const struct stream_segment *segments, uint32_t segment_count)
{
	struct stream_nic *n = loop->context;
	struct stream_loop *own = loop_of(n, &id);

	n->worked = true;
	return own->ops->send(own, id, segments, segment_count);
}

static void nic_loop_ahead(const struct stream_loop *loop, uint32_t index)
{
	const struct stream_nic *n = loop->context;

	if (index < n->tcp_count)
		n->tcp.ops->ahead(&n->tcp, index);
}

static size_t nic_loop_room(const struct stream_loop *loop, struct stream_id id)
{
	struct stream_loop *own = loop_of(loop->context, &id);

	return own->ops->room(own, id);
}

static int nic_loop_want(
	struct stream_loop *loop, struct stream_id id, size_t want)
{
	struct stream_loop *own = loop_of(loop->context, &id);

	return own->ops->want(own, id, want);
}

static int nic_loop_resume(struct stream_loop *loop, struct stream_id id)
{
	struct stream_loop *own = loop_of(loop->context, &id);

	return own->ops->resume(own, id);
}

static int nic_loop_close(struct stream_loop *loop, struct stream_id id)
{
	struct stream_loop *own = loop_of(loop->context, &id);

	return own->ops->close(own, id);
}

static int nic_loop_abort(struct stream_loop *loop, struct stream_id id)
{
	struct stream_loop *own = loop_of(loop->context, &id);

	return own->ops->abort(own, id);
}

static void nic_loop_drain(struct stream_loop *loop)
{
	struct stream_nic *n = loop->context;

	n->tcp.ops->drain(&n->tcp);
	n->sockets.ops->drain(&n->sockets);
}

static int nic_loop_identify(struct stream_loop *loop,
	const struct stream_identity *identity, struct error *err)
{
	struct stream_nic *n = loop->context;

	return n->tcp.ops->identify(&n->tcp, identity, err);
}

static void destroy_group(struct stream_nic_group *group)
{
	if (!group)
		return;
	for (uint32_t i = 0; i < NIC_QUEUE_COUNT_MAX; i++)
		for (uint32_t k = 0; k < NIC_QUEUE_COUNT_MAX; k++)
			frame_ring_destroy(group->rings[i][k]);
	free(group);
}

static void nic_loop_destroy(struct stream_loop *loop)
{
	struct stream_nic *n = loop->context;

	if (!n)
		return;
	if (n->tcp.ops)
		n->tcp.ops->destroy(&n->tcp);
	if (n->sockets.ops)
		n->sockets.ops->destroy(&n->sockets);
	nic_close(n->nic);
	if (n->queue == 0)
		destroy_group(n->group);
	free(n);
	loop->context = NULL;
}

static const struct stream_ops stream_nic_ops = {
	.name = "dpdk",
	.poll = nic_loop_poll,
	.send = nic_loop_send,
	.room = nic_loop_room,
	.ahead = nic_loop_ahead,
	.want = nic_loop_want,
	.resume = nic_loop_resume,
	.close = nic_loop_close,
	.abort = nic_loop_abort,
	.drain = nic_loop_drain,
	.identify = nic_loop_identify,
	.wake = nic_loop_wake,
	.destroy = nic_loop_destroy,
};

uint64_t stream_nic_busy_turns(const struct stream_loop *loop)
{
	const struct stream_nic *n = stream_tls_below(loop)->context;

	return n->busy_count;
}

struct net_stack *stream_nic_stack(const struct stream_loop *loop)
{
	const struct stream_nic *n = stream_tls_below(loop)->context;

	return stream_tcp_stack(&n->tcp);
}

/* --- create --- */

/* The part of the limits that `count` streams have. */
static struct stream_limits part_of(
	const struct stream_limits *all, uint32_t stream_count)
{
	struct stream_limits part = *all;

	assert(all->stream_count > 0);
	part.total_bytes = all->total_bytes / all->stream_count * stream_count;
	part.stream_count = stream_count;
	return part;
}

static int open_tcp(struct stream_nic *n,
	const struct stream_nic_config *config, struct error *err)
{
	const struct stream_nic_link *link = &config->link;
	struct stream_tcp_config tcp = {
		.net = {.vlan = link->vlan,
			.mtu_bytes = link->port.mtu_bytes,
			.prefix4_bits = link->prefix4_bits,
			.prefix6_bits = link->prefix6_bits,
			.ip6_announce = true,
			.device = {.arg = n,
				.frame_get = port_frame_get,
				.frame_send = port_frame_send}},
		.port = {n, port_frames, port_wait, port_wake},
		.limits = part_of(&config->limits, n->tcp_count),
		.meter = &n->meter,
		.handler = on_tcp,
		.arg = n};
	struct nic_facts facts;

	if (n->group)
		tcp.net.peers = (struct net_peers){.arg = n,
			.count = n->group->count - 1,
			.follows = n->queue > 0,
			.tell = tell_peers,
			.pass = pass_on};
	nic_get_facts(n->nic, &facts);
	memcpy(tcp.net.mac, facts.mac, sizeof(facts.mac));
	memcpy(tcp.net.ip4, link->ip4, 4);
	memcpy(tcp.net.gateway4, link->gateway4, 4);
	memcpy(tcp.net.ip6, link->ip6, 16);
	memcpy(tcp.net.gateway6, link->gateway6, 16);
	tcp.net.device.checksums = facts.checksums_out;
	tcp.net.device.tso_bytes = facts.tso_bytes;
	if (getrandom(tcp.net.secret, sizeof(tcp.net.secret), 0) !=
		sizeof(tcp.net.secret))
		return error_set(err, EIO, "no random numbers");
	for (uint32_t i = 0; i < config->listener_count; i++) {
		if (config->listeners[i].fd >= 0)
			continue;
		n->tcp_listeners[tcp.listener_count] = i;
		tcp.listen_ports[tcp.listener_count++] =
			config->listeners[i].tcp_port;
	}
	return stream_tcp_create(&tcp, &n->tcp, err);
}

static int open_sockets(struct stream_nic *n,
	const struct stream_nic_config *config, struct error *err)
{
	struct stream_kernel_config kernel = {
		.limits = part_of(&config->limits,
			config->limits.stream_count - n->tcp_count),
		.sleeps_only = config->queue > 0,
		.handler = on_socket,
		.arg = n};

	/* Nobody's stream, which has to have room all the same. */
	if (config->queue > 0)
		kernel.limits.total_bytes =
			4 * (kernel.limits.send_bytes +
				    kernel.limits.receive_bytes);
	for (uint32_t i = 0; i < config->listener_count; i++) {
		if (config->listeners[i].fd < 0)
			continue;
		n->socket_listeners[kernel.listener_count] = i;
		kernel.listeners[kernel.listener_count++].fd =
			config->listeners[i].fd;
	}
	kernel.wake_fd = config->wake_fd;
	kernel.bell_fd = nic_event_fd(n->nic);
	n->has_bell = kernel.bell_fd >= 0;
	return stream_kernel_create(&kernel, &n->sockets, err);
}

static uint32_t socket_share(const struct stream_limits *limits)
{
	uint32_t share = limits->stream_count / SOCKET_STREAM_SHARE;

	if (share > SOCKET_STREAM_COUNT_MAX)
		return SOCKET_STREAM_COUNT_MAX;
	return share ? share : 1;
}

static int check(const struct stream_nic_config *config, struct error *err)
{
	uint32_t sockets = 0;

	if (config->listener_count > STREAM_LISTENER_COUNT_MAX)
		return error_set(err, EINVAL, "too many listeners");
	for (uint32_t i = 0; i < config->listener_count; i++)
		sockets += config->listeners[i].fd >= 0;
	if (config->queue > 0 && sockets > 0)
		return error_set(err, EINVAL,
			"sockets are the first loop's of a polled port");
	if (sockets == 0 && config->queue == 0)
		return error_set(err, EINVAL,
			"a polled port needs a socket beside it: admin");
	if (config->limits.stream_count < 2)
		return error_set(err, EINVAL,
			"a polled port needs two connections at least");
	return 0;
}

static int make_group(struct stream_nic *n, uint32_t count, struct error *err)
{
	struct stream_nic_group *group = calloc(1, sizeof(*group));
	bool made = group;

	n->group = group;
	for (uint32_t i = 0; made && i < count; i++)
		for (uint32_t k = 0; made && k < count; k++) {
			if (i == k)
				continue;
			group->rings[i][k] = frame_ring_create();
			made = group->rings[i][k];
		}
	if (!made)
		return error_set(err, ENOMEM, "no memory for the loops");
	group->count = count;
	return 0;
}

/* The first loop's port, or its part of it. */
static int open_port(struct stream_nic *n,
	const struct stream_nic_config *config, struct error *err)
{
	uint32_t count = config->link.port.queue_count;
	int rc = 0;

	if (config->queue > 0) {
		const struct stream_nic *first =
			stream_tls_below(config->first)->context;

		n->group = first->group;
		n->nic = nic_open_queue(first->nic, config->queue);
	} else {
		rc = nic_open(&config->link.port, &n->nic, err);
		if (rc == 0 && count > 1)
			rc = make_group(n, count, err);
	}
	if (rc == 0 && n->group)
		n->group->loops[n->queue] = n;
	return rc;
}

/* Without TLS. */
static int create(const struct stream_nic_config *config,
	struct stream_loop *out, struct error *err)
{
	struct stream_loop loop = {
		.ops = &stream_nic_ops, .spin_ns = config->link.spin_ns};
	struct stream_nic *n;
	int rc;

	n = calloc(1, sizeof(*n));
	if (!n)
		return error_set(err, ENOMEM, "no memory for the loop");
	n->handler = config->handler;
	n->arg = config->arg;
	n->core = config->link.cores[config->queue];
	n->sleep_ns = config->link.sleep_ns;
	n->counters = config->counters;
	if (n->counters)
		n->before = *n->counters;
	poll_meter_init(&n->meter, config->poll);
	n->capture = config->capture;
	n->queue = config->queue;
	n->tcp_count = config->limits.stream_count -
		       (config->queue ? 1 : socket_share(&config->limits));
	loop.context = n;
	rc = open_port(n, config, err);
	if (rc == 0)
		rc = open_tcp(n, config, err);
	/* Last: with an error the listening sockets stay the caller's. */
	if (rc == 0)
		rc = open_sockets(n, config, err);
	if (rc) {
		nic_loop_destroy(&loop);
		return rc;
	}
	*out = loop;
	return 0;
}

static uint32_t tls_listeners(const struct stream_nic_config *config)
{
	uint32_t listeners = 0;

	for (uint32_t i = 0; i < config->listener_count; i++)
		if (config->listeners[i].tls)
			listeners |= 1u << i;
	return listeners;
}

static int create_below(const void *of, const struct stream_limits *limits,
	struct stream_tls *tls, struct stream_loop *out, struct error *err)
{
	struct stream_nic_config config = *(const struct stream_nic_config *)of;

	config.limits = *limits;
	config.handler = stream_tls_event;
	config.arg = tls;
	return create(&config, out, err);
}

/* The port and the sockets, and TLS on top of both. */
static int create_tls(const struct stream_nic_config *config,
	uint32_t listeners, struct stream_loop *out, struct error *err)
{
	const struct stream_tls_config tls_config = {
		.identity = config->identity,
		.limits = config->limits,
		.listeners = listeners,
		.handler = config->handler,
		.arg = config->arg};

	return stream_tls_over(&tls_config, create_below, config, out, err);
}

int stream_nic_create(const struct stream_nic_config *config,
	struct stream_loop *out, struct error *err)
{
	int rc = check(config, err);
	uint32_t listeners;

	if (rc)
		return rc;
	listeners = tls_listeners(config);
	return listeners ? create_tls(config, listeners, out, err)
			 : create(config, out, err);
}
