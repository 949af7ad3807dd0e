/*
 * probe_stats.h - median and p99 of a set of measurements
 *
 * Why:        a mean hides a stall; a median and a tail do not.
 * Invariants: p50 and p99 are values that were measured (nearest rank, no
 *             interpolation): the ceil(q * n)-th smallest of n.
 * Ownership:  the samples are the caller's; they are sorted in place.
 * Threads:    no state.
 * Limits:     none.
 */
/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PROBE_STATS_H
#define PROBE_STATS_H

#include <stddef.h>

struct probe_stats {
	double median;
	double p99;
	double low;
	double high;
	size_t count; /* 0: nothing was measured, the other fields are NaN */
};

/* Statistics of `count` samples in any unit; sorts `sample`. */
struct probe_stats probe_stats_of(double *sample, size_t count);

/*
 * Peak memory bandwidth in GB/s (1e9 bytes) from a clock in kHz and a bus
 * width in bits; two transfers per clock, as in NVIDIA's deviceQuery sample.
 * NaN when the card does not say (0 or negative).
 */
double probe_peak_gb_s(int clock_khz, int bus_bits);

#endif
