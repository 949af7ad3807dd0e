/* report.h - what a benchmark found: JSON, table, bars (rows -> files) */
/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Why:     every benchmark says the same of each figure: its name, the value,
 *          the unit, what the physical floor allows, and what a peer reached
 *          on the same machine in the same run. One writer, so that whoever
 *          reads the files knows the shape.
 * JSON:    a list of {"name", "value", "unit", "limit", "peer",
 *          "peer_value"}; limit, peer and peer_value may be null; value,
 *          limit and peer_value are in the same unit. A value that is no
 *          finite number is null.
 * Ownership: texts are the caller's and live as long as the report is used;
 *          names of report_add_named() are the report's, which then may not
 *          be copied.
 * Threads: one.
 */
#ifndef HEDDLE_BENCH_REPORT_H
#define HEDDLE_BENCH_REPORT_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include "base/error.h"

#define REPORT_ROW_COUNT_MAX 256
#define REPORT_NAME_BYTES 128

/* A limit or a peer that is not there is 0; a bar needs a value above 0. */
struct report_row {
	const char *name; /* "cpu.decode.b1" */
	double value;
	const char *unit; /* "tokens/s" */
	double limit; /* what the floor allows, 0 = none stated */
	const char *peer; /* its name, NULL = not measured */
	double peer_value; /* 0 = not measured */
	bool less_is_better; /* a time: the limit is the most it may be */
	double goal_share; /* of the limit that is aimed at, 0 = none */
	double goal_factor; /* so many times better than the peer, 0 = none */
};

struct report {
	struct report_row rows[REPORT_ROW_COUNT_MAX];
	uint32_t count;
	char names[REPORT_ROW_COUNT_MAX][REPORT_NAME_BYTES];
};

void report_add(struct report *report, const struct report_row *row);

/* The same under a name that is made here; row->name is not read. */
void report_add_named(struct report *report, const struct report_row *row,
	const char *format, ...) __attribute__((format(printf, 3, 4)));

/* Does the row reach both of its goals, where they can be judged? */
bool report_row_reached(const struct report_row *row);

void report_print_table(const struct report *report, FILE *out);

/* A bar per row: # the value, | the limit, o the peer. */
void report_print_bars(const struct report *report, FILE *out);

/*
 * What a run that reached its end leaves, where a path is given: the rows as
 * JSON, the bars as a picture; -EIO and the like with a text.
 */
int report_write(const struct report *report, const char *json, const char *svg,
	struct error *err);

#endif
