/* notify.c - tell the service manager how we are (state -> datagram) */
/* SPDX-License-Identifier: Apache-2.0 */
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/clock.h"
#include "control/notify.h"

/* A path, or an abstract name behind '@'. */
static int connect_to(const char *name)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	size_t length = strlen(name);
	socklen_t size =
		(socklen_t)(offsetof(struct sockaddr_un, sun_path) + length);
	int fd;

	if ((name[0] != '/' && name[0] != '@') || length < 2 ||
		length >= sizeof(address.sun_path))
		return -1;
	memcpy(address.sun_path, name, length);
	if (name[0] == '@')
		address.sun_path[0] = '\0';
	fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	if (fd >= 0 &&
		connect(fd, (const struct sockaddr *)&address, size) != 0) {
		close(fd);
		fd = -1;
	}
	return fd;
}

void notify_open(struct notify *out)
{
	const char *name = getenv("NOTIFY_SOCKET");
	const char *interval = getenv("WATCHDOG_USEC");

	*out = (struct notify){.fd = -1};
	if (name)
		out->fd = connect_to(name);
	/* Twice as often as the manager wants it. */
	if (interval && out->fd >= 0)
		out->watchdog_ns = strtoull(interval, NULL, 10) * NS_PER_US / 2;
	unsetenv("NOTIFY_SOCKET");
	unsetenv("WATCHDOG_USEC");
	unsetenv("WATCHDOG_PID");
}

void notify_send(const struct notify *notify, const char *format, ...)
{
	char text[512];
	va_list args;
	int length;

	if (notify->fd < 0)
		return;
	va_start(args, format);
	length = vsnprintf(text, sizeof(text), format, args);
	va_end(args);
	if (length > 0 && (size_t)length < sizeof(text))
		(void)send(notify->fd, text, (size_t)length,
			MSG_NOSIGNAL | MSG_DONTWAIT);
}

void notify_close(struct notify *notify)
{
	if (notify->fd >= 0)
		close(notify->fd);
	notify->fd = -1;
}
