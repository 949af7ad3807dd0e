/* test_stream_nic.c - the streams of a polled port and of sockets in one loop */
/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The port is the test's own: two queues of frames to liblwip, whose clients
 * connect to it. Sockets are the kernel's. All on this thread.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/clock.h"
#include "dataplane/stream_nic.h"
#include "tests/lwip_host.h"
#include "tests/pattern.h"
#include "tests/suite.h"

#define FRAME_COUNT 1024
#define FRAME_BYTES 1600
#define TCP_PORT 8080
#define STREAM_COUNT 32
#define SOCKET_STREAMS 2 /* a sixteenth of them */
#define TOTAL_BYTES 50000
#define PATIENCE_NS (20 * NS_PER_S)

/* --- the port --- */

struct frames {
	uint8_t bytes[FRAME_COUNT][FRAME_BYTES];
	size_t lengths[FRAME_COUNT];
	uint32_t head, tail;
	uint32_t lent; /* of those from head on: the next call ends that */
};

static struct {
	struct frames in, out;
	uint8_t given[FRAME_BYTES];
	uint32_t open_count;
	uint64_t in_count, out_count;
	bool fails, stuck;
	bool moves; /* the other port has taken over */
	bool deaf; /* it cannot tell of frames */
	int bell_fd;
	uint32_t disarm_count;
} port = {.bell_fd = -1};

static void put(struct frames *f, const uint8_t *frame, size_t length)
{
	uint32_t at = f->tail % FRAME_COUNT;

	if (f->tail - f->head == FRAME_COUNT || length > FRAME_BYTES)
		return;
	memcpy(f->bytes[at], frame, length);
	f->lengths[at] = length;
	f->tail++;
}

bool nic_is_built(void)
{
	return true;
}

int nic_open(
	const struct nic_config *config, struct nic **out, struct error *err)
{
	static char place;

	*out = NULL;
	if (port.fails)
		return error_set(err, ENODEV, "%s: gone", config->device);
	port.open_count++;
	*out = (struct nic *)&place;
	return 0;
}

struct nic *nic_open_queue(struct nic *first, uint32_t queue)
{
	(void)queue;
	return first;
}

void nic_enter(struct nic *nic)
{
	(void)nic;
}

void nic_close(struct nic *nic)
{
	port.open_count -= nic != NULL;
}

void nic_get_facts(const struct nic *nic, struct nic_facts *out)
{
	(void)nic;
	*out = (struct nic_facts){.mac = {2, 0, 0, 0, 0, 1}};
}

uint32_t nic_receive(struct nic *nic, struct net_frame *out, uint32_t max)
{
	struct frames *f = &port.in;

	(void)nic;
	f->head += f->lent;
	f->lent = 0;
	while (f->lent < max && f->head + f->lent != f->tail) {
		uint32_t at = (f->head + f->lent) % FRAME_COUNT;

		out[f->lent++] = (struct net_frame){
			.bytes = f->bytes[at], .length = f->lengths[at]};
		port.in_count++;
	}
	return f->lent;
}

uint8_t *nic_frame_get(struct nic *nic, size_t size)
{
	(void)nic;
	return size <= FRAME_BYTES ? port.given : NULL;
}

/* NOLINTNEXTLINE(readability-non-const-parameter): nic.h's */
void nic_frame_send(struct nic *nic, uint8_t *frame, size_t length,
	const struct net_offload *offload)
{
	(void)nic;
	CU_ASSERT_EQUAL(offload->checksum_start, 0);
	put(&port.out, frame, length);
}

bool nic_flush(struct nic *nic)
{
	struct frames *f = &port.out;

	(void)nic;
	for (; !port.stuck && f->head != f->tail; f->head++) {
		uint32_t at = f->head % FRAME_COUNT;

		port.out_count++;
		lwip_host_input(f->bytes[at], f->lengths[at]);
	}
	return f->head == f->tail;
}

bool nic_watch(struct nic *nic)
{
	bool moved = port.moves;

	(void)nic;
	port.moves = false;
	return moved;
}

int nic_event_fd(const struct nic *nic)
{
	(void)nic;
	return port.bell_fd;
}

bool nic_arm(struct nic *nic)
{
	(void)nic;
	return !port.deaf;
}

void nic_disarm(struct nic *nic)
{
	(void)nic;
	port.disarm_count++;
}

void nic_get_numbers(struct nic *nic, struct nic_numbers *out)
{
	(void)nic;
	*out = (struct nic_numbers){.in_frames = port.in_count,
		.out_frames = port.out_count,
		.port_count = 1,
		.link_up = true};
}

uint32_t nic_buffers_out(const struct nic *nic)
{
	(void)nic;
	return 0;
}

static void from_client(void *arg, const uint8_t *frame, size_t length)
{
	(void)arg;
	put(&port.in, frame, length);
}

/* --- the loop: an echo --- */

struct echo {
	struct stream_loop loop;
	struct nic_counters counters;
	struct poll_counters poll;
	uint16_t socket_port;
	int wake_fd;
	uint32_t opened[2], closed_count; /* by listener */
	uint32_t index[2]; /* of the stream that a listener opened last */
};

static size_t on_event(void *arg, const struct stream_event *event)
{
	struct echo *e = arg;
	struct stream_segment all = {event->data, event->length, false};

	switch (event->kind) {
	case STREAM_OPENED:
		CU_ASSERT_FATAL(event->listener < 2);
		e->opened[event->listener]++;
		e->index[event->listener] = event->id.index;
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
	default:
		e->closed_count++;
		return 0;
	}
}

static int listening(uint16_t *out_port)
{
	struct sockaddr_in in = {.sin_family = AF_INET,
		.sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	socklen_t length = sizeof(in);
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

	CU_ASSERT_FATAL(fd >= 0 &&
			bind(fd, (struct sockaddr *)&in, length) == 0 &&
			listen(fd, 16) == 0 &&
			getsockname(fd, (struct sockaddr *)&in, &length) == 0);
	*out_port = ntohs(in.sin_port);
	return fd;
}

static struct stream_nic_config make_config(struct echo *e)
{
	return (struct stream_nic_config){
		.link = {.port = {.device = "fake0", .mtu_bytes = 1500},
			.ip4 = {10, 0, 0, 1},
			.prefix4_bits = 24,
			.cores = {-1, -1},
			.spin_ns = 12345,
			.sleep_ns = NS_PER_MS},
		.listeners = {{.fd = listening(&e->socket_port)},
			{.fd = -1, .tcp_port = TCP_PORT}},
		.listener_count = 2,
		.wake_fd = e->wake_fd,
		.limits = {.stream_count = STREAM_COUNT,
			.send_bytes = 16384,
			.receive_bytes = 4096,
			.total_bytes = STREAM_COUNT * (size_t)65536,
			.user_timeout_ns = PATIENCE_NS},
		.counters = &e->counters,
		.poll = &e->poll,
		.handler = on_event,
		.arg = e};
}

static void begin(struct echo *e)
{
	struct stream_nic_config config;
	struct error err = {0};
	int rc;

	config = make_config(e);
	rc = stream_nic_create(&config, &e->loop, &err);
	if (rc)
		printf("\n%s\n", err.text);
	CU_ASSERT_EQUAL_FATAL(rc, 0);
	lwip_host_clear();
	port.in.head = port.in.tail = port.in.lent = 0;
}

static void end(struct echo *e)
{
	e->loop.ops->destroy(&e->loop);
	CU_ASSERT_EQUAL(port.open_count, 0);
	port.stuck = false;
}

static void turn(struct echo *e, uint64_t wait_ns)
{
	lwip_host_set_time(mono_now().ns);
	lwip_host_poll();
	(void)e->loop.ops->poll(&e->loop, mono_add(mono_now(), wait_ns));
}

/* --- clients --- */

struct client {
	int fd; /* a socket, or -1: of liblwip */
	int number;
	uint64_t seed;
	size_t sent, received;
};

static long client_send(const struct client *c, const void *data, size_t length)
{
	ssize_t got;

	if (c->fd < 0)
		return lwip_client_send(c->number, data, length);
	got = send(c->fd, data, length, MSG_NOSIGNAL);
	return got < 0 ? -errno : got;
}

static long client_receive(const struct client *c, void *data, size_t length)
{
	ssize_t got;

	if (c->fd < 0)
		return lwip_client_receive(c->number, data, length);
	got = recv(c->fd, data, length, 0);
	return got < 0 ? -errno : got;
}

static struct client connect_port(struct echo *e)
{
	struct client c = {.fd = -1, .seed = 5};
	struct mono patience = mono_add(mono_now(), PATIENCE_NS);

	c.number = lwip_client_connect(TCP_PORT);
	CU_ASSERT_FATAL(c.number >= 0);
	while (lwip_client_state(c.number) == 0 &&
		mono_before(mono_now(), patience))
		turn(e, NS_PER_MS);
	CU_ASSERT_EQUAL_FATAL(lwip_client_state(c.number), 1);
	return c;
}

static struct client connect_socket(const struct echo *e)
{
	struct client c = {.fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0),
		.seed = 6};
	struct sockaddr_in in = {.sin_family = AF_INET,
		.sin_port = htons(e->socket_port),
		.sin_addr.s_addr = htonl(INADDR_LOOPBACK)};

	CU_ASSERT_EQUAL_FATAL(
		connect(c.fd, (struct sockaddr *)&in, sizeof(in)), 0);
	CU_ASSERT_EQUAL(fcntl(c.fd, F_SETFL, O_NONBLOCK), 0);
	return c;
}

static void exchange_some(struct client *c)
{
	uint8_t piece[3000];
	size_t length = sizeof(piece);
	long got;

	if (length > TOTAL_BYTES - c->sent)
		length = TOTAL_BYTES - c->sent;
	pattern_fill(c->seed, c->sent, piece, length);
	got = length ? client_send(c, piece, length) : 0;
	c->sent += got > 0 ? (size_t)got : 0;
	got = client_receive(c, piece, sizeof(piece));
	if (got <= 0)
		return;
	CU_ASSERT_FATAL(
		pattern_matches(c->seed, c->received, piece, (size_t)got));
	c->received += (size_t)got;
}

/* Until all has come back; false: not in time. */
static bool exchange(struct echo *e, struct client *clients, uint32_t count)
{
	struct mono patience = mono_add(mono_now(), PATIENCE_NS);
	uint32_t whole = 0;

	while (whole < count && mono_before(mono_now(), patience)) {
		whole = 0;
		for (uint32_t i = 0; i < count; i++) {
			exchange_some(&clients[i]);
			whole += clients[i].received == TOTAL_BYTES;
		}
		turn(e, NS_PER_MS);
	}
	return whole == count;
}

static void leave(struct client *c)
{
	if (c->fd < 0)
		lwip_client_close(c->number);
	else
		close(c->fd);
}

/* --- cases --- */

static void test_stream_nic__both_kinds_in_one_loop(void)
{
	struct echo e = {.counters.in_frames_total = 1000};
	struct client clients[2];
	struct mono patience;

	begin(&e);
	clients[0] = connect_port(&e);
	clients[1] = connect_socket(&e);
	CU_ASSERT(exchange(&e, clients, 2));
	CU_ASSERT_EQUAL(e.opened[0], 1);
	CU_ASSERT_EQUAL(e.opened[1], 1);
	CU_ASSERT(e.index[1] < STREAM_COUNT - SOCKET_STREAMS);
	CU_ASSERT(e.index[0] >= STREAM_COUNT - SOCKET_STREAMS);
	CU_ASSERT(e.index[0] < STREAM_COUNT);
	leave(&clients[0]);
	leave(&clients[1]);
	patience = mono_add(mono_now(), PATIENCE_NS);
	/* Counted ten times a second. */
	while ((e.closed_count < 2 ||
		       e.counters.segments_in_total <= TOTAL_BYTES / 1500) &&
		mono_before(mono_now(), patience))
		turn(&e, NS_PER_MS);
	CU_ASSERT_EQUAL(e.closed_count, 2);
	/* Counting goes on from an earlier life's, here of 1000 frames. */
	CU_ASSERT(e.counters.in_frames_total >= 1000 + TOTAL_BYTES / 1500);
	CU_ASSERT(e.counters.in_frames_total <= 1000 + port.in_count);
	CU_ASSERT_EQUAL(e.counters.link_up, 1);
	CU_ASSERT(e.counters.segments_in_total > TOTAL_BYTES / 1500);
	CU_ASSERT_EQUAL(e.counters.port_count, 1);
	CU_ASSERT(e.poll.busy_turns_total > 0 && e.poll.bursts_total > 0);
	CU_ASSERT_EQUAL(e.poll.turns_total,
		e.poll.busy_turns_total + e.poll.empty_turns_total);
	for (int i = 0; i < POLL_STAGE_COUNT; i++)
		CU_ASSERT(e.poll.stage_ns_total[i] > 0);
	end(&e);
}

static void test_stream_nic__names_of_dead_streams(void)
{
	const struct stream_segment some = {"x", 1, false};
	const struct stream_id dead[] = {{0, 7}, {STREAM_COUNT - 1, 7},
		{STREAM_COUNT, 1}, {UINT32_MAX, 1}};
	struct echo e = {0};
	const struct stream_ops *ops;

	begin(&e);
	ops = e.loop.ops;
	CU_ASSERT_STRING_EQUAL(ops->name, "dpdk");
	for (size_t i = 0; i < sizeof(dead) / sizeof(dead[0]); i++) {
		CU_ASSERT_EQUAL(
			ops->send(&e.loop, dead[i], &some, 1), -ENOTCONN);
		CU_ASSERT_EQUAL(ops->room(&e.loop, dead[i]), 0);
		CU_ASSERT_EQUAL(ops->want(&e.loop, dead[i], 1), -ENOTCONN);
		CU_ASSERT_EQUAL(ops->resume(&e.loop, dead[i]), -ENOTCONN);
		CU_ASSERT_EQUAL(ops->close(&e.loop, dead[i]), -ENOTCONN);
		CU_ASSERT_EQUAL(ops->abort(&e.loop, dead[i]), -ENOTCONN);
	}
	end(&e);
}

/* What woke it was remembered once: the wait after the next one lasts. */
static void ends_one_wait(struct echo *e)
{
	struct mono until = mono_add(mono_now(), PATIENCE_NS);

	CU_ASSERT_EQUAL(e->loop.ops->poll(&e->loop, until), 0);
	CU_ASSERT(mono_before(mono_now(), until));
	until = mono_add(mono_now(), 5 * NS_PER_MS);
	CU_ASSERT_EQUAL(e->loop.ops->poll(&e->loop, until), 0);
	CU_ASSERT_FALSE(mono_before(mono_now(), until));
}

static void test_stream_nic__a_wake_ends_the_wait(void)
{
	struct echo e = {0};

	begin(&e);
	e.loop.ops->wake(&e.loop);
	ends_one_wait(&e);
	end(&e);
}

/* Others have the descriptor by which the sockets' loop is woken. */
static void test_stream_nic__the_descriptor_ends_the_wait(void)
{
	struct echo e = {.wake_fd = eventfd(0, EFD_CLOEXEC)};

	begin(&e);
	CU_ASSERT_EQUAL(eventfd_write(e.wake_fd, 1), 0);
	ends_one_wait(&e);
	end(&e);
	CU_ASSERT_EQUAL(close(e.wake_fd), 0);
}

static void test_stream_nic__sleeps_only_where_it_may(void)
{
	struct echo e = {0};

	begin(&e);
	CU_ASSERT_EQUAL(e.loop.spin_ns, 12345);
	for (int i = 0; i < 2000; i++)
		turn(&e, 0);
	CU_ASSERT_EQUAL(e.poll.sleep.count, 0);
	turn(&e, 30 * NS_PER_MS);
	CU_ASSERT(e.poll.sleep.count > 0);
	/* Sleeps are of a millisecond at most: there were some. */
	CU_ASSERT(e.poll.sleep.count > 1);
	end(&e);
}

static void test_stream_nic__a_full_port_keeps_it_awake(void)
{
	struct echo e = {0};
	struct client client;
	uint64_t slept;

	begin(&e);
	client = connect_port(&e);
	port.stuck = true;
	for (int i = 0; i < 5; i++) {
		exchange_some(&client);
		turn(&e, 0);
	}
	CU_ASSERT(port.out.head != port.out.tail);
	slept = e.poll.sleep.count;
	turn(&e, 5 * NS_PER_MS);
	CU_ASSERT_EQUAL(e.poll.sleep.count, slept);
	port.stuck = false;
	CU_ASSERT(exchange(&e, &client, 1));
	leave(&client);
	end(&e);
}

/* A frame ends a sleep of any length, where the port can tell. */
static void test_stream_nic__a_port_that_tells_of_frames(void)
{
	struct echo e = {0};
	uint64_t count, value = 1;
	struct mono until;
	int ends[2];

	CU_ASSERT_EQUAL_FATAL(pipe2(ends, O_NONBLOCK | O_CLOEXEC), 0);
	port.bell_fd = ends[0];
	begin(&e);
	turn(&e, 0);
	CU_ASSERT_EQUAL(port.disarm_count, 0);
	/* Sleeps are not of a millisecond now: some few are enough. */
	turn(&e, 30 * NS_PER_MS);
	CU_ASSERT(e.poll.sleep.count >= 1 && e.poll.sleep.count <= 10);
	CU_ASSERT_EQUAL(port.disarm_count, e.poll.sleep.count);
	CU_ASSERT_EQUAL(write(ends[1], &value, sizeof(value)), sizeof(value));
	count = e.poll.sleep.count;
	/* The bell ends each wait at once: far more sleeps in as long. */
	turn(&e, 30 * NS_PER_MS);
	CU_ASSERT(e.poll.sleep.count > count + 10);
	CU_ASSERT_EQUAL(read(ends[0], &value, sizeof(value)), sizeof(value));
	/* One that cannot tell now is looked at as before. */
	port.deaf = true;
	count = e.poll.sleep.count;
	until = mono_add(mono_now(), 30 * NS_PER_MS);
	while (mono_before(mono_now(), until))
		turn(&e, 30 * NS_PER_MS);
	CU_ASSERT(e.poll.sleep.count > count + 1);
	end(&e);
	close(ends[0]);
	close(ends[1]);
	port.bell_fd = -1;
	port.deaf = false;
}

static void test_stream_nic__tells_the_network_where_it_is(void)
{
	struct mono patience = mono_add(mono_now(), PATIENCE_NS);
	struct echo e = {0};
	uint64_t before;

	begin(&e);
	turn(&e, NS_PER_MS);
	before = port.out_count;
	port.moves = true;
	while (port.out_count == before && mono_before(mono_now(), patience))
		turn(&e, 10 * NS_PER_MS);
	CU_ASSERT_FALSE(port.moves);
	CU_ASSERT_EQUAL(port.out_count, before + 1);
	end(&e);
}

/* Refused; the listening socket is still the caller's. */
static void refused(struct stream_nic_config *config, const char *text)
{
	struct stream_loop loop = {0};
	struct error err = {0};

	CU_ASSERT_NOT_EQUAL(stream_nic_create(config, &loop, &err), 0);
	if (!strstr(err.text, text))
		printf("\n%s\n", err.text);
	CU_ASSERT_PTR_NOT_NULL(strstr(err.text, text));
	CU_ASSERT_PTR_NULL(loop.context);
	CU_ASSERT_EQUAL(port.open_count, 0);
	CU_ASSERT_EQUAL(close(config->listeners[0].fd), 0);
}

static void test_stream_nic_create__refuses(void)
{
	struct echo e = {0};
	struct stream_nic_config config = make_config(&e);

	port.fails = true;
	refused(&config, "fake0: gone");
	port.fails = false;
	config = make_config(&e);
	config.limits.stream_count = 1;
	refused(&config, "two connections");
	config = make_config(&e);
	config.limits.receive_bytes = 0;
	refused(&config, "buffers");
	config = make_config(&e);
	config.listener_count = STREAM_LISTENER_COUNT_MAX + 1;
	refused(&config, "too many listeners");
	config = make_config(&e);
	close(config.listeners[0].fd);
	config.listeners[0] = config.listeners[1];
	config.listener_count = 1;
	CU_ASSERT_EQUAL(stream_nic_create(&config, &e.loop, NULL), -EINVAL);
}

/* What waits in the port would be late for timers that run before it. */
static void test_stream_nic__a_turn_takes_all_that_came(void)
{
	static const uint8_t nobodys[60] = {2, 0, 0, 0, 0, 1, [12] = 0x12};
	struct echo e = {0};
	uint64_t before;

	begin(&e);
	for (int i = 0; i < 500; i++)
		put(&port.in, nobodys, sizeof(nobodys));
	before = port.in_count;
	(void)e.loop.ops->poll(&e.loop, (struct mono){0});
	CU_ASSERT_EQUAL(port.in_count - before, 500);
	end(&e);
}

static const struct suite_case cases[] = {
	SUITE_CASE(stream_nic__both_kinds_in_one_loop),
	SUITE_CASE(stream_nic__names_of_dead_streams),
	SUITE_CASE(stream_nic__a_wake_ends_the_wait),
	SUITE_CASE(stream_nic__the_descriptor_ends_the_wait),
	SUITE_CASE(stream_nic__sleeps_only_where_it_may),
	SUITE_CASE(stream_nic__a_full_port_keeps_it_awake),
	SUITE_CASE(stream_nic__a_port_that_tells_of_frames),
	SUITE_CASE(stream_nic__tells_the_network_where_it_is),
	SUITE_CASE(stream_nic__a_turn_takes_all_that_came),
	SUITE_CASE(stream_nic_create__refuses),
};

int main(void)
{
	if (!lwip_host_start(from_client, NULL)) {
		puts("SKIP: no liblwip.so.0 here");
		return 77;
	}
	return SUITE_MAIN("stream_nic", cases);
}
