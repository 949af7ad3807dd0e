/* bus_guard.h - reading a mapped file that may be cut meanwhile */
/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Why:     who touches a page of a mapping that its file does not have any more,
 *          or that cannot be read, gets SIGBUS, which ends the process. Within
 *          a guarded range zeros take the place of such pages, and the reader
 *          is told afterwards. A SIGBUS from anywhere else goes to whom it
 *          went before.
 * Limits:  what a cut left of its file's last page reads as zeros without a
 *          signal: who needs to know looks at the file's size after reading.
 * Threads: a range is guarded for the thread that asks, one at a time, which
 *          must not block SIGBUS. The pages are gone for all: others find zeros
 *          and are not told.
 */
#ifndef HEDDLE_BASE_BUS_GUARD_H
#define HEDDLE_BASE_BUS_GUARD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct bus_guard {
	uintptr_t begin, end;
	volatile bool lost; /* set by the handler of the signal */
};

/* Once before any range is guarded: 0 or -errno. */
int bus_guard_install(void);

/* The caller lends the struct until bus_guard_end(). */
void bus_guard_begin(
	struct bus_guard *guard, const void *from, size_t size_bytes);

/* False: some of what was read was zeros instead. */
bool bus_guard_end(const struct bus_guard *guard);

#endif
