/* check.h - arithmetic on sizes that come from outside */
/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Why:     a size read from a file or a message is an attacker's number
 *          until it has passed through one of these; a product that wraps
 *          turns into a short buffer and a long copy.
 * Use:     every function returns false and leaves *out alone when the
 *          result does not fit; the caller refuses the input by name.
 * Threads: pure functions.
 */
#ifndef HEDDLE_BASE_CHECK_H
#define HEDDLE_BASE_CHECK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

static inline bool add_ok(size_t a, size_t b, size_t *out)
{
	size_t sum;

	if (__builtin_add_overflow(a, b, &sum))
		return false;
	*out = sum;
	return true;
}

static inline bool mul_ok(size_t a, size_t b, size_t *out)
{
	size_t product;

	if (__builtin_mul_overflow(a, b, &product))
		return false;
	*out = product;
	return true;
}

/* Round up to a multiple of `unit` (any unit > 0, not only powers of two). */
static inline bool round_up_ok(size_t size, size_t unit, size_t *out)
{
	size_t rest;

	if (unit == 0)
		return false;
	rest = size % unit;
	if (rest == 0) {
		*out = size;
		return true;
	}
	return add_ok(size, unit - rest, out);
}

/* Quotient rounded up, for counts: div_up(0, n) is 0; unit > 0. */
static inline size_t div_up(size_t size, size_t unit)
{
	return size / unit + (size % unit != 0);
}

static inline bool is_power_of_two(size_t n)
{
	return n != 0 && (n & (n - 1)) == 0;
}

/* Narrow to 32 bits; false when the value does not fit. */
static inline bool u32_ok(size_t value, uint32_t *out)
{
	if (value > UINT32_MAX)
		return false;
	*out = (uint32_t)value;
	return true;
}

#endif
