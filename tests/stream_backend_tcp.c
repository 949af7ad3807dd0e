/* stream_backend_tcp.c - our own TCP for the stream tests, with lwIP's clients */
/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The cases speak to plain sockets. Here those calls are wrapped by the
 * linker: a descriptor above FIRST_FD is a client of liblwip, on a wire that
 * is two queues of frames, in time that passes only when somebody waits.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <sched.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "dataplane/stream_tcp.h"
#include "dataplane/stream_tls.h"
#include "tests/lwip_host.h"
#include "tests/stream_case.h"
#include "tests/suite.h"

#define FIRST_FD 1000000
#define FRAME_COUNT 16384
#define FRAME_BYTES 1600
#define PORT_FIRST 8080
#define BLOCK_TURNS 200000

/* Frames one way; what finds no room is lost. */
struct frames {
	uint8_t bytes[FRAME_COUNT][FRAME_BYTES];
	uint16_t lengths[FRAME_COUNT];
	uint32_t head, tail;
	uint32_t lent; /* of those from head on: the next call ends that */
};

static struct frames to_server, to_clients;
static uint64_t now_ns = NS_PER_S;
static struct stream_loop *loop; /* TCP's, of the one under test */
static bool resets[LWIP_CLIENT_COUNT]; /* SO_LINGER: close resets */
static _Atomic bool woken;

/* --- time: instead of base/clock.c --- */

struct mono mono_now(void)
{
	/* Each look takes a while, so that whoever only looks gets on. */
	now_ns += 200;
	return (struct mono){now_ns};
}

struct mono mono_add(struct mono from, uint64_t ns)
{
	return (struct mono){
		from.ns > UINT64_MAX - ns ? UINT64_MAX : from.ns + ns};
}

uint64_t mono_diff(struct mono later, struct mono earlier)
{
	return later.ns > earlier.ns ? later.ns - earlier.ns : 0;
}

/* --- the wire --- */

static void put(struct frames *f, const uint8_t *frame, size_t length)
{
	uint32_t at = f->tail % FRAME_COUNT;

	if (f->tail - f->head == FRAME_COUNT || length > FRAME_BYTES)
		return;
	memcpy(f->bytes[at], frame, length);
	f->lengths[at] = (uint16_t)length;
	f->tail++;
}

static void from_clients(void *arg, const uint8_t *frame, size_t length)
{
	(void)arg;
	put(&to_server, frame, length);
}

static void pump(void)
{
	lwip_host_set_time(now_ns);
	lwip_host_poll();
	while (to_clients.head != to_clients.tail) {
		uint32_t at = to_clients.head % FRAME_COUNT;

		to_clients.head++;
		lwip_host_input(to_clients.bytes[at], to_clients.lengths[at]);
	}
}

static uint32_t frames_next(void *arg, struct net_frame *out, uint32_t max)
{
	struct frames *f = &to_server;

	(void)arg;
	f->head += f->lent;
	f->lent = 0;
	pump();
	while (f->lent < max && f->head + f->lent != f->tail) {
		uint32_t at = (f->head + f->lent) % FRAME_COUNT;

		out[f->lent++] = (struct net_frame){
			.bytes = f->bytes[at], .length = f->lengths[at]};
	}
	return f->lent;
}

static uint8_t *frame_get(void *arg, size_t size)
{
	static uint8_t frame[FRAME_BYTES];

	(void)arg;
	return size <= sizeof(frame) ? frame : NULL;
}

static void frame_send(void *arg, uint8_t *frame, size_t length,
	const struct net_offload *offload)
{
	(void)arg;
	(void)offload;
	put(&to_clients, frame, length);
}

/* Time jumps to where something happens. */
static void port_wait(void *arg, struct mono until)
{
	uint64_t next;

	(void)arg;
	pump();
	if (to_server.head + to_server.lent != to_server.tail ||
		atomic_exchange(&woken, false)) {
		sched_yield();
		return;
	}
	next = now_ns + lwip_host_sleep_ms() * NS_PER_MS;
	if (next < now_ns + NS_PER_MS)
		next = now_ns + NS_PER_MS;
	if (until.ns < next)
		next = until.ns;
	if (next > now_ns)
		now_ns = next;
	pump();
}

static void port_wake(void *arg)
{
	(void)arg;
	atomic_store(&woken, true);
}

/* What a blocking call does while it blocks: frames, no events. */
static void turn(void)
{
	pump();
	if (loop && loop->context)
		stream_tcp_turn(loop);
	now_ns += 100 * NS_PER_US;
	pump();
}

/* --- sockets: instead of libc's, for clients --- */

int __wrap_socket(int domain, int type, int protocol);
int __wrap_connect(int fd, const struct sockaddr *to, socklen_t length);
int __wrap_setsockopt(
	int fd, int level, int name, const void *value, socklen_t length);
int __wrap_getsockname(int fd, struct sockaddr *out, socklen_t *length);
ssize_t __wrap_send(int fd, const void *data, size_t length, int flags);
ssize_t __wrap_recv(int fd, void *data, size_t length, int flags);
int __wrap_shutdown(int fd, int how);

/* The client comes with connect(), the only socket without one is last. */
static int clients_of[LWIP_CLIENT_COUNT];

int __wrap_socket(int domain, int type, int protocol)
{
	(void)domain;
	(void)type;
	(void)protocol;
	for (int i = 0; i < LWIP_CLIENT_COUNT; i++)
		if (clients_of[i] == 0) {
			clients_of[i] = -1;
			resets[i] = false;
			return FIRST_FD + i;
		}
	errno = EMFILE;
	return -1;
}

static int client_of(int fd)
{
	return clients_of[fd - FIRST_FD] - 1;
}

int __wrap_connect(int fd, const struct sockaddr *to, socklen_t length)
{
	struct sockaddr_in in;
	int client, state = 0;

	(void)length;
	memcpy(&in, to, sizeof(in));
	client = lwip_client_connect(ntohs(in.sin_port));
	CU_ASSERT_FATAL(client >= 0);
	clients_of[fd - FIRST_FD] = client + 1;
	for (int i = 0; i < BLOCK_TURNS && state == 0; i++) {
		turn();
		state = lwip_client_state(client);
	}
	if (state == 1)
		return 0;
	errno = state ? -state : ETIMEDOUT;
	return -1;
}

int __wrap_setsockopt(
	int fd, int level, int name, const void *value, socklen_t length)
{
	(void)value;
	(void)length;
	if (level == SOL_SOCKET && name == SO_LINGER)
		resets[fd - FIRST_FD] = true;
	return 0;
}

int __wrap_getsockname(int fd, struct sockaddr *out, socklen_t *length)
{
	struct sockaddr_in in = {.sin_family = AF_INET,
		.sin_port = htons(lwip_client_port(client_of(fd))),
		.sin_addr.s_addr = htonl(0x0a000002)};

	memcpy(out, &in, sizeof(in));
	*length = sizeof(in);
	return 0;
}

ssize_t __wrap_send(int fd, const void *data, size_t length, int flags)
{
	const uint8_t *from = data;
	size_t sent = 0;
	long got = -EAGAIN;

	for (int i = 0; i < BLOCK_TURNS && sent < length; i++) {
		got = lwip_client_send(
			client_of(fd), from + sent, length - sent);
		if (got > 0)
			sent += (size_t)got;
		if ((flags & MSG_DONTWAIT) || (got < 0 && got != -EAGAIN))
			break;
		turn();
	}
	pump();
	if (sent > 0 || length == 0)
		return (ssize_t)sent;
	errno = (int)-got;
	return -1;
}

ssize_t __wrap_recv(int fd, void *data, size_t length, int flags)
{
	long got = -EAGAIN;

	for (int i = 0; i < BLOCK_TURNS && got == -EAGAIN; i++) {
		pump();
		got = lwip_client_receive(client_of(fd), data, length);
		if (flags & MSG_DONTWAIT)
			break;
		if (got == -EAGAIN)
			turn();
	}
	pump();
	if (got >= 0)
		return got;
	errno = (int)-got;
	return -1;
}

int __wrap_shutdown(int fd, int how)
{
	(void)how;
	lwip_client_shutdown(client_of(fd));
	pump();
	return 0;
}

/* Not wrapped: tests/fake/fake_os.c has that name. */
int close(int fd)
{
	int client;

	if (fd < FIRST_FD)
		return (int)syscall(SYS_close, fd);
	client = client_of(fd);
	if (client >= 0 && resets[fd - FIRST_FD])
		lwip_client_abort(client);
	else if (client >= 0)
		lwip_client_close(client);
	clients_of[fd - FIRST_FD] = 0;
	pump();
	return 0;
}

/* --- the back end --- */

static int create_below(const void *of, const struct stream_limits *limits,
	struct stream_tls *tls, struct stream_loop *out, struct error *err)
{
	static struct stream_loop below;
	struct stream_tcp_config config = *(const struct stream_tcp_config *)of;
	int rc;

	config.limits = *limits;
	config.handler = stream_tls_event;
	config.arg = tls;
	rc = stream_tcp_create(&config, &below, err);
	if (rc)
		return rc;
	*out = below;
	loop = &below;
	return 0;
}

/* TLS on top of it, and TCP's loop in here. */
static int create_tls(const struct stream_setup *setup,
	const struct stream_tcp_config *config, struct stream_loop *out,
	struct error *err)
{
	const struct stream_tls_config tls_config = {
		.identity = {setup->certificate, setup->key,
			setup->certificate ? strlen(setup->certificate) : 0,
			setup->key ? strlen(setup->key) : 0},
		.limits = setup->limits,
		.listeners = UINT32_MAX,
		.handler = setup->handler,
		.arg = setup->arg};

	return stream_tls_over(&tls_config, create_below, config, out, err);
}

static int create(const struct stream_setup *setup, struct stream_loop *out,
	uint16_t *out_ports, struct error *err)
{
	struct stream_tcp_config config = {
		.net = {.mac = {2, 0, 0, 0, 0, 1},
			.mtu_bytes = 1500,
			.ip4 = {10, 0, 0, 1},
			.prefix4_bits = 24,
			.device = {NULL, frame_get, frame_send, false, 0}},
		.port = {NULL, frames_next, port_wait, port_wake},
		.limits = setup->limits,
		.listener_count = setup->listener_count,
		.handler = setup->handler,
		.arg = setup->arg,
	};

	to_server.head = to_server.tail = to_server.lent = 0;
	if (!lwip_host_start(from_clients, NULL))
		return error_set(err, ENOENT, "no liblwip.so.0 here");
	lwip_host_set_time(now_ns);
	lwip_host_clear();
	to_server.head = to_server.tail = to_server.lent = 0;
	to_clients.head = to_clients.tail = 0;
	memset(clients_of, 0, sizeof(clients_of));
	for (uint32_t i = 0; i < setup->listener_count; i++)
		out_ports[i] = config.listen_ports[i] =
			(uint16_t)(PORT_FIRST + i);
	loop = out;
	return setup->tls ? create_tls(setup, &config, out, err)
			  : stream_tcp_create(&config, out, err);
}

const struct stream_backend *stream_backend(void)
{
	static const struct stream_backend backend = {"tcp", create};

	return &backend;
}
