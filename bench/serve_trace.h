/* serve_trace.h - recorded traffic (trace file -> arrivals and lengths) */
/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Forms:   BurstGPT, CSV with a header line that names "Timestamp" (seconds),
 *          "Request tokens" and "Response tokens" in any order; Mooncake,
 *          one JSON object per line with "timestamp" (ms), "input_length",
 *          "output_length" and maybe "hash_ids", an id per 512 tokens of the
 *          prompt: equal ids are equal tokens. A file whose first character
 *          is '{' is Mooncake's.
 * Bad lines: refused with file, line and what is wrong; rows of BurstGPT with
 *          no response tokens are calls that failed when they were recorded:
 *          left out and counted.
 * Order:   rows are sorted by time (recorders write them as they end).
 * Ownership: serve_trace_release() frees.
 */
#ifndef HEDDLE_BENCH_SERVE_TRACE_H
#define HEDDLE_BENCH_SERVE_TRACE_H

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "base/error.h"

#define SERVE_TRACE_ROW_COUNT_MAX ((size_t)8 << 20)
#define SERVE_TRACE_TOKENS_MAX ((uint32_t)1 << 24)
#define SERVE_TRACE_BLOCK_TOKENS 512

struct serve_trace_row {
	double at_s; /* since the first row */
	uint32_t input_tokens, output_tokens;
	uint32_t hash_offset, hash_count; /* in hashes[] */
	uint32_t index; /* of the row in the file, for equal times */
};

struct serve_trace {
	struct serve_trace_row *rows;
	size_t count;
	uint64_t *hashes;
	size_t hash_count;
	size_t failed_count; /* rows left out */
};

/*
 * Read at most row_max rows. `name` is for errors. -EINVAL, -ENOMEM, -EIO,
 * -ENODATA where no row is left; then *out is empty.
 */
int serve_trace_read(FILE *file, const char *name, size_t row_max,
	struct serve_trace *out, struct error *err);
void serve_trace_release(struct serve_trace *trace);

#endif
