/* node_capture.c - the port's frames into a file (command <-> dataplane) */
/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Only control opens files: the dataplane gets the descriptor of a new one,
 * which nobody else may read, for in it is what clients say. An operator hears
 * of a start or a stop when the dataplane has answered.
 */
#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "control/node_private.h"

#define MAX_BYTES ((uint64_t)64 << 20) /* unless the operator says */

static const char *state_name(const struct capture_counters *c, uint64_t serial)
{
	static const char *const names[] = {
		[CAPTURE_NONE] = "none",
		[CAPTURE_RUNS] = "running",
		[CAPTURE_STOPPED] = "stopped",
		[CAPTURE_FULL] = "full",
		[CAPTURE_FAILED] = "failed",
	};
	uint64_t state = counter_read(&c->state);

	if (serial == 0 || counter_read(&c->serial) != serial ||
		state > CAPTURE_FAILED)
		return names[CAPTURE_NONE];
	return names[state];
}

static json_t *show(const struct node *node)
{
	const struct node_capture *own = &node->capture;
	struct front_counters all;
	const struct capture_counters *c = &all.capture;
	const char *state;

	segment_front_total(&node->segment, &all);
	state = state_name(c, own->serial);
	if (own->serial == 0)
		return json_pack("{s:s}", "state", state);
	return json_pack("{s:s,s:s,s:I,s:I,s:I,s:I}", "state", state, "file",
		own->path, "frames", (json_int_t)counter_read(&c->frames),
		"dropped", (json_int_t)counter_read(&c->dropped), "bytes",
		(json_int_t)counter_read(&c->bytes), "max_bytes",
		(json_int_t)own->max_bytes);
}

/* A channel to the dataplane, and nobody else who asks through it. */
static int check(const struct node *node, struct error *err)
{
	if (!node->setup.front.polled)
		return error_set(err, ENOTSUP,
			"nic: kernel has no port of its own to capture from: "
			"tcpdump sees its frames");
	if (node->roles[0].channel < 0 || !node->roles[0].ready)
		return error_set(err, EAGAIN, "the dataplane does not run");
	if (node->capture.ticket)
		return error_set(err, EBUSY,
			"another capture command is being carried out");
	return 0;
}

static int tell(const struct node *node, int fd, struct error *err)
{
	const struct role_message message = {.kind = ROLE_CAPTURE,
		.id = node->capture.serial,
		.bytes = node->capture.max_bytes};
	const struct role_fds fds = {.fd = {fd}, .count = fd >= 0};
	int rc = role_send_message(node->roles[0].channel, &message, &fds);

	return rc ? error_set(err, -rc, "the dataplane does not listen: %s",
			    strerror(-rc))
		  : 0;
}

static int open_new(const char *path, struct error *err)
{
	int fd = open(path,
		O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);

	return fd < 0 ? error_set(err, errno, "%s: %s", path, strerror(errno))
		      : fd;
}

static void start(struct node *node, const struct command_call *call,
	struct command_answer *answer)
{
	const struct capture_counters *c =
		&segment_front_counters(&node->segment)->capture;
	struct node_capture *own = &node->capture;
	int fd;

	if (strcmp(state_name(c, own->serial), "running") == 0) {
		error_set(&answer->err, EBUSY,
			"%s is being written; capture stop ends it", own->path);
		return;
	}
	if (call->path[0] != '/') {
		error_set(&answer->err, EINVAL, "%s: is no absolute path",
			call->path);
		return;
	}
	fd = open_new(call->path, &answer->err);
	if (fd < 0)
		return;
	memcpy(own->path, call->path, sizeof(own->path));
	own->serial++;
	own->max_bytes = call->max_bytes ? call->max_bytes : MAX_BYTES;
	if (tell(node, fd, &answer->err)) {
		(void)unlink(own->path);
	} else {
		own->ticket = call->ticket;
		own->starts = true;
		answer->later = true;
	}
	close(fd);
}

static void stop(struct node *node, const struct command_call *call,
	struct command_answer *answer)
{
	if (tell(node, -1, &answer->err))
		return;
	node->capture.ticket = call->ticket;
	node->capture.starts = false;
	answer->later = true;
}

void node_capture_command(struct node *node, const struct command_call *call,
	struct command_answer *answer)
{
	if (check(node, &answer->err))
		return;
	if (call->id == COMMAND_CAPTURE_START)
		start(node, call, answer);
	else if (call->id == COMMAND_CAPTURE_STOP)
		stop(node, call, answer);
	else
		answer->json = show(node);
}

static void answer_waiting(struct node *node, struct command_answer *answer)
{
	uint64_t ticket = node->capture.ticket;

	node->capture.ticket = 0;
	if (error_is_set(&answer->err) && node->capture.starts)
		(void)unlink(node->capture.path);
	else if (!error_is_set(&answer->err))
		answer->json = show(node);
	control_socket_answer(node->control, ticket, answer, mono_now());
	command_answer_release(answer);
}

void node_capture_heard(struct node *node, const struct role_message *message)
{
	struct command_answer answer = {.json = NULL};

	if (!node->capture.ticket)
		return;
	if (message->rc)
		error_set(&answer.err, message->rc < 0 ? -message->rc : EIO,
			"%s", message->text);
	answer_waiting(node, &answer);
}

void node_capture_lost(struct node *node)
{
	struct command_answer answer = {.json = NULL};

	if (!node->capture.ticket)
		return;
	error_set(&answer.err, EIO, "the dataplane has ended");
	answer_waiting(node, &answer);
}
