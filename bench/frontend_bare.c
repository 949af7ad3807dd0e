/* frontend_bare.c - the least that could send the same bytes (recording -> sockets) */
/* SPDX-License-Identifier: Apache-2.0 */
#include <arpa/inet.h>
#include <errno.h>
#include <liburing.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "bench/frontend_bare.h"

#define REQUEST_BYTES 4096
#define RING_ENTRIES 4096
#define WAIT_BATCH 64

struct bare_stream {
	int fd;
	uint32_t event; /* that is being sent */
	size_t sent_bytes; /* of it */
	size_t request_bytes;
};

struct bare_loop {
	struct io_uring ring;
	const char *data;
	const size_t *ends;
	size_t event_count;
	struct bare_stream *streams;
	uint32_t stream_count, left;
};

size_t frontend_bare_cut(
	const char *data, size_t length, size_t *ends, size_t room)
{
	size_t count = 0, at = 0;

	while (at < length && count < room) {
		const char *blank = memmem(data + at, length - at, "\n\n", 2);
		size_t end = blank ? (size_t)(blank - data) + 2 : length;

		if (end + 2 <= length && memcmp(data + end, "\r\n", 2) == 0)
			end += 2;
		/* The last chunk, of no bytes, goes with the last event. */
		if (length - end <= 5 || count == room - 1)
			end = length;
		ends[count++] = end;
		at = end;
	}
	return count;
}

/* --- in the child ---------------------------------------------------------- */

static void need(int holds, const char *what)
{
	if (!holds) {
		perror(what);
		_exit(1);
	}
}

static void send_event(struct bare_loop *loop, uint32_t index)
{
	struct bare_stream *stream = &loop->streams[index];
	size_t start = stream->event ? loop->ends[stream->event - 1] : 0;
	struct io_uring_sqe *sqe = io_uring_get_sqe(&loop->ring);

	if (!sqe) {
		io_uring_submit(&loop->ring);
		sqe = io_uring_get_sqe(&loop->ring);
	}
	start += stream->sent_bytes;
	io_uring_prep_send(sqe, stream->fd, loop->data + start,
		loop->ends[stream->event] - start, MSG_NOSIGNAL | MSG_WAITALL);
	io_uring_sqe_set_data64(sqe, index);
}

static void sent(struct bare_loop *loop, uint32_t index, int bytes)
{
	struct bare_stream *stream = &loop->streams[index];
	size_t start = stream->event ? loop->ends[stream->event - 1] : 0;

	need(bytes > 0, "bare: send");
	stream->sent_bytes += (size_t)bytes;
	if (start + stream->sent_bytes == loop->ends[stream->event]) {
		stream->event++;
		stream->sent_bytes = 0;
	}
	if (stream->event < loop->event_count)
		send_event(loop, index);
	else
		loop->left--;
}

static void send_all(struct bare_loop *loop)
{
	struct io_uring_cqe *cqe;
	unsigned head;

	loop->left = loop->stream_count;
	for (uint32_t i = 0; i < loop->stream_count; i++)
		send_event(loop, i);
	while (loop->left) {
		unsigned count = 0;
		unsigned batch = loop->left < WAIT_BATCH ? 1 : WAIT_BATCH;

		io_uring_submit_and_wait(&loop->ring, batch);
		io_uring_for_each_cqe(&loop->ring, head, cqe)
		{
			count++;
			sent(loop, (uint32_t)cqe->user_data, cqe->res);
		}
		io_uring_cq_advance(&loop->ring, count);
	}
}

/* A connection and its request, whose body is said to be so long. */
static void take_stream(struct bare_stream *stream, int listen_fd)
{
	char request[REQUEST_BYTES + 1];
	size_t length = 0, wanted = SIZE_MAX;
	int one = 1;

	stream->fd = accept(listen_fd, NULL, NULL);
	need(stream->fd >= 0, "bare: accept");
	(void)setsockopt(
		stream->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
	while (length < wanted) {
		ssize_t count = recv(stream->fd, request + length,
			REQUEST_BYTES - length, 0);
		const char *end, *field;

		need(count > 0, "bare: request");
		length += (size_t)count;
		request[length] = '\0';
		end = strstr(request, "\r\n\r\n");
		field = strstr(request, "Content-Length: ");
		if (end && field)
			wanted = (size_t)(end + 4 - request) +
				 strtoul(field + 16, NULL, 10);
	}
}

static _Noreturn void serve(struct bare_loop *loop, int listen_fd)
{
	struct io_uring_params params = {.flags = IORING_SETUP_CQSIZE |
						  IORING_SETUP_SINGLE_ISSUER |
						  IORING_SETUP_DEFER_TASKRUN,
		.cq_entries = 32768};
	char data[256];

	need(io_uring_queue_init_params(RING_ENTRIES, &loop->ring, &params) ==
			0,
		"bare: io_uring");
	for (uint32_t i = 0; i < loop->stream_count; i++)
		take_stream(&loop->streams[i], listen_fd);
	send_all(loop);
	/* The clients close first: none of them is cut off. */
	for (uint32_t i = 0; i < loop->stream_count; i++)
		while (recv(loop->streams[i].fd, data, sizeof(data), 0) > 0)
			;
	_exit(0);
}

/* --- in the parent --------------------------------------------------------- */

static int open_listener(struct serve_target *target, struct error *err)
{
	struct sockaddr_in address = {.sin_family = AF_INET,
		.sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	socklen_t length = sizeof(address);
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	char url[64];

	if (fd < 0 || bind(fd, (const struct sockaddr *)&address, length) ||
		listen(fd, 65535) ||
		getsockname(fd, (struct sockaddr *)&address, &length)) {
		int rc =
			error_set(err, errno, "bare loop: %s", strerror(errno));

		if (fd >= 0)
			close(fd);
		return rc;
	}
	snprintf(url, sizeof(url), "http://127.0.0.1:%u",
		ntohs(address.sin_port));
	if (serve_target_parse(url, target, err)) {
		close(fd);
		return -EINVAL;
	}
	return fd;
}

int frontend_bare_start(const struct serve_bytes *recording,
	uint32_t stream_count, struct frontend_bare *out, struct error *err)
{
	struct bare_loop loop = {
		.data = recording->data, .stream_count = stream_count};
	size_t room = recording->length / 8 + 1;
	size_t *ends = calloc(room, sizeof(*ends));
	int fd;

	memset(out, 0, sizeof(*out));
	loop.streams = calloc(stream_count, sizeof(*loop.streams));
	fd = open_listener(&out->target, err);
	if (!ends || !loop.streams || fd < 0) {
		free(ends);
		free(loop.streams);
		return fd < 0 ? fd : error_set(err, ENOMEM, "no memory");
	}
	loop.ends = ends;
	loop.event_count = frontend_bare_cut(
		recording->data, recording->length, ends, room);
	out->event_count = loop.event_count;
	out->pid = fork();
	if (out->pid == 0)
		serve(&loop, fd);
	close(fd);
	free(ends);
	free(loop.streams);
	return out->pid < 0 ? error_set(err, errno, "fork: %s", strerror(errno))
			    : 0;
}

static double seconds(struct timeval time)
{
	return (double)time.tv_sec + (double)time.tv_usec / 1e6;
}

int frontend_bare_end(
	struct frontend_bare *bare, double *cpu_s, struct error *err)
{
	struct rusage usage;
	int status;

	if (wait4(bare->pid, &status, 0, &usage) != bare->pid || status)
		return error_set(err, EIO, "the bare loop failed");
	bare->pid = 0;
	*cpu_s = seconds(usage.ru_utime) + seconds(usage.ru_stime);
	return 0;
}
