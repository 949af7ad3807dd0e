/* process.h - a program beside us, and what it says (argv -> streams) */
/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Why:     some figures are another program's: a peer's, heddle-eval's.
 * Ownership: the streams and the process are the caller's, to fclose() and to
 *          waitpid() for.
 * Threads: one.
 */
#ifndef HEDDLE_BENCH_PROCESS_H
#define HEDDLE_BENCH_PROCESS_H

#include <stdio.h>
#include <sys/types.h>

#include "base/error.h"

/*
 * A child whose standard output we read, and whose standard input we write
 * when out_to is given. argv ends with NULL; its first is sought in $PATH. A
 * program that cannot be run ends with status 127. -errno with a text.
 */
int process_spawn(const char *const *argv, pid_t *out_pid, FILE **out_to,
	FILE **out_from, struct error *err);

#endif
