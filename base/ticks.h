/* ticks.h - the processor's own clock, for what takes nanoseconds */
/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Why:        a clock read through the kernel's page costs more than some of
 *             what is measured. This one takes some 10 ns and touches no
 *             memory.
 * Invariants: it runs at one rate on all cores, which is not told: compare
 *             ticks with ticks. What stands before it in the program has been
 *             done when it is read.
 */
#ifndef HEDDLE_BASE_TICKS_H
#define HEDDLE_BASE_TICKS_H

#include <stdint.h>

#if defined(__x86_64__) || defined(__i386__)
static inline uint64_t ticks_now(void)
{
	__builtin_ia32_lfence();
	return __builtin_ia32_rdtsc();
}
#elif defined(__aarch64__)
static inline uint64_t ticks_now(void)
{
	uint64_t ticks;

	__asm__ volatile("isb\n\tmrs %0, cntvct_el0" : "=r"(ticks)::"memory");
	return ticks;
}
#else
#include "base/clock.h"

static inline uint64_t ticks_now(void)
{
	return mono_now().ns;
}
#endif

#endif
