/* notify.h - tell the service manager how we are (state -> datagram) */
/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What:  the datagrams of sd_notify(3): READY=1, STATUS=..., RELOADING=1,
 *        STOPPING=1, WATCHDOG=1, sent to $NOTIFY_SOCKET; nothing where there
 *        is none.
 * Threads: one.
 */
#ifndef HEDDLE_CONTROL_NOTIFY_H
#define HEDDLE_CONTROL_NOTIFY_H

#include <stdint.h>

struct notify {
	int fd; /* connected; -1 = nobody listens */
	uint64_t watchdog_ns; /* send WATCHDOG=1 this often; 0 = never */
};

/*
 * From $NOTIFY_SOCKET and $WATCHDOG_USEC, which are then removed from the
 * environment: roles must not speak for the node.
 */
void notify_open(struct notify *out);

/* "READY=1\nSTATUS=serving"; lost where the manager does not read. */
void notify_send(const struct notify *notify, const char *format, ...)
	__attribute__((format(printf, 2, 3)));

void notify_close(struct notify *notify);

#endif
