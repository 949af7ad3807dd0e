/*
 * probe_section.h - the sections of the card probe
 *
 * Why:        one function per section, called in a process of its own.
 * Invariants: a section releases what it made, on every path.
 * Threads:    one.
 * Limits:     see PROBE_SECTIONS for the time each may take.
 */
/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PROBE_SECTION_H
#define PROBE_SECTION_H

#include "probe.h"

/*
 * 0: measured (p->wrong tells whether a check failed); -ENOTSUP: this card or
 * machine cannot do it, `why` says what is missing; other -errno: failed.
 */
#define PROBE_SECTION_FUNCTION(name, limit_s, what)                            \
	int probe_section_##name(struct probe *p);
PROBE_SECTIONS(PROBE_SECTION_FUNCTION)
#undef PROBE_SECTION_FUNCTION

/*
 * A buffer size: `wanted`, but at most free memory / `share`, and a sixteenth
 * of `wanted` in a quick run; a multiple of 2 MiB, at least 2 MiB.
 */
uint64_t probe_size(const struct probe *p, uint64_t wanted, uint64_t share);

#endif
