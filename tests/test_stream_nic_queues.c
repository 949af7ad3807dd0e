/* test_stream_nic_queues.c - two loops of one polled port, each with a queue */
/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The port is the test's own: it gives a client's frames to a queue by the
 * client's TCP port, all else to the first queue. Clients are liblwip's. Each
 * loop has a thread of its own, this one is the network.
 */
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/clock.h"
#include "dataplane/frame_ring.h"
#include "dataplane/stream_nic.h"
#include "tests/lwip_host.h"
#include "tests/pattern.h"
#include "tests/suite.h"

#define QUEUE_COUNT 2
#define FRAME_COUNT 1024
#define FRAME_BYTES 1600
#define TCP_PORT 8080
#define STREAM_COUNT 32
#define CLIENT_COUNT 12
#define TOTAL_BYTES 40000
#define PATIENCE_NS (60 * NS_PER_S)

/* --- the port --- */

struct frames {
	uint8_t bytes[FRAME_COUNT][FRAME_BYTES];
	size_t lengths[FRAME_COUNT];
	uint32_t head, tail; /* guarded by the lock */
};

struct nic {
	struct frames in, out;
	uint8_t lent[NET_BURST_COUNT_MAX][FRAME_BYTES];
	uint8_t given[FRAME_BYTES];
	uint64_t in_count;
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct nic queues[QUEUE_COUNT];
static uint32_t open_count;
static bool moved; /* each flow comes to the other queue */

static void put(struct frames *f, const uint8_t *frame, size_t length)
{
	uint32_t at = f->tail % FRAME_COUNT;

	if (f->tail - f->head == FRAME_COUNT || length > FRAME_BYTES)
		return;
	memcpy(f->bytes[at], frame, length);
	f->lengths[at] = length;
	f->tail++;
}

/* False: none is there. */
static bool get(struct frames *f, uint8_t *out, size_t *out_length)
{
	uint32_t at = f->head % FRAME_COUNT;

	if (f->head == f->tail)
		return false;
	*out_length = f->lengths[at];
	memcpy(out, f->bytes[at], *out_length);
	f->head++;
	return true;
}

bool nic_is_built(void)
{
	return true;
}

int nic_open(
	const struct nic_config *config, struct nic **out, struct error *err)
{
	(void)err;
	CU_ASSERT_EQUAL(config->queue_count, QUEUE_COUNT);
	memset(queues, 0, sizeof(queues));
	open_count++;
	*out = &queues[0];
	return 0;
}

struct nic *nic_open_queue(struct nic *first, uint32_t queue)
{
	CU_ASSERT_FATAL(first == &queues[0] && queue < QUEUE_COUNT);
	open_count++;
	return &queues[queue];
}

void nic_enter(struct nic *nic)
{
	(void)nic;
}

void nic_close(struct nic *nic)
{
	open_count -= nic != NULL;
	/* The first one ends the port. */
	CU_ASSERT(nic != &queues[0] || open_count == 0);
}

void nic_get_facts(const struct nic *nic, struct nic_facts *out)
{
	(void)nic;
	*out = (struct nic_facts){.mac = {2, 0, 0, 0, 0, 1}};
}

uint32_t nic_receive(struct nic *nic, struct net_frame *out, uint32_t max)
{
	uint32_t count = 0;

	pthread_mutex_lock(&lock);
	while (count < max &&
		get(&nic->in, nic->lent[count], &out[count].length)) {
		out[count] = (struct net_frame){
			.bytes = nic->lent[count], .length = out[count].length};
		count++;
	}
	nic->in_count += count;
	pthread_mutex_unlock(&lock);
	return count;
}

uint8_t *nic_frame_get(struct nic *nic, size_t size)
{
	return size <= FRAME_BYTES ? nic->given : NULL;
}

/* NOLINTNEXTLINE(readability-non-const-parameter): nic.h's */
void nic_frame_send(struct nic *nic, uint8_t *frame, size_t length,
	const struct net_offload *offload)
{
	CU_ASSERT_EQUAL(offload->checksum_start, 0);
	pthread_mutex_lock(&lock);
	put(&nic->out, frame, length);
	pthread_mutex_unlock(&lock);
}

bool nic_flush(struct nic *nic)
{
	(void)nic;
	return true;
}

bool nic_watch(struct nic *nic)
{
	(void)nic;
	return false;
}

int nic_event_fd(const struct nic *nic)
{
	(void)nic;
	return -1;
}

bool nic_arm(struct nic *nic)
{
	(void)nic;
	return false;
}

void nic_disarm(struct nic *nic)
{
	(void)nic;
}

void nic_get_numbers(struct nic *nic, struct nic_numbers *out)
{
	pthread_mutex_lock(&lock);
	*out = (struct nic_numbers){.in_frames = nic->in_count,
		.port_count = 1,
		.link_up = nic == &queues[0]};
	pthread_mutex_unlock(&lock);
}

uint32_t nic_buffers_out(const struct nic *nic)
{
	(void)nic;
	return 0;
}

/* By the client's port; what has none comes to the first. */
static uint32_t queue_of(const uint8_t *frame, size_t length)
{
	bool tcp = length > 36 && frame[12] == 8 && frame[13] == 0 &&
		   frame[23] == IPPROTO_TCP;

	return tcp ? (frame[35] ^ (uint32_t)moved) % QUEUE_COUNT : 0;
}

static void from_client(void *arg, const uint8_t *frame, size_t length)
{
	(void)arg;
	pthread_mutex_lock(&lock);
	put(&queues[queue_of(frame, length)].in, frame, length);
	pthread_mutex_unlock(&lock);
}

/* --- the loops: an echo each --- */

struct echo {
	struct stream_loop loop;
	struct nic_counters counters;
	struct poll_counters poll;
	pthread_t thread;
	_Atomic bool ends;
	_Atomic uint32_t opened_count, reset_count;
};

static size_t on_event(void *arg, const struct stream_event *event)
{
	struct echo *e = arg;
	struct stream_segment all = {event->data, event->length, false};

	switch (event->kind) {
	case STREAM_OPENED:
		e->opened_count++;
		return 0;
	case STREAM_DATA:
		if (e->loop.ops->send(&e->loop, event->id, &all, 1) == 0)
			return event->length;
		(void)e->loop.ops->want(&e->loop, event->id, event->length);
		return 0;
	case STREAM_WRITABLE:
		(void)e->loop.ops->resume(&e->loop, event->id);
		return 0;
	case STREAM_PEER_DONE:
		(void)e->loop.ops->close(&e->loop, event->id);
		return 0;
	case STREAM_CLOSED:
		e->reset_count += event->end != STREAM_END_CLEAN;
		return 0;
	default:
		return 0;
	}
}

static int listening(void)
{
	struct sockaddr_in in = {.sin_family = AF_INET,
		.sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

	CU_ASSERT_FATAL(fd >= 0 &&
			bind(fd, (struct sockaddr *)&in, sizeof(in)) == 0 &&
			listen(fd, 16) == 0);
	return fd;
}

static struct stream_nic_config make_config(
	struct echo *e, uint32_t queue, const struct echo *first)
{
	struct stream_nic_config config = {
		.link = {.port = {.device = "fake0",
				 .mtu_bytes = 1500,
				 .queue_count = QUEUE_COUNT},
			.ip4 = {10, 0, 0, 1},
			.prefix4_bits = 24,
			.cores = {-1, -1},
			.sleep_ns = NS_PER_MS},
		.queue = queue,
		.first = &first->loop,
		.listeners = {{.fd = -1, .tcp_port = TCP_PORT}},
		.listener_count = 1,
		.limits = {.stream_count = STREAM_COUNT,
			.send_bytes = 16384,
			.receive_bytes = 4096,
			.total_bytes = STREAM_COUNT * (size_t)65536,
			.user_timeout_ns = PATIENCE_NS},
		.counters = &e->counters,
		.poll = &e->poll,
		.handler = on_event,
		.arg = e};

	if (queue == 0)
		config.listeners[config.listener_count++] =
			(struct stream_nic_listener){.fd = listening()};
	return config;
}

static void *run(void *arg)
{
	struct echo *e = arg;

	while (!e->ends)
		(void)e->loop.ops->poll(
			&e->loop, mono_add(mono_now(), 10 * NS_PER_MS));
	return NULL;
}

static void begin(struct echo loops[QUEUE_COUNT])
{
	moved = false;
	lwip_host_clear();
	for (uint32_t i = 0; i < QUEUE_COUNT; i++) {
		struct stream_nic_config config =
			make_config(&loops[i], i, &loops[0]);
		struct error err = {0};
		int rc = stream_nic_create(&config, &loops[i].loop, &err);

		if (rc)
			printf("\n%s\n", err.text);
		CU_ASSERT_EQUAL_FATAL(rc, 0);
	}
	for (uint32_t i = 0; i < QUEUE_COUNT; i++)
		CU_ASSERT_EQUAL_FATAL(
			pthread_create(&loops[i].thread, NULL, run, &loops[i]),
			0);
}

static void end(struct echo loops[QUEUE_COUNT])
{
	for (uint32_t i = 0; i < QUEUE_COUNT; i++) {
		loops[i].ends = true;
		loops[i].loop.ops->wake(&loops[i].loop);
	}
	for (uint32_t i = 0; i < QUEUE_COUNT; i++)
		pthread_join(loops[i].thread, NULL);
	for (uint32_t i = QUEUE_COUNT; i-- > 0;)
		loops[i].loop.ops->destroy(&loops[i].loop);
	CU_ASSERT_EQUAL(open_count, 0);
}

/* --- the network, and clients --- */

static void turn_network(void)
{
	uint8_t frame[FRAME_BYTES];
	size_t length;
	bool some;

	lwip_host_set_time(mono_now().ns);
	lwip_host_poll();
	for (uint32_t i = 0; i < QUEUE_COUNT; i++) {
		do {
			pthread_mutex_lock(&lock);
			some = get(&queues[i].out, frame, &length);
			pthread_mutex_unlock(&lock);
			if (some)
				lwip_host_input(frame, length);
		} while (some);
	}
}

struct client {
	int number;
	uint64_t seed;
	size_t sent, received;
};

static void connect_all(struct client *clients, uint32_t count)
{
	struct mono patience = mono_add(mono_now(), PATIENCE_NS);

	for (uint32_t i = 0; i < count; i++) {
		clients[i] = (struct client){
			.number = lwip_client_connect(TCP_PORT), .seed = i};
		CU_ASSERT_FATAL(clients[i].number >= 0);
	}
	for (uint32_t i = 0; i < count; i++) {
		while (lwip_client_state(clients[i].number) == 0 &&
			mono_before(mono_now(), patience))
			turn_network();
		CU_ASSERT_EQUAL_FATAL(lwip_client_state(clients[i].number), 1);
	}
}

static void exchange_some(struct client *c, size_t end)
{
	uint8_t piece[3000];
	size_t length = sizeof(piece);
	long got;

	if (length > end - c->sent)
		length = end - c->sent;
	pattern_fill(c->seed, c->sent, piece, length);
	got = length ? lwip_client_send(c->number, piece, length) : 0;
	c->sent += got > 0 ? (size_t)got : 0;
	got = lwip_client_receive(c->number, piece, sizeof(piece));
	if (got <= 0)
		return;
	CU_ASSERT_FATAL(
		pattern_matches(c->seed, c->received, piece, (size_t)got));
	c->received += (size_t)got;
}

/* Until all has come back; false: not in time. */
static bool exchange(struct client *clients, uint32_t count, size_t end)
{
	struct mono patience = mono_add(mono_now(), PATIENCE_NS);
	uint32_t whole = 0;

	while (whole < count && mono_before(mono_now(), patience)) {
		whole = 0;
		for (uint32_t i = 0; i < count; i++) {
			exchange_some(&clients[i], end);
			whole += clients[i].received == end;
		}
		turn_network();
	}
	return whole == count;
}

/* --- cases --- */

static void test_queues__each_loop_serves_what_comes_to_it(void)
{
	static struct echo loops[QUEUE_COUNT];
	struct client clients[CLIENT_COUNT];

	memset(loops, 0, sizeof(loops));
	begin(loops);
	connect_all(clients, CLIENT_COUNT);
	CU_ASSERT(exchange(clients, CLIENT_COUNT, TOTAL_BYTES));
	end(loops);
	CU_ASSERT_EQUAL(
		loops[0].opened_count + loops[1].opened_count, CLIENT_COUNT);
	CU_ASSERT(loops[0].opened_count > 0 && loops[1].opened_count > 0);
	CU_ASSERT_EQUAL(loops[0].reset_count + loops[1].reset_count, 0);
}

/* A connection whose segments come to the other queue goes on. */
static void test_queues__a_flow_that_moves_goes_on(void)
{
	static struct echo loops[QUEUE_COUNT];
	struct client clients[CLIENT_COUNT];
	struct mono patience;

	memset(loops, 0, sizeof(loops));
	begin(loops);
	connect_all(clients, CLIENT_COUNT);
	CU_ASSERT(exchange(clients, CLIENT_COUNT, TOTAL_BYTES / 2));
	moved = true;
	CU_ASSERT(exchange(clients, CLIENT_COUNT, TOTAL_BYTES));
	patience = mono_add(mono_now(), PATIENCE_NS);
	/* Counted ten times a second. */
	while ((counter_read(&loops[0].counters.passed_total) == 0 ||
		       counter_read(&loops[1].counters.passed_total) == 0) &&
		mono_before(mono_now(), patience))
		turn_network();
	end(loops);
	CU_ASSERT_EQUAL(loops[0].reset_count + loops[1].reset_count, 0);
	CU_ASSERT_EQUAL(
		loops[0].opened_count + loops[1].opened_count, CLIENT_COUNT);
	CU_ASSERT(loops[0].counters.passed_total > 0);
	CU_ASSERT(loops[1].counters.passed_total > 0);
	CU_ASSERT(loops[0].counters.handed_total > 0);
	CU_ASSERT(loops[1].counters.handed_total > 0);
}

#define RING_FRAMES 20000

static void *push_frames(void *arg)
{
	struct frame_ring *ring = arg;
	uint8_t frame[FRAME_BYTES];

	for (uint32_t i = 0; i < RING_FRAMES;) {
		size_t length =
			1 + i * UINT64_C(2654435761) % (FRAME_BYTES - 1);

		pattern_fill(i, 0, frame, length);
		if (frame_ring_push(ring, frame, length, i))
			i++;
		else
			sched_yield();
	}
	return NULL;
}

static void test_frame_ring__frames_in_their_order(void)
{
	struct frame_ring *ring = frame_ring_create();
	pthread_t thread;
	uint32_t count = 0, tag = 0;
	size_t length = 0;

	CU_ASSERT_PTR_NOT_NULL_FATAL(ring);
	CU_ASSERT_EQUAL_FATAL(
		pthread_create(&thread, NULL, push_frames, ring), 0);
	while (count < RING_FRAMES) {
		const uint8_t *frame;

		while ((frame = frame_ring_peek(ring, &length, &tag))) {
			CU_ASSERT_EQUAL_FATAL(tag, count);
			CU_ASSERT_FATAL(
				pattern_matches(count, 0, frame, length));
			count++;
		}
		frame_ring_release(ring);
		sched_yield();
	}
	pthread_join(thread, NULL);
	CU_ASSERT(frame_ring_is_empty(ring));
	frame_ring_destroy(ring);
}

static void test_frame_ring__a_full_one_refuses(void)
{
	static const uint8_t frame[FRAME_RING_FRAME_BYTES_MAX + 1];
	struct frame_ring *ring = frame_ring_create();
	uint32_t count = 0, tag;
	size_t length;

	CU_ASSERT_PTR_NOT_NULL_FATAL(ring);
	CU_ASSERT_FALSE(frame_ring_push(ring, frame, sizeof(frame), 0));
	while (frame_ring_push(ring, frame, 1000, 7))
		count++;
	CU_ASSERT_EQUAL(count, FRAME_RING_BYTES / 1008);
	CU_ASSERT_FALSE(frame_ring_is_empty(ring));
	/* What was seen is not given back before it is released. */
	CU_ASSERT_PTR_NOT_NULL(frame_ring_peek(ring, &length, &tag));
	CU_ASSERT(length == 1000 && tag == 7);
	CU_ASSERT_FALSE(frame_ring_push(ring, frame, 1000, 7));
	frame_ring_release(ring);
	CU_ASSERT(frame_ring_push(ring, frame, 800, 8));
	frame_ring_destroy(ring);
}

static const struct suite_case cases[] = {
	SUITE_CASE(queues__each_loop_serves_what_comes_to_it),
	SUITE_CASE(queues__a_flow_that_moves_goes_on),
	SUITE_CASE(frame_ring__frames_in_their_order),
	SUITE_CASE(frame_ring__a_full_one_refuses),
};

int main(void)
{
	if (!lwip_host_start(from_client, NULL)) {
		puts("SKIP: no liblwip.so.0 here");
		return 77;
	}
	return SUITE_MAIN("stream_nic_queues", cases);
}
