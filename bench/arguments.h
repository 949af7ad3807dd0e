/* arguments.h - values of a benchmark's options (text -> numbers, parts) */
/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Why:     every benchmark takes counts and a list of its parts, and refuses
 *          the same things.
 * Threads: any.
 */
#ifndef HEDDLE_BENCH_ARGUMENTS_H
#define HEDDLE_BENCH_ARGUMENTS_H

#include <stdbool.h>
#include <stdint.h>

/* A whole number from 1 to `most`, in decimal, with nothing behind it. */
bool argument_count(const char *text, uint32_t most, uint32_t *out);

/*
 * A list with commas, which is cut up on the way. Bit i of *out: names[i], the
 * last of which is NULL, is in it. False: an unknown name, or an empty one.
 */
bool argument_parts(char *list, const char *const *names, uint32_t *out);

#endif
