/* bench_server.c - a server that says what a test tells it (script -> bytes) */
/* SPDX-License-Identifier: Apache-2.0 */
#include <arpa/inet.h>
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include "tests/bench_server.h"
#include "tests/suite.h"

#define CLIENT_COUNT_MAX 64
#define REQUEST_BYTES_MAX 65536

struct client {
	int fd;
	size_t length;
	char request[REQUEST_BYTES_MAX + 1];
};

struct bench_server {
	const struct bench_script *scripts;
	size_t count;
	unsigned asked[64]; /* per script */
	int listen_fd, stop_fd;
	pthread_t thread;
	char url[64];
	atomic_uint accepted, answered;
	struct client clients[CLIENT_COUNT_MAX];
	size_t client_count;
};

static void require(bool holds, const char *what)
{
	if (!holds) {
		perror(what);
		abort();
	}
}

static void drop(struct bench_server *server, size_t index)
{
	close(server->clients[index].fd);
	server->clients[index] = server->clients[--server->client_count];
}

static void reset(int fd)
{
	const struct linger hard = {.l_onoff = 1, .l_linger = 0};

	(void)setsockopt(fd, SOL_SOCKET, SO_LINGER, &hard, sizeof(hard));
}

/* The length of the whole request that is there, 0 = not yet. */
static size_t whole_request(const struct client *client)
{
	const char *end = strstr(client->request, "\r\n\r\n");
	const char *field = strstr(client->request, "Content-Length: ");
	size_t length;

	if (!end)
		return 0;
	length = (size_t)(end + 4 - client->request);
	if (field && field < end)
		length += strtoul(field + 16, NULL, 10);
	return length <= client->length ? length : 0;
}

static size_t find_script(
	const struct bench_server *server, const char *request)
{
	for (size_t i = 0; i < server->count; i++) {
		char wanted[128];

		snprintf(wanted, sizeof(wanted), "\"model\":\"%s\"",
			server->scripts[i].model);
		if (strstr(request, wanted))
			return i;
	}
	return SIZE_MAX;
}

static void say(int fd, const char *data, size_t length)
{
	while (length) {
		ssize_t count = send(fd, data, length, MSG_NOSIGNAL);

		if (count <= 0)
			return;
		data += count;
		length -= (size_t)count;
	}
}

/* False where the connection is to end. */
static bool answer(struct bench_server *server, struct client *client)
{
	static const char unknown[] =
		"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n";
	size_t i = find_script(server, client->request);
	const struct bench_script *script;

	atomic_fetch_add(&server->answered, 1);
	if (i == SIZE_MAX) {
		say(client->fd, unknown, sizeof(unknown) - 1);
		return true;
	}
	script = &server->scripts[i];
	if (script->first_bytes && server->asked[i]++ == 0)
		say(client->fd, script->first_bytes, script->first_length);
	else
		say(client->fd, script->bytes, script->length);
	if (script->after == BENCH_RESET)
		reset(client->fd);
	return script->after == BENCH_KEEP;
}

static bool take(struct bench_server *server, struct client *client)
{
	size_t length;
	ssize_t count = recv(client->fd, client->request + client->length,
		REQUEST_BYTES_MAX - client->length, 0);

	if (count <= 0)
		return false;
	client->length += (size_t)count;
	client->request[client->length] = '\0';
	length = whole_request(client);
	if (!length)
		return true;
	client->length = 0;
	return answer(server, client);
}

static void welcome(struct bench_server *server)
{
	int fd = accept4(server->listen_fd, NULL, NULL, SOCK_CLOEXEC);
	struct client *client;

	require(fd >= 0, "accept");
	require(server->client_count < CLIENT_COUNT_MAX, "too many clients");
	atomic_fetch_add(&server->accepted, 1);
	client = &server->clients[server->client_count++];
	client->fd = fd;
	client->length = 0;
}

static void *serve(void *context)
{
	struct bench_server *server = context;
	struct pollfd fds[CLIENT_COUNT_MAX + 2];

	for (;;) {
		size_t count = server->client_count;

		fds[0] = (struct pollfd){
			.fd = server->stop_fd, .events = POLLIN};
		fds[1] = (struct pollfd){
			.fd = server->listen_fd, .events = POLLIN};
		for (size_t i = 0; i < count; i++)
			fds[2 + i] = (struct pollfd){
				.fd = server->clients[i].fd, .events = POLLIN};
		require(poll(fds, count + 2, -1) > 0, "poll");
		if (fds[0].revents)
			return NULL;
		/* From the back: dropping moves the last one forward. */
		for (size_t i = count; i-- > 0;)
			if (fds[2 + i].revents &&
				!take(server, &server->clients[i]))
				drop(server, i);
		if (fds[1].revents)
			welcome(server);
	}
}

struct bench_server *bench_server_start(
	const struct bench_script *scripts, size_t count)
{
	struct bench_server *server = suite_calloc(1, sizeof(*server));
	struct sockaddr_in address = {.sin_family = AF_INET,
		.sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	socklen_t length = sizeof(address);

	require(count <= 64, "too many scripts");
	server->scripts = scripts;
	server->count = count;
	server->listen_fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	server->stop_fd = eventfd(0, EFD_CLOEXEC);
	require(server->listen_fd >= 0 && server->stop_fd >= 0, "socket");
	require(bind(server->listen_fd, (struct sockaddr *)&address, length) ==
			0,
		"bind");
	require(listen(server->listen_fd, 64) == 0, "listen");
	require(getsockname(server->listen_fd, (struct sockaddr *)&address,
			&length) == 0,
		"getsockname");
	snprintf(server->url, sizeof(server->url), "http://127.0.0.1:%u",
		ntohs(address.sin_port));
	require(pthread_create(&server->thread, NULL, serve, server) == 0,
		"thread");
	return server;
}

const char *bench_server_url(const struct bench_server *server)
{
	return server->url;
}

unsigned bench_server_accepted(const struct bench_server *server)
{
	return atomic_load(&server->accepted);
}

unsigned bench_server_answered(const struct bench_server *server)
{
	return atomic_load(&server->answered);
}

void bench_server_stop(struct bench_server *server)
{
	const uint64_t one = 1;

	require(write(server->stop_fd, &one, sizeof(one)) == sizeof(one),
		"stop");
	pthread_join(server->thread, NULL);
	while (server->client_count)
		drop(server, 0);
	close(server->listen_fd);
	close(server->stop_fd);
	free(server);
}
