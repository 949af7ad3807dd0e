/* control_socket.c - commands from operators (UNIX socket -> handler) */
/* SPDX-License-Identifier: Apache-2.0 */
#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "control/control_socket.h"

#define BACKLOG 16

struct client {
	int fd; /* -1 = free */
	char line[COMMAND_LINE_BYTES_MAX];
	size_t line_length;
	char *answer; /* owned; NULL = none is on its way */
	size_t answer_at, answer_length;
	uint32_t generation; /* of the connection */
	bool waits, json; /* for an answer that comes later, in that form */
	bool ends; /* after this answer */
	bool deaf; /* what still comes is thrown away */
	bool shut; /* deaf, and our side has ended */
	uint64_t moved_ns; /* when bytes moved last */
};

struct control_socket {
	char path[sizeof(((struct sockaddr_un *)0)->sun_path)];
	int fd, epoll_fd;
	uint32_t generation; /* given last */
	control_handler *handler;
	void *arg;
	struct client clients[CONTROL_CLIENT_COUNT_MAX];
};

/* --- the path ----------------------------------------------------------------------- */

/* The directory, where it is missing; its parents must exist. */
static int make_directory(const char *path, struct error *err)
{
	char directory[sizeof(((struct sockaddr_un *)0)->sun_path)];
	char *slash;

	snprintf(directory, sizeof(directory), "%s", path);
	slash = strrchr(directory, '/');
	if (!slash || slash == directory)
		return 0;
	*slash = '\0';
	if (mkdir(directory, 0700) && errno != EEXIST)
		return error_set(err, errno, "control: cannot make %s: %s",
			directory, strerror(errno));
	return 0;
}

static struct sockaddr_un address_of(const char *path)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};

	strncpy(address.sun_path, path, sizeof(address.sun_path) - 1);
	return address;
}

/* Does somebody answer at the path? */
static bool is_alive(const char *path)
{
	struct sockaddr_un address = address_of(path);
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	bool alive = fd >= 0 && connect(fd, (const struct sockaddr *)&address,
					sizeof(address)) == 0;

	if (fd >= 0)
		close(fd);
	return alive;
}

/* What a node that was killed left; nothing but a socket is removed. */
static int remove_stale(const char *path, struct error *err)
{
	struct stat st;

	if (lstat(path, &st))
		return 0;
	if (!S_ISSOCK(st.st_mode))
		return error_set(err, EEXIST,
			"control: %s exists and is no socket", path);
	if (is_alive(path))
		return error_set(err, EADDRINUSE,
			"control: a node answers at %s already", path);
	if (unlink(path))
		return error_set(err, errno, "control: cannot remove %s: %s",
			path, strerror(errno));
	return 0;
}

static int bind_path(const char *path, int *out_fd, struct error *err)
{
	struct sockaddr_un address = address_of(path);
	mode_t old = umask(0177);
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	int rc = fd < 0 ? -errno : 0;

	if (rc == 0 &&
		bind(fd, (const struct sockaddr *)&address, sizeof(address)))
		rc = -errno;
	umask(old);
	if (rc == 0 && listen(fd, BACKLOG)) {
		rc = -errno;
		unlink(path);
	}
	if (rc) {
		if (fd >= 0)
			close(fd);
		return error_set(
			err, -rc, "control: %s: %s", path, strerror(-rc));
	}
	*out_fd = fd;
	return 0;
}

/* --- clients --------------------------------------------------------------------------- */

static void drop(struct client *client)
{
	/* Closing takes it out of the epoll set. */
	close(client->fd);
	free(client->answer);
	memset(client, 0, sizeof(*client));
	client->fd = -1;
}

/* Wait for input, or for room to answer. */
static void watch(struct control_socket *control, struct client *client)
{
	struct epoll_event event = {
		/* Whoever waits is heard only when it has hung up. */
		.events = client->waits    ? 0
			  : client->answer ? EPOLLOUT
					   : EPOLLIN,
		.data.u32 = (uint32_t)(client - control->clients),
	};

	if (epoll_ctl(control->epoll_fd, EPOLL_CTL_MOD, client->fd, &event))
		drop(client);
}

static bool may_connect(int fd)
{
	struct ucred peer;
	socklen_t length = sizeof(peer);

	return getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &length) == 0 &&
	       (peer.uid == 0 || peer.uid == geteuid());
}

static struct client *free_client(struct control_socket *control)
{
	for (int i = 0; i < CONTROL_CLIENT_COUNT_MAX; i++)
		if (control->clients[i].fd < 0)
			return &control->clients[i];
	return NULL;
}

static void admit(struct control_socket *control, int fd, struct mono now)
{
	struct client *client = free_client(control);
	struct epoll_event event = {.events = EPOLLIN};

	if (!client || !may_connect(fd)) {
		close(fd);
		return;
	}
	event.data.u32 = (uint32_t)(client - control->clients);
	if (epoll_ctl(control->epoll_fd, EPOLL_CTL_ADD, fd, &event)) {
		close(fd);
		return;
	}
	client->fd = fd;
	client->generation = ++control->generation;
	client->moved_ns = now.ns;
}

static void accept_all(struct control_socket *control, struct mono now)
{
	for (;;) {
		int fd = accept4(
			control->fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);

		if (fd < 0)
			return;
		admit(control, fd, now);
	}
}

/* --- lines ---------------------------------------------------------------------------------- */

static uint64_t ticket_of(
	const struct control_socket *control, const struct client *client)
{
	return (uint64_t)client->generation * CONTROL_CLIENT_COUNT_MAX +
	       (uint64_t)(client - control->clients);
}

static void run_line(
	struct control_socket *control, struct client *client, size_t length)
{
	struct command_answer answer;
	struct command_call call;

	memset(&answer, 0, sizeof(answer));
	if (command_parse(client->line, length, &call, &answer.err) == 0) {
		call.ticket = ticket_of(control, client);
		client->json = call.json;
		control->handler(control->arg, &call, &answer);
	}
	client->waits = answer.later;
	if (answer.later)
		return;
	client->answer =
		command_render(&answer, call.json, &client->answer_length);
	client->answer_at = 0;
	if (!client->answer)
		client->ends = true;
	command_answer_release(&answer);
}

static void refuse_long_line(struct client *client)
{
	struct command_answer answer;

	memset(&answer, 0, sizeof(answer));
	error_set(&answer.err, EINVAL, "a line is longer than %d bytes",
		COMMAND_LINE_BYTES_MAX - 1);
	client->answer = command_render(&answer, false, &client->answer_length);
	client->answer_at = 0;
	client->line_length = 0;
	client->deaf = true;
	command_answer_release(&answer);
}

/* The first whole line, if there is one. */
static bool take_line(struct control_socket *control, struct client *client)
{
	const char *end = memchr(client->line, '\n', client->line_length);
	size_t length;

	if (!end) {
		if (client->line_length == sizeof(client->line)) {
			refuse_long_line(client);
			return true;
		}
		return false;
	}
	length = (size_t)(end - client->line);
	run_line(control, client, length);
	client->line_length -= length + 1;
	memmove(client->line, end + 1, client->line_length);
	return true;
}

/* False: the client is gone or done. */
static bool send_answer(struct client *client, struct mono now)
{
	while (client->answer) {
		ssize_t sent =
			send(client->fd, client->answer + client->answer_at,
				client->answer_length - client->answer_at,
				MSG_NOSIGNAL | MSG_DONTWAIT);

		if (sent < 0)
			return errno == EAGAIN || errno == EINTR;
		client->moved_ns = now.ns;
		client->answer_at += (size_t)sent;
		if (client->answer_at == client->answer_length) {
			free(client->answer);
			client->answer = NULL;
		}
	}
	return !client->ends;
}

/* False: the client has gone. */
static bool receive(struct client *client, struct mono now)
{
	size_t room = sizeof(client->line) - client->line_length;
	ssize_t got;

	if (room == 0)
		return true;
	got = recv(client->fd, client->line + client->line_length, room,
		MSG_DONTWAIT);
	if (got < 0)
		return errno == EAGAIN || errno == EINTR;
	client->moved_ns = now.ns;
	client->line_length += (size_t)got;
	return got > 0;
}

/*
 * Closing with input unread would reset the connection and could take the
 * answer with it, so input is read until the client ends or time is up.
 */
static void serve_deaf(struct control_socket *control, struct client *client)
{
	ssize_t got;

	if (!client->answer && !client->shut) {
		shutdown(client->fd, SHUT_WR);
		client->shut = true;
	}
	do {
		got = recv(client->fd, client->line, sizeof(client->line),
			MSG_DONTWAIT);
	} while (got > 0);
	if (got == 0 || (errno != EAGAIN && errno != EINTR))
		drop(client);
	else
		watch(control, client);
}

static void serve_client(
	struct control_socket *control, struct client *client, struct mono now)
{
	bool alive = true;

	/* Only that it has hung up is heard of one that waits. */
	if (client->waits) {
		drop(client);
		return;
	}
	if (!client->answer && !client->deaf)
		alive = receive(client, now);
	/* Answers in order; the next line when the last answer is out. */
	while (alive || client->line_length > 0) {
		if (!send_answer(client, now)) {
			drop(client);
			return;
		}
		if (client->answer || client->waits ||
			!take_line(control, client))
			break;
	}
	if (client->deaf) {
		serve_deaf(control, client);
		return;
	}
	/* What a client sent before it closed was still carried out. */
	if (!alive && !client->answer && !client->waits) {
		drop(client);
		return;
	}
	/* Of one that waits the end is found again, after its last line. */
	if (!alive && !client->waits)
		client->ends = true;
	watch(control, client);
}

static void drop_idle(struct control_socket *control, struct mono now)
{
	for (int i = 0; i < CONTROL_CLIENT_COUNT_MAX; i++) {
		struct client *client = &control->clients[i];

		/* An answer may have come after `now`. */
		if (client->fd >= 0 && !client->waits &&
			now.ns > client->moved_ns + CONTROL_IDLE_NS)
			drop(client);
	}
}

void control_socket_answer(struct control_socket *control, uint64_t ticket,
	const struct command_answer *answer, struct mono now)
{
	struct client *client =
		&control->clients[ticket % CONTROL_CLIENT_COUNT_MAX];

	if (client->fd < 0 || !client->waits ||
		ticket_of(control, client) != ticket)
		return;
	client->waits = false;
	client->answer =
		command_render(answer, client->json, &client->answer_length);
	client->answer_at = 0;
	client->moved_ns = now.ns;
	if (client->answer)
		watch(control, client);
	else
		drop(client);
}

void control_socket_serve(struct control_socket *control, struct mono now)
{
	struct epoll_event events[CONTROL_CLIENT_COUNT_MAX + 1];
	int count = epoll_wait(
		control->epoll_fd, events, CONTROL_CLIENT_COUNT_MAX + 1, 0);

	for (int i = 0; i < count; i++) {
		uint32_t index = events[i].data.u32;

		if (index == CONTROL_CLIENT_COUNT_MAX)
			accept_all(control, now);
		else if (control->clients[index].fd >= 0)
			serve_client(control, &control->clients[index], now);
	}
	drop_idle(control, now);
}

/* --- life ------------------------------------------------------------------------------------- */

static int watch_listener(struct control_socket *control, struct error *err)
{
	struct epoll_event event = {
		.events = EPOLLIN, .data.u32 = CONTROL_CLIENT_COUNT_MAX};

	control->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	if (control->epoll_fd < 0 || epoll_ctl(control->epoll_fd, EPOLL_CTL_ADD,
					     control->fd, &event))
		return error_set(
			err, errno, "control: epoll: %s", strerror(errno));
	return 0;
}

int control_socket_open(const char *path, control_handler *handler, void *arg,
	struct control_socket **out, struct error *err)
{
	struct control_socket *control;
	int rc;

	*out = NULL;
	if (strlen(path) >= sizeof(control->path))
		return error_set(err, ENAMETOOLONG,
			"control: the path has more than %zu bytes: %s",
			sizeof(control->path) - 1, path);
	control = calloc(1, sizeof(*control));
	if (!control)
		return error_set(err, ENOMEM, "control: out of memory");
	control->fd = control->epoll_fd = -1;
	control->handler = handler;
	control->arg = arg;
	for (int i = 0; i < CONTROL_CLIENT_COUNT_MAX; i++)
		control->clients[i].fd = -1;
	rc = make_directory(path, err);
	if (rc == 0)
		rc = remove_stale(path, err);
	if (rc == 0)
		rc = bind_path(path, &control->fd, err);
	if (rc == 0) {
		snprintf(control->path, sizeof(control->path), "%s", path);
		rc = watch_listener(control, err);
	}
	if (rc) {
		control_socket_close(control);
		return rc;
	}
	*out = control;
	return 0;
}

int control_socket_fd(const struct control_socket *control)
{
	return control->epoll_fd;
}

void control_socket_close(struct control_socket *control)
{
	if (!control)
		return;
	for (int i = 0; i < CONTROL_CLIENT_COUNT_MAX; i++)
		if (control->clients[i].fd >= 0)
			drop(&control->clients[i]);
	if (control->path[0])
		unlink(control->path);
	if (control->fd >= 0)
		close(control->fd);
	if (control->epoll_fd >= 0)
		close(control->epoll_fd);
	free(control);
}
