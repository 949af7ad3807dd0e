/*
 * probe_fds.h - a few descriptors through a socket
 *
 * Why:        memory is held by whoever holds its descriptor; this is how it
 *             changes hands.
 * Ownership:  sending leaves the sender's copies open; the receiver owns what
 *             it got and closes it with probe_fds_close().
 * Threads:    no state.
 * Limits:     PROBE_FDS_MAX descriptors in one message.
 */
/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PROBE_FDS_H
#define PROBE_FDS_H

#include <stddef.h>

#define PROBE_FDS_MAX 64

struct probe_fds {
	int fd[PROBE_FDS_MAX];
	size_t count;
};

/* One message over a SOCK_SEQPACKET socket. 0 or -errno (errno is set too). */
int probe_fds_send(int socket, const struct probe_fds *fds);

/* Wait for one message, never longer than 10 s. 0 or -errno; on an error
 * nothing is left open. */
int probe_fds_receive(int socket, struct probe_fds *fds);

void probe_fds_close(struct probe_fds *fds);

#endif
