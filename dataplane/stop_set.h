/* stop_set.h - stop strings sought in a stream of text (bytes -> hit, or hold) */
/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Why:   a stop string may begin in one token and end in another. Text that
 *        may still turn out to be the beginning of one must not be sent, and
 *        not a byte more may be held back. So the strings are sought by
 *        Knuth, Morris and Pratt's automata: the state after a byte is the
 *        length of the longest end of the text that begins a stop string,
 *        which is exactly what has to be held.
 * Meaning: of all stop strings, the one that ends first in the stream of
 *        bytes counts, of those that end with the same byte the longest. This
 *        does not depend on how the stream is cut into tokens.
 * Ownership: the caller's storage; no pointer in it, so it may be copied and
 *        shared. The states are one struct per stream.
 * Threads: a set never changes after stop_set_init(); states belong to one.
 */
#ifndef HEDDLE_DATAPLANE_STOP_SET_H
#define HEDDLE_DATAPLANE_STOP_SET_H

#include <stddef.h>
#include <stdint.h>

#define STOP_COUNT_MAX 16
#define STOP_BYTES_MAX 256

struct stop_set {
	uint32_t count;
	uint16_t length[STOP_COUNT_MAX]; /* 1 to STOP_BYTES_MAX */
	char text[STOP_COUNT_MAX][STOP_BYTES_MAX];
	/* border[s][i]: the longest proper beginning of text[s] that ends its
	   first i + 1 bytes */
	uint8_t border[STOP_COUNT_MAX][STOP_BYTES_MAX];
};

struct stop_states {
	uint16_t matched[STOP_COUNT_MAX]; /* bytes of each stop string */
};

/*
 * -E2BIG: too many, or one is too long; -EINVAL: one is empty or no UTF-8.
 * Texts are copied.
 */
int stop_set_init(struct stop_set *set, const char *const *texts,
	const size_t *lengths, size_t count);

/*
 * Advance by one byte. Returns the index of the stop string that ends with
 * it, or -1.
 */
int stop_set_step(
	const struct stop_set *set, struct stop_states *states, char byte);

/* Bytes at the end of the text that may become a stop string. */
size_t stop_set_held(
	const struct stop_set *set, const struct stop_states *states);

#endif
