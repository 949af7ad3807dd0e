/*
 * probe_child.h - run one section in a process of its own, with a deadline
 *
 * Why:        a crash, a sticky CUDA error or a hang costs one section only.
 * Invariants: when probe_child_run() returns, the process has ended, or it
 *             could not be killed and end.stuck says so; nobody waits for it
 *             any longer.
 * Ownership:  the caller keeps its descriptors.
 * Threads:    one; the process is killed should the caller die.
 * Limits:     lines longer than PROBE_LINE_MAX are dropped and counted.
 */
/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PROBE_CHILD_H
#define PROBE_CHILD_H

#include <stdbool.h>
#include <stddef.h>

#include "probe_args.h"
#include "probe_record.h"

struct probe_child {
	int section; /* enum probe_section_id */
	const struct probe_args *args; /* borrows */
	unsigned limit_s;
	int socket; /* becomes PROBE_SOCKET_FD; -1 for none */
	/* Called for each valid line. */
	void (*take)(void *context, const struct probe_record *record);
	void *context;
};

struct probe_child_end {
	bool timed_out;
	bool stuck; /* not even SIGKILL ended it within 5 s */
	int wait_status; /* of waitpid, unless stuck */
	size_t bad_lines;
	double seconds;
};

/* 0 when a process was started (see `end`), -errno when not. */
int probe_child_run(
	const struct probe_child *child, struct probe_child_end *end);

#endif
