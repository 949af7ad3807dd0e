/* node_listen.c - where clients connect (address -> listening socket) */
/* SPDX-License-Identifier: Apache-2.0 */
/*
 * In use: a node that starts as soon as another one has ended may find its
 * port still listened on: a socket on which an io_uring accepts outlives the
 * process until the kernel has taken the ring apart, which it does later, and
 * behind other work. So an address in use is asked for again for a while.
 */
#include <assert.h>
#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "control/node_setup.h"

#define BACKLOG 4096
#define IN_USE_WAIT_NS (3 * NS_PER_S)
#define IN_USE_LOOK_NS (10 * NS_PER_MS)

struct place {
	char host[NODE_ADDRESS_BYTES];
	char port[8];
};

static bool is_port(const char *text)
{
	size_t length = strlen(text);

	return length > 0 && length <= 5 &&
	       strspn(text, "0123456789") == length &&
	       strtol(text, NULL, 10) <= 65535;
}

static int refuse(const char *text, struct error *err)
{
	return error_set(err, EINVAL,
		"\"%s\" is not ADDR:PORT with a numeric address, "
		"[ADDR]:PORT or *:PORT",
		text);
}

/* Host and port apart; brackets around an IPv6 address come off. */
static int split(const char *text, struct place *out, struct error *err)
{
	const char *colon = strrchr(text, ':');
	size_t length = colon ? (size_t)(colon - text) : 0;

	if (!colon || !is_port(colon + 1) || length == 0 ||
		length >= sizeof(out->host))
		return refuse(text, err);
	if (text[0] == '[' && text[length - 1] == ']') {
		text++;
		length -= 2;
	} else if (memchr(text, ':', length)) {
		return refuse(text, err);
	}
	memcpy(out->host, text, length);
	out->host[length] = '\0';
	snprintf(out->port, sizeof(out->port), "%s", colon + 1);
	return 0;
}

/* No names: a start must not wait for a name server. */
static int resolve(const char *text, struct addrinfo **out, struct error *err)
{
	const struct addrinfo hints = {
		.ai_flags = AI_NUMERICHOST | AI_NUMERICSERV | AI_PASSIVE,
		.ai_socktype = SOCK_STREAM,
	};
	struct place place;
	const char *host = place.host;
	int rc = split(text, &place, err);

	if (rc)
		return rc;
	if (strcmp(host, "localhost") == 0)
		host = "127.0.0.1";
	if (strcmp(host, "*") == 0)
		host = "0.0.0.0";
	rc = getaddrinfo(host, place.port, &hints, out);
	return rc ? refuse(text, err) : 0;
}

int node_listen_place(
	const char *text, struct sockaddr_storage *out, struct error *err)
{
	struct addrinfo *found;
	int rc = resolve(text, &found, err);

	if (rc)
		return rc;
	memset(out, 0, sizeof(*out));
	memcpy(out, found->ai_addr, found->ai_addrlen);
	freeaddrinfo(found);
	return 0;
}

int node_listen_check(const char *text, struct error *err)
{
	struct addrinfo *found;
	int rc = resolve(text, &found, err);

	if (rc == 0)
		freeaddrinfo(found);
	return rc;
}

static int open_bound(const struct addrinfo *found)
{
	static const int one = 1;
	int fd = socket(found->ai_family,
		SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	int rc;

	if (fd < 0)
		return -errno;
	if (setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one)) ||
		bind(fd, found->ai_addr, found->ai_addrlen) ||
		listen(fd, BACKLOG)) {
		rc = -errno;
		close(fd);
		return rc;
	}
	return fd;
}

static int open_bound_patiently(const struct addrinfo *found)
{
	struct timespec pause = {.tv_nsec = IN_USE_LOOK_NS};
	struct mono end = mono_add(mono_now(), IN_USE_WAIT_NS);
	int fd = open_bound(found);

	while (fd == -EADDRINUSE && mono_before(mono_now(), end)) {
		(void)nanosleep(&pause, NULL);
		fd = open_bound(found);
	}
	return fd;
}

/* With the port that the system chose. */
static void print_address(int fd, char address[NODE_ADDRESS_BYTES])
{
	struct sockaddr_storage bound;
	socklen_t length = sizeof(bound);
	struct place place = {"?", "?"};
	bool six;

	if (getsockname(fd, (struct sockaddr *)&bound, &length) == 0)
		(void)getnameinfo((const struct sockaddr *)&bound, length,
			place.host, sizeof(place.host), place.port,
			sizeof(place.port), NI_NUMERICHOST | NI_NUMERICSERV);
	six = strchr(place.host, ':') != NULL;
	snprintf(address, NODE_ADDRESS_BYTES, "%s%.50s%s:%s", six ? "[" : "",
		place.host, six ? "]" : "", place.port);
}

int node_listen(const char *text, int *out_fd, char address[NODE_ADDRESS_BYTES],
	struct error *err)
{
	struct addrinfo *found;
	int fd, rc = resolve(text, &found, err);

	if (rc)
		return rc;
	fd = open_bound_patiently(found);
	freeaddrinfo(found);
	if (fd == -EADDRINUSE)
		return error_set(err, EADDRINUSE,
			"%s: it is given twice here, or another process "
			"listens there, which \"ss -ltnp\" names; end that "
			"or give another address",
			text);
	if (fd < 0)
		return error_set(err, -fd, "%s: %s", text, strerror(-fd));
	print_address(fd, address);
	*out_fd = fd;
	return 0;
}
