/* dataplane_fault.h - a wire that harms what crosses it (frames <-> frames) */
/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What:    stands before another wire. Of the frames of IPv4 some are lost,
 *          come twice or late, both ways; of those to the server some are
 *          broken, each in one way that the server has to name. One frame
 *          meets one fault at most, and each is counted.
 * Late:    behind up to DATAPLANE_LATE_MAX of those that follow. When faults
 *          are off, what is late goes on with the next flush or receive.
 * Ownership: takes the wire below, and closes it.
 * Threads: as dataplane_wire.h.
 */
#ifndef HEDDLE_BENCH_DATAPLANE_FAULT_H
#define HEDDLE_BENCH_DATAPLANE_FAULT_H

#include "bench/dataplane_wire.h"

#define DATAPLANE_LATE_MAX 24u

enum dataplane_fault {
	FAULT_NONE,
	FAULT_LOST,
	FAULT_TWICE,
	FAULT_LATE,
	/* to the server alone */
	FAULT_SUM, /* TCP's checksum is wrong */
	FAULT_HEADER, /* IPv4's is */
	FAULT_MAC, /* it is for somebody else */
	FAULT_PIECE, /* it is a fragment */
	FAULT_COUNT
};

struct dataplane_faults {
	uint64_t in[FAULT_COUNT], out[FAULT_COUNT]; /* to, and of, the server */
	uint64_t out_frames; /* that the wire below has given */
};

/* On an error the wire below stays the caller's; -ENOMEM. */
int dataplane_wire_fault(struct dataplane_wire *below, uint64_t seed,
	struct dataplane_wire **out, struct error *err);

/* They are off at first. */
void dataplane_fault_set(struct dataplane_wire *wire, bool on);
const struct dataplane_faults *dataplane_fault_counts(
	const struct dataplane_wire *wire);
/* The wire below. */
const struct dataplane_wire *dataplane_fault_below(
	const struct dataplane_wire *wire);

#endif
