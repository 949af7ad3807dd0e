/* role_channel.c - what control and a role say to each other (messages) */
/* SPDX-License-Identifier: Apache-2.0 */
#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "control/role.h"

#define ROLE_MAGIC UINT32_C(0x68645253) /* "SRdh" */
#define SETUP_SEALS (F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE | F_SEAL_SEAL)

/* --- the setup ------------------------------------------------------------------ */

int role_setup_write(
	const struct role_setup *setup, int *out_fd, struct error *err)
{
	struct role_setup copy = *setup;
	int fd = memfd_create("heddle-setup", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	ssize_t written = -1;

	if (fd < 0)
		return error_set(err, errno, "cannot make a memory file: %s",
			strerror(errno));
	copy.magic = ROLE_MAGIC;
	copy.size_bytes = sizeof(copy);
	written = write(fd, &copy, sizeof(copy));
	if (written != (ssize_t)sizeof(copy) ||
		fcntl(fd, F_ADD_SEALS, SETUP_SEALS)) {
		int code = errno ? errno : EIO;

		close(fd);
		return error_set(err, code, "cannot write a role's setup: %s",
			strerror(code));
	}
	*out_fd = fd;
	return 0;
}

int role_setup_read(int fd, struct role_setup *out, struct error *err)
{
	ssize_t got = pread(fd, out, sizeof(*out), 0);
	int seals = fcntl(fd, F_GET_SEALS);

	close(fd);
	if (got != (ssize_t)sizeof(*out) || out->magic != ROLE_MAGIC ||
		out->size_bytes != sizeof(*out) ||
		out->kind >= ROLE_KIND_COUNT || seals != SETUP_SEALS)
		return error_set(err, EINVAL,
			"this is no setup of a role: --role is for heddled "
			"itself");
	return 0;
}

/* --- messages --------------------------------------------------------------------- */

union control_room {
	struct cmsghdr header;
	char bytes[CMSG_SPACE(ROLE_FD_COUNT_MAX * sizeof(int))];
};

static void attach_fds(struct msghdr *message, union control_room *room,
	const struct role_fds *fds)
{
	size_t bytes = fds->count * sizeof(fds->fd[0]);
	struct cmsghdr *header;

	assert(fds->count <= ROLE_FD_COUNT_MAX);
	memset(room, 0, sizeof(*room));
	message->msg_control = room->bytes;
	message->msg_controllen = CMSG_SPACE(bytes);
	header = CMSG_FIRSTHDR(message);
	header->cmsg_level = SOL_SOCKET;
	header->cmsg_type = SCM_RIGHTS;
	header->cmsg_len = CMSG_LEN(bytes);
	memcpy(CMSG_DATA(header), fds->fd, bytes);
}

int role_send(int channel, enum role_message_kind kind, const char *text,
	const struct role_fds *fds)
{
	struct role_message body = {.kind = kind};

	strncpy(body.text, text, sizeof(body.text) - 1);
	return role_send_message(channel, &body, fds);
}

int role_send_message(int channel, const struct role_message *body,
	const struct role_fds *fds)
{
	struct role_message copy = *body;
	struct iovec part = {&copy, sizeof(copy)};
	struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1};
	union control_room room;

	if (fds && fds->count > 0)
		attach_fds(&message, &room, fds);
	if (sendmsg(channel, &message, MSG_DONTWAIT | MSG_NOSIGNAL) < 0)
		return -errno;
	return 0;
}

static void take_fds(struct msghdr *message, struct role_fds *out)
{
	struct cmsghdr *header = CMSG_FIRSTHDR(message);
	size_t bytes;

	if (!header || header->cmsg_level != SOL_SOCKET ||
		header->cmsg_type != SCM_RIGHTS)
		return;
	bytes = header->cmsg_len - CMSG_LEN(0);
	/* The room above is all that the kernel may fill. */
	assert(bytes <= sizeof(out->fd));
	memcpy(out->fd, CMSG_DATA(header), bytes);
	out->count = (uint32_t)(bytes / sizeof(out->fd[0]));
}

void role_fds_close(struct role_fds *fds)
{
	while (fds->count > 0)
		close(fds->fd[--fds->count]);
}

int role_receive(
	int channel, struct role_message *out, struct role_fds *out_fds)
{
	struct iovec part = {out, sizeof(*out)};
	union control_room room;
	struct msghdr message = {
		.msg_iov = &part,
		.msg_iovlen = 1,
		.msg_control = room.bytes,
		.msg_controllen = sizeof(room.bytes),
	};
	ssize_t got;

	out_fds->count = 0;
	do {
		got = recvmsg(channel, &message, MSG_CMSG_CLOEXEC);
	} while (got < 0 && errno == EINTR);
	if (got < 0)
		return errno == ECONNRESET ? 0 : -errno;
	if (got == 0)
		return 0;
	take_fds(&message, out_fds);
	if (got != (ssize_t)sizeof(*out)) {
		role_fds_close(out_fds);
		return -EPROTO;
	}
	out->text[sizeof(out->text) - 1] = '\0';
	out->name[sizeof(out->name) - 1] = '\0';
	return 1;
}
