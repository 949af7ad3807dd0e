/* node.h - a node: the process that starts, watches and stops the roles */
/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What:  makes the segment, binds the listeners, opens the model's files,
 *        starts the dataplane and the ranks, answers heddlectl, and keeps
 *        what died alive again. It touches no request's data but one thing:
 *        it closes the half of a rank that died (base/segment.h).
 *
 * Life:  starting -> serving -> draining -> ending -> gone.
 *        Draining: the dataplane ends what is open, at most drain-timeout,
 *        and refuses what is new (dataplane/front.h). Ending: the ranks stop. A second SIGTERM
 *        cuts the drain short, a third one kills.
 *
 * Death: a role that dies while the node serves is started again, at once
 *        the first time and then later and later, up to NODE_BACKOFF_MAX_NS,
 *        until it has lived for NODE_BACKOFF_MAX_NS. One that dies before
 *        the node was ever ready ends the node: nothing would be better the
 *        next time.
 *
 * Threads: one; waits in one place (epoll).
 */
#ifndef HEDDLE_CONTROL_NODE_H
#define HEDDLE_CONTROL_NODE_H

#include "base/clock.h"
#include "control/options.h"

#define NODE_BACKOFF_MIN_NS (200 * NS_PER_MS)
#define NODE_BACKOFF_MAX_NS (10 * NS_PER_S)

/*
 * Run a node until it is told to stop. Takes over *options (a reload replaces
 * values in it; the caller releases it). `line` is read again at each reload.
 * 0: stopped as told; -errno: could not start or had to give up.
 */
int node_run(const struct command_line *line, struct options *options,
	struct error *err);

#endif
