/* stream_kernel_accept.c - connections in (listeners -> streams) */
/* SPDX-License-Identifier: Apache-2.0 */
#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <netinet/tcp.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "dataplane/stream_kernel_private.h"

/*
 * A stream is reserved for every accept in flight, so there is never a
 * connection without one: when none is free nothing accepts, and the kernel's
 * backlog and SYN cookies do the rest. One accept per listener stays in
 * flight when streams run out, so that a busy listener does not shut out a
 * quiet one.
 */

static int set_option(int fd, int level, int name, int value)
{
	return setsockopt(fd, level, name, &value, sizeof(value));
}

static int clamp_int(uint64_t value)
{
	return value > INT_MAX ? INT_MAX : (int)value;
}

/*
 * Linux's own user timeout (RFC 5482) ends a stream without a word to its peer,
 * and also one that reads, but whose window stays below a segment's size. So
 * whoever sends has this many times as long to find that it stalls, and resets.
 */
#define USER_TIMEOUT_SHARE 4

/*
 * Linux copies these from a listening socket to what it accepts. Keep-alive
 * probes the silent ones; the low-water mark keeps the kernel from holding many
 * times what a stream's own buffer may hold.
 */
static int set_options(int fd, const struct stream_limits *limits)
{
	uint64_t timeout_ms =
		USER_TIMEOUT_SHARE * (limits->user_timeout_ns / NS_PER_MS);
	uint64_t idle_s = limits->user_timeout_ns / NS_PER_S;

	if (timeout_ms == 0)
		timeout_ms = 1;
	if (idle_s == 0)
		idle_s = 1;
	if (idle_s > 32767) /* the kernel's own bound */
		idle_s = 32767;
	if (set_option(fd, IPPROTO_TCP, TCP_NODELAY, 1) ||
		set_option(fd, IPPROTO_TCP, TCP_USER_TIMEOUT,
			clamp_int(timeout_ms)) ||
		set_option(fd, SOL_SOCKET, SO_KEEPALIVE, 1) ||
		set_option(fd, IPPROTO_TCP, TCP_KEEPIDLE, (int)idle_s) ||
		set_option(fd, IPPROTO_TCP, TCP_KEEPINTVL, (int)idle_s) ||
		set_option(fd, IPPROTO_TCP, TCP_NOTSENT_LOWAT,
			clamp_int(limits->send_bytes)))
		return -errno;
	return 0;
}

static int check_listener(int fd, uint32_t index,
	const struct stream_limits *limits, struct error *err)
{
	int listening = 0, flags, rc;
	socklen_t length = sizeof(listening);

	if (getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &listening, &length))
		return error_set(
			err, EINVAL, "listener %u: %s", index, strerror(errno));
	if (!listening)
		return error_set(
			err, EINVAL, "listener %u: does not listen", index);
	rc = set_options(fd, limits);
	if (rc)
		return error_set(err, EINVAL, "listener %u: no TCP socket (%s)",
			index, strerror(-rc));
	/* The ring does the waiting; a descriptor that says "do not wait"
	 * would end each accept with EAGAIN on some kernels. */
	flags = fcntl(fd, F_GETFL);
	if (flags < 0 || fcntl(fd, F_SETFL, flags & ~O_NONBLOCK))
		return error_set(
			err, EINVAL, "listener %u: %s", index, strerror(errno));
	return 0;
}

int stream_listeners_init(struct stream_kernel *k,
	const struct stream_kernel_config *config, struct error *err)
{
	uint32_t each = config->limits.stream_count / 64;

	for (uint32_t i = 0; i < config->listener_count; i++) {
		const struct stream_listener *from = &config->listeners[i];
		int rc = check_listener(from->fd, i, &config->limits, err);

		if (rc)
			return rc;
		k->listeners[i] = (struct kernel_listener){.fd = from->fd};
	}
	k->listener_count = config->listener_count;
	k->accept_max = each < 1 ? 1
			: each > STREAM_ACCEPT_COUNT_MAX
				? STREAM_ACCEPT_COUNT_MAX
				: each;
	return 0;
}

static void queue_accept(struct stream_kernel *k, uint32_t index)
{
	struct kernel_stream *s = TAILQ_FIRST(&k->free);
	struct io_uring_sqe *sqe =
		stream_ring_entry(k, stream_index(k, s), STREAM_OP_ACCEPT);

	stream_unqueue(k, s);
	stream_set_state(s, STREAM_IS_ACCEPTING);
	s->listener = (uint8_t)index;
	s->in_flight = STREAM_OP_ACCEPT;
	s->address_length = sizeof(s->address);
	memset(&s->address, 0, sizeof(s->address));
	/* Blocking: the ring, not EAGAIN, waits for a full send buffer. */
	io_uring_prep_accept(sqe, k->listeners[index].fd,
		(struct sockaddr *)&s->address, &s->address_length,
		SOCK_CLOEXEC);
	k->listeners[index].accept_count++;
}

static void drain_listener(struct stream_kernel *k, uint32_t index)
{
	struct kernel_listener *listener = &k->listeners[index];
	struct io_uring_sqe *sqe;

	if (listener->fd < 0)
		return;
	if (listener->accept_count == 0 && !listener->cancelling) {
		close(listener->fd);
		listener->fd = -1;
		return;
	}
	if (listener->cancelling || !stream_ring_space(k))
		return;
	sqe = stream_ring_entry(k, index, STREAM_OP_DRAIN);
	io_uring_prep_cancel_fd(sqe, listener->fd, IORING_ASYNC_CANCEL_ALL);
	listener->cancelling = true;
}

void stream_listeners_settle(struct stream_kernel *k)
{
	if (k->draining) {
		for (uint32_t i = 0; i < k->listener_count; i++)
			drain_listener(k, i);
		return;
	}
	/* The first accept of each listener before the second of any. */
	for (uint32_t depth = 1; depth <= k->accept_max; depth++)
		for (uint32_t i = 0; i < k->listener_count; i++) {
			const struct kernel_listener *l = &k->listeners[i];

			if (l->accept_count >= depth || k->now_ns < l->retry_ns)
				continue;
			if (TAILQ_EMPTY(&k->free) || !stream_ring_space(k))
				return;
			queue_accept(k, i);
		}
}

uint64_t stream_listeners_deadline(const struct stream_kernel *k)
{
	uint64_t deadline_ns = UINT64_MAX;

	for (uint32_t i = 0; i < k->listener_count && !k->draining; i++) {
		const struct kernel_listener *l = &k->listeners[i];

		if (l->accept_count == 0 && l->retry_ns > k->now_ns &&
			l->retry_ns < deadline_ns)
			deadline_ns = l->retry_ns;
	}
	return deadline_ns;
}

static struct stream_peer peer_of(const struct sockaddr_in6 *address)
{
	struct stream_peer peer = {{0}, 0};
	struct sockaddr_in v4;

	if (address->sin6_family == AF_INET6) {
		memcpy(peer.address, &address->sin6_addr, 16);
		peer.port = ntohs(address->sin6_port);
	} else if (address->sin6_family == AF_INET) {
		memcpy(&v4, address, sizeof(v4));
		peer.address[10] = 0xff;
		peer.address[11] = 0xff;
		memcpy(peer.address + 12, &v4.sin_addr, 4);
		peer.port = ntohs(v4.sin_port);
	}
	return peer;
}

static void open_stream(struct stream_kernel *k, struct kernel_stream *s)
{
	struct stream_event event = {
		.kind = STREAM_OPENED,
		.peer = peer_of(&s->address),
		.listener = s->listener,
	};

	stream_set_state(s, STREAM_IS_OPEN);
	s->opened = true;
	stream_emit(k, s, &event);
}

/*
 * Out of descriptors or memory, or whatever else does not pass by itself:
 * try again after a while, or when a stream has closed. What belongs to the
 * one connection that failed (accept(2), "Error handling"): try the next.
 */
static void accept_failed(
	struct stream_kernel *k, struct kernel_listener *listener, int error)
{
	switch (error) {
	case ECANCELED:
	case ECONNABORTED:
	case EINTR:
	case EAGAIN:
	case EPROTO:
	case ENOPROTOOPT:
	case EHOSTDOWN:
	case EHOSTUNREACH:
	case ENETDOWN:
	case ENETUNREACH:
		break;
	default:
		listener->retry_ns = k->now_ns + STREAM_ACCEPT_RETRY_NS;
	}
}

void stream_accepted(struct stream_kernel *k, struct kernel_stream *s, int res)
{
	struct kernel_listener *listener = &k->listeners[s->listener];

	assert(s->state == STREAM_IS_ACCEPTING && listener->accept_count > 0);
	listener->accept_count--;
	if (res < 0) {
		accept_failed(k, listener, -res);
		stream_set_state(s, STREAM_IS_FREE);
		TAILQ_INSERT_HEAD(&k->free, s, link);
		s->queue = STREAM_ON_FREE;
		return;
	}
	s->fd = res;
	open_stream(k, s);
	stream_mark(k, s);
}
