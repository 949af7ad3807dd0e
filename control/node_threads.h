/* node_threads.h - a node whose roles are threads (setup -> running roles) */
/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Why:   tests of the whole line want one process: a debugger, a sanitizer
 *        and exact counts of memory and descriptors see all of it.
 * What:  the same segment, dataplane and ranks as node.h starts as
 *        processes. Nobody starts again what ends.
 * Threads: start and stop by one; one more for each role.
 */
#ifndef HEDDLE_CONTROL_NODE_THREADS_H
#define HEDDLE_CONTROL_NODE_THREADS_H

#include "control/node_setup.h"

struct node_threads; /* private */

/*
 * Start the roles of a setup that listens, and wait until all are ready. The
 * setup is borrowed until node_threads_stop(). -ENOTSUP: a rank is no null
 * device; errors of the roles' starts.
 */
int node_threads_start(const struct node_setup *setup,
	struct node_threads **out, struct error *err);

const struct segment *node_threads_segment(const struct node_threads *node);

/* Drain, then end; first error of a role. NULL is allowed. */
int node_threads_stop(struct node_threads *node, struct error *err);

#endif
