/* tcp_flood.h - streams beside a flood of SYNs (rates -> share kept) */
/* SPDX-License-Identifier: Apache-2.0 */
#ifndef HEDDLE_BENCH_TCP_FLOOD_H
#define HEDDLE_BENCH_TCP_FLOOD_H

#include "base/error.h"

struct tcp_flood {
	double limit; /* SYNs/s that are received when nothing else is */
	double offered; /* SYNs/s that came: half of it */
	double events; /* per second, with no flood */
	double events_flooded;
	double kept; /* share of them that is kept in the flood, % */
	double lost; /* share of the SYNs that found no room, % */
	unsigned half_open; /* the most there were */
};

/* -ENOMEM, -EPROTO with a text. */
int tcp_flood_measure(struct tcp_flood *out, struct error *err);

#endif
