/* panels_turn.h - sixteen rows of a checkpoint become a panel */
/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Why:     turning rows is nearly all of what a load computes, and what it
 *          writes is read long after: whole lines go past the caches, so that
 *          they are not read before they are written, and what comes next is
 *          asked for meanwhile.
 * Threads: pure functions; a thread that stored past its caches says
 *          panels_turn_end() before others may look.
 * Limits:  memory needs no alignment; whole lines of the processor are
 *          fastest.
 */
#ifndef HEDDLE_GPU_CPU_PANELS_TURN_H
#define HEDDLE_GPU_CPU_PANELS_TURN_H

#include <stddef.h>

/*
 * Sixteen rows of `count` words (4 bytes) that begin `stride` bytes apart, to
 * out[count][16]. What lies up to 17 rows behind may be prefetched.
 */
void panels_turn_words(unsigned char *out, const unsigned char *data,
	size_t stride, size_t count);

/* The same with halves (2 bytes). */
void panels_turn_halves(unsigned char *out, const unsigned char *data,
	size_t stride, size_t count);

/* All that this thread has turned is stored. */
void panels_turn_end(void);

#endif
