/* probe_fds.c - a few descriptors through a socket */
/* SPDX-License-Identifier: Apache-2.0 */
#include "probe_fds.h"

#include <assert.h>
#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

enum { WAIT_MS = 10000 };

/* Room for the ancillary data, aligned as its header wants. */
union ancillary {
	struct cmsghdr align;
	char bytes[CMSG_SPACE(sizeof(int) * PROBE_FDS_MAX)];
};

static int fail(int error)
{
	errno = error;
	return -error;
}

int probe_fds_send(int socket, const struct probe_fds *fds)
{
	union ancillary room;
	char byte = 'F';
	struct iovec part = {&byte, 1};
	struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1};
	size_t bytes = sizeof(int) * fds->count;
	struct cmsghdr *head;

	assert(fds->count > 0 && fds->count <= PROBE_FDS_MAX);
	memset(&room, 0, sizeof(room));
	message.msg_control = room.bytes;
	message.msg_controllen = CMSG_SPACE(bytes);
	head = CMSG_FIRSTHDR(&message);
	head->cmsg_level = SOL_SOCKET;
	head->cmsg_type = SCM_RIGHTS;
	head->cmsg_len = CMSG_LEN(bytes);
	memcpy(CMSG_DATA(head), fds->fd, bytes);
	if (sendmsg(socket, &message, MSG_NOSIGNAL) != 1)
		return fail(errno != 0 ? errno : EIO);
	return 0;
}

static void take(struct probe_fds *fds, const struct cmsghdr *head)
{
	size_t bytes = head->cmsg_len - CMSG_LEN(0);

	assert(bytes <= sizeof(fds->fd));
	memcpy(fds->fd, CMSG_DATA(head), bytes);
	fds->count = bytes / sizeof(int);
}

int probe_fds_receive(int socket, struct probe_fds *fds)
{
	union ancillary room;
	char byte = 0;
	struct iovec part = {&byte, 1};
	struct msghdr message = {.msg_iov = &part,
		.msg_iovlen = 1,
		.msg_control = room.bytes,
		.msg_controllen = sizeof(room.bytes)};
	struct pollfd wait = {.fd = socket, .events = POLLIN};
	const struct cmsghdr *head;

	fds->count = 0;
	memset(&room, 0, sizeof(room));
	if (poll(&wait, 1, WAIT_MS) <= 0)
		return fail(ETIMEDOUT);
	if (recvmsg(socket, &message, MSG_CMSG_CLOEXEC) != 1)
		return fail(ECONNRESET);
	head = CMSG_FIRSTHDR(&message);
	if (head != NULL && head->cmsg_level == SOL_SOCKET &&
		head->cmsg_type == SCM_RIGHTS)
		take(fds, head);
	if (byte != 'F' || fds->count == 0 ||
		(message.msg_flags & (MSG_TRUNC | MSG_CTRUNC)) != 0) {
		probe_fds_close(fds);
		return fail(EPROTO);
	}
	return 0;
}

void probe_fds_close(struct probe_fds *fds)
{
	for (size_t i = 0; i < fds->count; i++)
		close(fds->fd[i]);
	fds->count = 0;
}
