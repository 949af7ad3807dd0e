/* frontend_metrics.h - numbers of /metrics, read twice (-> percentile, sum) */
/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Why:     the time from a token in the log to its bytes given to the socket
 *          is known to the server alone; its histogram says so, in buckets.
 * Percentile: linear inside the bucket, so it is never below the true one's
 *          bucket.
 */
#ifndef HEDDLE_BENCH_FRONTEND_METRICS_H
#define HEDDLE_BENCH_FRONTEND_METRICS_H

#include <stddef.h>

#include "bench/serve_client.h"

#define FRONTEND_BUCKET_COUNT_MAX 64

struct frontend_histogram {
	size_t count; /* buckets, the last one is +Inf */
	double ends[FRONTEND_BUCKET_COUNT_MAX]; /* seconds */
	double sums[FRONTEND_BUCKET_COUNT_MAX]; /* samples up to the end */
};

/* Of the text of a metrics page, over all label sets; -ENODATA. */
int frontend_histogram_parse(
	const char *page, const char *name, struct frontend_histogram *out);

/*
 * One number of the page by its whole name ("..._sum"), over all label sets;
 * -ENODATA.
 */
int frontend_number_parse(const char *page, const char *name, double *out);

/* Ask the server; -errno with a text. */
int frontend_number_get(const struct serve_target *admin, const char *name,
	double *out, struct error *err);
int frontend_histogram_get(const struct serve_target *admin, const char *name,
	struct frontend_histogram *out, struct error *err);

/* Of the samples that came between two readings; 0 without any. Seconds. */
double frontend_histogram_percentile(const struct frontend_histogram *before,
	const struct frontend_histogram *after, double percent);

#endif
