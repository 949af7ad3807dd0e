/* role_channel.c - what control and a role say to each other (messages) */
/* SPDX-License-Identifier: Apache-2.0 */
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
	char bytes[CMSG_SPACE(sizeof(int))];
};

static void attach_fd(struct msghdr *message, union control_room *room, int fd)
{
	struct cmsghdr *header;

	memset(room, 0, sizeof(*room));
	message->msg_control = room->bytes;
	message->msg_controllen = sizeof(room->bytes);
	header = CMSG_FIRSTHDR(message);
	header->cmsg_level = SOL_SOCKET;
	header->cmsg_type = SCM_RIGHTS;
	header->cmsg_len = CMSG_LEN(sizeof(fd));
	memcpy(CMSG_DATA(header), &fd, sizeof(fd));
}

int role_send(
	int channel, enum role_message_kind kind, const char *text, int fd)
{
	struct role_message body = {.kind = kind};
	struct iovec part = {&body, sizeof(body)};
	struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1};
	union control_room room;

	strncpy(body.text, text, sizeof(body.text) - 1);
	if (fd >= 0)
		attach_fd(&message, &room, fd);
	if (sendmsg(channel, &message, MSG_DONTWAIT | MSG_NOSIGNAL) < 0)
		return -errno;
	return 0;
}

static int take_fd(struct msghdr *message)
{
	struct cmsghdr *header = CMSG_FIRSTHDR(message);
	int fd;

	if (!header || header->cmsg_level != SOL_SOCKET ||
		header->cmsg_type != SCM_RIGHTS ||
		header->cmsg_len != CMSG_LEN(sizeof(fd)))
		return -1;
	memcpy(&fd, CMSG_DATA(header), sizeof(fd));
	return fd;
}

int role_receive(int channel, struct role_message *out, int *out_fd)
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

	*out_fd = -1;
	do {
		got = recvmsg(channel, &message, MSG_CMSG_CLOEXEC);
	} while (got < 0 && errno == EINTR);
	if (got < 0)
		return errno == ECONNRESET ? 0 : -errno;
	if (got == 0)
		return 0;
	*out_fd = take_fd(&message);
	if (got != (ssize_t)sizeof(*out)) {
		if (*out_fd >= 0)
			close(*out_fd);
		*out_fd = -1;
		return -EPROTO;
	}
	out->text[sizeof(out->text) - 1] = '\0';
	return 1;
}
