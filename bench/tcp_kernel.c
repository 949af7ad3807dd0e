/* tcp_kernel.c - the kernel's TCP beside ours (turns -> pairs) */
/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Socket pairs over loopback: what is sent at one end is received at the
 * other, so both ends, their ACKs and two system calls are in one figure.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include "bench/tcp_side.h"

#define FILE_COUNT 65536

struct side {
	int (*pairs)[2]; /* owned; server, client */
	uint32_t count; /* made so far */
};

static void keep(void *arg)
{
	(void)arg;
}

static bool turn(void *arg, uint32_t first)
{
	uint8_t event[TCP_SIDE_EVENT_BYTES] = {0};
	struct side *s = arg;
	bool fine = true;

	for (uint32_t i = first; i < first + TCP_SIDE_BURST; i++)
		fine &= send(s->pairs[i][0], event, sizeof(event),
				MSG_NOSIGNAL) == sizeof(event);
	for (uint32_t i = first; i < first + TCP_SIDE_BURST; i++)
		fine &= recv(s->pairs[i][1], event, sizeof(event),
				MSG_WAITALL) == sizeof(event);
	return fine;
}

static void end(void *arg)
{
	/* Neither end is to wait in TIME_WAIT: ports are few. */
	const struct linger now = {1, 0};
	struct side *s = arg;

	for (uint32_t i = 0; i < s->count; i++) {
		setsockopt(s->pairs[i][0], SOL_SOCKET, SO_LINGER, &now,
			sizeof(now));
		close(s->pairs[i][0]);
		close(s->pairs[i][1]);
	}
	free(s->pairs);
	free(s);
}

static int make_pair(int listener, const struct sockaddr_in *at, int out[2])
{
	const int one = 1;

	out[1] = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (out[1] < 0)
		return -errno;
	if (connect(out[1], (const struct sockaddr *)at, sizeof(*at)) == 0)
		out[0] = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
	else
		out[0] = -1;
	if (out[0] < 0) {
		int rc = -errno;

		close(out[1]);
		return rc;
	}
	setsockopt(out[0], IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
	return 0;
}

static int make_all(struct side *s, uint32_t count)
{
	struct sockaddr_in at = {.sin_family = AF_INET,
		.sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	socklen_t length = sizeof(at);
	int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), rc = 0;

	if (listener < 0)
		return -errno;
	if (bind(listener, (struct sockaddr *)&at, sizeof(at)) ||
		listen(listener, 16) ||
		getsockname(listener, (struct sockaddr *)&at, &length))
		rc = -errno;
	while (rc == 0 && s->count < count) {
		rc = make_pair(listener, &at, s->pairs[s->count]);
		s->count += rc == 0;
	}
	close(listener);
	return rc;
}

/* Two files a pair: root may have more than the limit that it was given. */
static void raise_limit(void)
{
	struct rlimit files = {FILE_COUNT, FILE_COUNT};

	if (setrlimit(RLIMIT_NOFILE, &files) == 0 ||
		getrlimit(RLIMIT_NOFILE, &files))
		return;
	files.rlim_cur = files.rlim_max;
	setrlimit(RLIMIT_NOFILE, &files);
}

void tcp_side_first_of(
	const struct tcp_side *of, uint32_t count, struct tcp_side *out)
{
	*out = (struct tcp_side){of->arg, of->turn, keep, count, 0};
}

int tcp_side_kernel(uint32_t count, struct tcp_side *out, struct error *err)
{
	struct side *s = calloc(1, sizeof(*s));
	int rc;

	raise_limit();
	if (s)
		s->pairs = calloc(count, sizeof(*s->pairs));
	if (!s || !s->pairs) {
		free(s);
		return error_set(err, ENOMEM, "no memory");
	}
	rc = make_all(s, count);
	if (rc) {
		error_set(err, -rc, "%u connections over loopback", count);
		end(s);
		return rc;
	}
	*out = (struct tcp_side){s, turn, end, count, 0};
	return 0;
}
