/*
 * probe_report.h - all that a run learned, as a table and as JSON
 *
 * Why:        what was measured is kept even when a later section takes the
 *             machine down: the file is written anew after each section.
 * Invariants: the file is always a complete JSON document.
 * Ownership:  owns its arrays until probe_report_release().
 * Threads:    one.
 * Limits:     memory.
 */
/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PROBE_REPORT_H
#define PROBE_REPORT_H

#include <stddef.h>
#include <stdio.h>

#include "probe_record.h"

struct probe_outcome {
	const char *name; /* constant text */
	const char *status; /* ok, failed, timeout or skipped; constant text */
	char why[PROBE_TEXT_MAX];
	double seconds;
};

struct probe_report {
	struct probe_record *record; /* attributes and results, in order */
	size_t record_count;
	size_t record_room;
	struct probe_outcome *outcome;
	size_t outcome_count;
};

void probe_report_init(struct probe_report *report);
void probe_report_release(struct probe_report *report);

/* 0 or -ENOMEM: nothing added. */
int probe_report_add(
	struct probe_report *report, const struct probe_record *record);
int probe_report_close(
	struct probe_report *report, const struct probe_outcome *outcome);

/* The last record of this kind and name; NULL when there is none. */
const struct probe_record *probe_report_find(const struct probe_report *report,
	enum probe_record_kind kind, const char *name);

/* One line of the table. */
void probe_report_print(FILE *file, const struct probe_record *record);

/* The whole document. 0 or -EIO. */
int probe_report_json(const struct probe_report *report, FILE *file);

/*
 * Write the document to `path` by way of `path`.tmp, making the folders that
 * are missing. 0 or -errno; an older file then stays as it was.
 */
int probe_report_save(const struct probe_report *report, const char *path);

#endif
