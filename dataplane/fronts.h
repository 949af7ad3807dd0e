/* fronts.h - the loops of the dataplane role, side by side (front.h x N) */
/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Why:   one loop serves what one core can. Several share nothing: each is a
 *        struct front with connections, text workers, slots, pages and rings
 *        of its own, so none waits for another, and one is as it ever was.
 *
 * Loops: as many as the segment has fronts. The first has the admin listeners,
 *        and answers for all: /metrics has the sums. Sockets of the API are
 *        listened to by all; the kernel gives a connection to one. Of a polled
 *        port each has a pair of queues (nic.h); the first one captures.
 * Shares: connections, slots, pages, text workers and bodies in memory are
 *        divided, so that a limit of the node holds whatever goes where. One
 *        loop may say 429 where another has room.
 * Texts: tokenizer and template are loaded once; all read them.
 * Drain: each waits until no loop has an open request before it listens no
 *        more, so that whoever asks meanwhile is answered.
 *
 * Threads: create, run and destroy by one, which is the first loop's; run
 *        starts one for each other loop, and ends when all have ended. Stop,
 *        reload, answers and captures: as front.h.
 */
#ifndef HEDDLE_DATAPLANE_FRONTS_H
#define HEDDLE_DATAPLANE_FRONTS_H

#include "dataplane/front.h"

struct fronts; /* private */

/*
 * As front_create() for each loop. -EINVAL: fewer connections than loops. The
 * listeners are the loops'; on error some may be closed.
 */
int fronts_create(const struct front_setup *setup,
	const struct segment *segment, struct fronts **out, struct error *err);

int fronts_run(struct fronts *fronts, struct error *err);

/* As front.h. */
void fronts_stop(struct fronts *fronts);
int fronts_reload(struct fronts *fronts, const struct front_setup *setup,
	struct error *err);
void fronts_set_control(
	struct fronts *fronts, const struct front_control *control);
void fronts_control_answer(
	struct fronts *fronts, uint64_t id, int status, const char *text);
int fronts_capture_start(struct fronts *fronts, int fd, uint64_t max_bytes,
	uint64_t serial, struct error *err);
int fronts_capture_stop(struct fronts *fronts, struct error *err);

/* NULL is allowed. */
void fronts_destroy(struct fronts *fronts);

#endif
