/* serve_arrivals.c - when each request is due (a law, a seed -> instants) */
/* SPDX-License-Identifier: Apache-2.0 */
#include <assert.h>

#include "bench/serve_arrivals.h"
#include "bench/serve_random.h"

/* One gap in units of the mean gap. */
static double gap(
	const struct serve_arrivals *arrivals, struct serve_random *random)
{
	switch (arrivals->kind) {
	case SERVE_AT_ONCE:
		return 0;
	case SERVE_CONSTANT:
		return 1;
	case SERVE_POISSON:
		return serve_random_exponential(random);
	case SERVE_GAMMA:
		return serve_random_gamma(random, arrivals->burstiness) /
		       arrivals->burstiness;
	}
	return 0;
}

void serve_arrivals_fill(
	const struct serve_arrivals *arrivals, uint64_t *at_ns, size_t count)
{
	struct serve_random random = {serve_random_mix(arrivals->seed, 1)};
	double at_s = 0;

	assert(arrivals->kind == SERVE_AT_ONCE || arrivals->rate > 0);
	for (size_t i = 0; i < count; i++) {
		if (arrivals->kind != SERVE_AT_ONCE)
			at_s += gap(arrivals, &random) / arrivals->rate;
		at_ns[i] = (uint64_t)(at_s * 1e9);
	}
}
