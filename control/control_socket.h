/* control_socket.h - commands from operators (UNIX socket -> handler) */
/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What:  a stream socket at a path, mode 0600, in a directory that is made
 *        0700 where it is missing. Only root and the uid that we run under
 *        may connect (SO_PEERCRED). A line in, an answer that ends with an
 *        empty line out (command.h); several on one connection.
 * Bounds: CONTROL_CLIENT_COUNT_MAX connections; lines of
 *        COMMAND_LINE_BYTES_MAX; one answer at a time, so a client that
 *        does not read is not read from; CONTROL_IDLE_NS without progress
 *        ends a connection, but not one that waits for an answer of ours.
 * Threads: one; nothing here waits.
 */
#ifndef HEDDLE_CONTROL_CONTROL_SOCKET_H
#define HEDDLE_CONTROL_CONTROL_SOCKET_H

#include "base/clock.h"
#include "base/error.h"
#include "control/command.h"

#define CONTROL_CLIENT_COUNT_MAX 16
#define CONTROL_IDLE_NS (60 * NS_PER_S)

/*
 * Carry a command out; *answer is zeroed before. With answer->later the client
 * waits, and no other does, until control_socket_answer().
 */
typedef void control_handler(void *arg, const struct command_call *call,
	struct command_answer *answer);

struct control_socket; /* private */

/*
 * -EADDRINUSE: a node answers there already; -ENAMETOOLONG, -EACCES, ... A
 * socket that nobody answers is replaced.
 */
int control_socket_open(const char *path, control_handler *handler, void *arg,
	struct control_socket **out, struct error *err);

/* Readable when control_socket_serve() has something to do. */
int control_socket_fd(const struct control_socket *control);

/*
 * The answer that was to come later, for call->ticket; released by the
 * caller. A client that has gone away meanwhile is no error.
 */
void control_socket_answer(struct control_socket *control, uint64_t ticket,
	const struct command_answer *answer, struct mono now);

void control_socket_serve(struct control_socket *control, struct mono now);

/* Removes the path. NULL is allowed. */
void control_socket_close(struct control_socket *control);

#endif
