/* relax.h - what a loop that only looks does between two looks */
/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Why: the other thread of the core gets the units meanwhile, and the loop
 *      leaves its last look at once when it sees what it waits for.
 */
#ifndef HEDDLE_BASE_RELAX_H
#define HEDDLE_BASE_RELAX_H

#if defined(__x86_64__) || defined(__i386__)
static inline void relax(void)
{
	__builtin_ia32_pause();
}
#else
static inline void relax(void)
{
}
#endif

#endif
