/* role.h - a role in a process of its own (setup -> dataplane or engine) */
/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Why:   each role is this program again, started by control with a sealed
 *        memory file that says what it is. It inherits descriptors and opens
 *        nothing by name.
 * Channel: a socket pair of messages between control and the role. Control
 *        says stop, reload, and to a rank which adapters come and go; the
 *        role says that a reload was taken, what became of an adapter, what
 *        a client asks of control, or why the role ends. When control dies the role is killed.
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
#include "engine/mail.h"
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
	int bell_fds[FRONT_COUNT_MAX]; /* of the segment's fronts */
	uint32_t log_level, log_target;
	uint32_t uid, gid; /* whom the dataplane becomes once it has started */
	struct front_setup front;
	struct engine_null_options null;
	struct engine_serve_options serve;
	/* Of the ranks that share the cores this is number cpu_index; of the
	 * dataplane only their count. */
	uint32_t cpu_index, cpu_count;
	struct role_model model;
};

enum role_message_kind {
	ROLE_STOP, /* a second one ends without waiting */
	ROLE_RELOAD, /* with the descriptor of a role_setup and, where clients
			speak TLS, those of certificate and key */
	ROLE_RELOADED, /* the role's answer; text "" = taken */
	ROLE_FAILED, /* the role's last word */
	ROLE_ADAPTER, /* to a rank: a command in a memory file, and the
			 adapter's files (role_adapter.c) */
	ROLE_ADAPTER_ANSWER, /* of a rank: what, instance, serial, rc, text */
	ROLE_ASK, /* of the dataplane, for a client: what, id, inplace, name
		     and in text the path */
	ROLE_ASK_ANSWER, /* to the dataplane: id, rc = HTTP status, text */
	ROLE_CAPTURE, /* to the dataplane: id = serial and bytes, with the
			 file's descriptor; without one: stop */
	ROLE_CAPTURE_ANSWER /* of the dataplane: rc, text */
};

#define ROLE_TEXT_BYTES 1024
_Static_assert(ROLE_TEXT_BYTES >= ERROR_TEXT_BYTES &&
		       ROLE_TEXT_BYTES >= FRONT_ASK_PATH_BYTES,
	"an error's text fits, and a client's path");

struct role_message {
	uint32_t kind; /* enum role_message_kind */
	uint32_t what; /* enum engine_command_kind, enum front_ask_kind */
	uint32_t instance, serial;
	int32_t rc;
	uint32_t inplace;
	uint64_t id;
	uint64_t bytes;
	char name[ADAPTER_NAME_BYTES];
	char text[ROLE_TEXT_BYTES];
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

/* The files of an adapter, and the memory file that names them. */
#define ROLE_ADAPTER_FILE_COUNT_MAX 64
#define ROLE_FD_COUNT_MAX (ROLE_ADAPTER_FILE_COUNT_MAX + 1)

/* Descriptors that go with a message. */
struct role_fds {
	int fd[ROLE_FD_COUNT_MAX];
	uint32_t count;
};

/* One message; fds may be NULL. Never waits; -EAGAIN, -EPIPE, ... */
int role_send(int channel, enum role_message_kind kind, const char *text,
	const struct role_fds *fds);
int role_send_message(int channel, const struct role_message *message,
	const struct role_fds *fds);

/*
 * 1: a message, its descriptors are the caller's to close; 0: the other side
 * is gone; -EAGAIN and others.
 */
int role_receive(
	int channel, struct role_message *out, struct role_fds *out_fds);
void role_fds_close(struct role_fds *fds);

/* --- role_adapter.c: a rank's mail over the channel ------------------------- */

/* Can the files of an adapter be sent? -E2BIG names the adapter. */
int role_adapter_fits(
	const char *name, const struct adapter_files *files, struct error *err);

/*
 * Send a command with its files, which stay the caller's; for a view of their
 * own they are opened again. Never waits; -EAGAIN, -EPIPE, -EMFILE, ...
 */
int role_adapter_send(int channel, const struct engine_command *command);

/* Read one; takes the descriptors. -EINVAL, -ENOMEM: they are closed. */
int role_adapter_take(struct role_fds *fds, struct engine_command *out);

/*
 * What a rank has to say to control: at once where the channel takes it, else
 * kept until it does. Nothing is lost and nobody waits.
 */
struct role_outbox;

int role_outbox_create(int channel, struct role_outbox **out);
/* NULL is allowed. */
void role_outbox_destroy(struct role_outbox *outbox);
/* Any thread. */
void role_outbox_put(
	struct role_outbox *outbox, const struct role_message *message);
/* Wait until the channel can be read; meanwhile what was kept goes out. */
void role_outbox_wait(struct role_outbox *outbox);

/* main() of a role; returns the exit status. */
int role_main(int setup_fd);

#endif
