/* role.h - a role in a process of its own (setup -> dataplane or engine) */
/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Why:   each role is this program again, started by control with a sealed
 *        memory file that says what it is. It inherits descriptors and opens
 *        nothing by name.
 * Channel: a socket pair of messages between control and the role. Control
 *        says stop, reload, log; the role says that a reload was taken or
 *        why the role ends. When control dies the role is killed.
 * Signals: SIGTERM, SIGINT and SIGHUP are control's; a role ignores them, so
 *        that a signal to the whole group still means one orderly drain.
 * Threads: the role's own on the first one; a second thread waits for
 *        messages on the channel.
 */
#ifndef HEDDLE_CONTROL_ROLE_H
#define HEDDLE_CONTROL_ROLE_H

#include <stdint.h>
#include <sys/types.h>

#include "base/error.h"
#include "base/log.h"
#include "base/segment.h"
#include "dataplane/front.h"
#include "engine/null.h"
#include "engine/serve.h"

enum role_kind {
	ROLE_FRONT,
	ROLE_NULL_ENGINE,
	ROLE_CPU_ENGINE,
	ROLE_KIND_COUNT
};

/* struct model_files without a pointer: descriptors that are inherited. */
struct role_model {
	struct model_file config, generation, index;
	uint32_t weight_count;
	struct model_file weights[MODEL_FILE_COUNT_MAX];
};

/* The content of the memory file, read once. */
struct role_setup {
	uint32_t magic;
	uint32_t size_bytes; /* of this struct: same build on both sides */
	uint32_t kind; /* enum role_kind */
	uint32_t rank; /* of an engine */
	int32_t segment_fd, channel_fd;
	uint32_t log_level, log_target;
	struct front_setup front;
	struct engine_null_options null;
	struct engine_serve_options serve;
	/* Of the ranks that share the cores this is number cpu_index. */
	uint32_t cpu_index, cpu_count;
	struct role_model model;
};

enum role_message_kind {
	ROLE_STOP, /* a second one ends without waiting */
	ROLE_RELOAD, /* with the descriptor of a role_setup and, where clients
			speak TLS, those of certificate and key */
	ROLE_RELOADED, /* the role's answer; text "" = taken */
	ROLE_FAILED /* the role's last word */
};

struct role_message {
	uint32_t kind; /* enum role_message_kind */
	char text[ERROR_TEXT_BYTES];
};

/* A sealed memory file with the setup, close on exec. -ENOMEM, ... */
int role_setup_write(
	const struct role_setup *setup, int *out_fd, struct error *err);

/* Read and check one; takes the descriptor. -EINVAL. */
int role_setup_read(int fd, struct role_setup *out, struct error *err);

/*
 * Start this program again as a role. The child inherits fds[0..count) and
 * the descriptors named in setup, which is written for it. *out_pidfd becomes
 * readable when it ends. -EAGAIN, -ENOMEM, ...
 */
int role_spawn(const struct role_setup *setup, const int *fds, uint32_t count,
	pid_t *out_pid, int *out_pidfd, struct error *err);

#define ROLE_FD_COUNT_MAX 3

/* Descriptors that go with a message. */
struct role_fds {
	int fd[ROLE_FD_COUNT_MAX];
	uint32_t count;
};

/* One message; fds may be NULL. Never waits; -EAGAIN, -EPIPE, ... */
int role_send(int channel, enum role_message_kind kind, const char *text,
	const struct role_fds *fds);

/*
 * 1: a message, its descriptors are the caller's to close; 0: the other side
 * is gone; -EAGAIN and others.
 */
int role_receive(
	int channel, struct role_message *out, struct role_fds *out_fds);
void role_fds_close(struct role_fds *fds);

/* main() of a role; returns the exit status. */
int role_main(int setup_fd);

#endif
