/* probe_report.c - all that a run learned, as a table and as JSON */
/* SPDX-License-Identifier: Apache-2.0 */
#include "probe_report.h"
#include "probe_json.h"
#include "probe_names.h"

#include <errno.h>
#include <limits.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

void probe_report_init(struct probe_report *report)
{
	*report = (struct probe_report){.record = NULL};
}

void probe_report_release(struct probe_report *report)
{
	free(report->record);
	free(report->outcome);
	probe_report_init(report);
}

int probe_report_add(
	struct probe_report *report, const struct probe_record *record)
{
	if (report->record_count == report->record_room) {
		size_t room = report->record_room == 0
				      ? 256
				      : 2 * report->record_room;
		struct probe_record *bigger =
			realloc(report->record, room * sizeof(*bigger));

		if (bigger == NULL)
			return -ENOMEM;
		report->record = bigger;
		report->record_room = room;
	}
	report->record[report->record_count++] = *record;
	return 0;
}

int probe_report_close(
	struct probe_report *report, const struct probe_outcome *outcome)
{
	struct probe_outcome *bigger = realloc(
		report->outcome, (report->outcome_count + 1) * sizeof(*bigger));

	if (bigger == NULL)
		return -ENOMEM;
	report->outcome = bigger;
	report->outcome[report->outcome_count++] = *outcome;
	return 0;
}

const struct probe_record *probe_report_find(const struct probe_report *report,
	enum probe_record_kind kind, const char *name)
{
	for (size_t i = report->record_count; i > 0; i--) {
		const struct probe_record *record = &report->record[i - 1];

		if (record->kind == kind && strcmp(record->name, name) == 0)
			return record;
	}
	return NULL;
}

static const char *unit_of(const char *name)
{
	const struct probe_result_name *known = probe_result_find(name);

	return known != NULL ? known->unit : "?";
}

void probe_report_print(FILE *file, const struct probe_record *record)
{
	const char *unit = unit_of(record->name);

	fprintf(file, "%-34s ", record->name);
	if (strcmp(unit, "bool") == 0)
		fprintf(file, "%12s %-8s", record->value != 0 ? "yes" : "NO",
			"");
	else
		fprintf(file, "%12.6g %-8s", record->value, unit);
	if (!isnan(record->p99))
		fprintf(file, " p99 %-10.5g", record->p99);
	if (!isnan(record->limit))
		fprintf(file, " %5.1f %% of %.5g",
			100 * record->value / record->limit, record->limit);
	if (record->text[0] != '\0')
		fprintf(file, "  (%s)", record->text);
	fputc('\n', file);
}

/* ---- JSON -------------------------------------------------------------- */

static void write_attribute(
	struct probe_json *json, const struct probe_record *record)
{
	if (isnan(record->value))
		probe_json_string(json, record->name, record->text);
	else
		probe_json_number(json, record->name, record->value);
}

static void write_result(
	struct probe_json *json, const struct probe_record *record)
{
	probe_json_begin(json, NULL, '{');
	probe_json_string(json, "name", record->name);
	probe_json_number(json, "value", record->value);
	probe_json_string(json, "unit", unit_of(record->name));
	probe_json_number(json, "p99", record->p99);
	probe_json_number(json, "limit", record->limit);
	probe_json_number(json, "runs", (double)record->runs);
	probe_json_string(json, "note", record->text);
	probe_json_end(json, '}');
}

static void write_outcome(
	struct probe_json *json, const struct probe_outcome *outcome)
{
	probe_json_begin(json, NULL, '{');
	probe_json_string(json, "name", outcome->name);
	probe_json_string(json, "status", outcome->status);
	probe_json_string(json, "why", outcome->why);
	probe_json_number(json, "seconds", outcome->seconds);
	probe_json_end(json, '}');
}

/* Attributes that also stand at the top, so that a reader finds them first. */
static void write_heads(
	struct probe_json *json, const struct probe_report *report)
{
	static const char *const heads[] = {"card", "driver", "cuda_build"};

	for (size_t i = 0; i < sizeof(heads) / sizeof(heads[0]); i++) {
		const struct probe_record *record =
			probe_report_find(report, PROBE_ATTRIBUTE, heads[i]);

		if (record != NULL)
			write_attribute(json, record);
	}
}

int probe_report_json(const struct probe_report *report, FILE *file)
{
	struct probe_json json;

	probe_json_init(&json, file);
	probe_json_begin(&json, NULL, '{');
	probe_json_number(&json, "schema", 1);
	write_heads(&json, report);
	probe_json_begin(&json, "attributes", '{');
	for (size_t i = 0; i < report->record_count; i++)
		if (report->record[i].kind == PROBE_ATTRIBUTE)
			write_attribute(&json, &report->record[i]);
	probe_json_end(&json, '}');
	probe_json_begin(&json, "results", '[');
	for (size_t i = 0; i < report->record_count; i++)
		if (report->record[i].kind == PROBE_RESULT)
			write_result(&json, &report->record[i]);
	probe_json_end(&json, ']');
	probe_json_begin(&json, "sections", '[');
	for (size_t i = 0; i < report->outcome_count; i++)
		write_outcome(&json, &report->outcome[i]);
	probe_json_end(&json, ']');
	probe_json_end(&json, '}');
	return probe_json_finish(&json);
}

/* Make the folders above `path`. */
static int make_folders(const char *path)
{
	char folder[PATH_MAX];

	if (strlen(path) >= sizeof(folder))
		return -ENAMETOOLONG;
	probe_text_set(folder, sizeof(folder), path);
	for (char *at = folder + 1; *at != '\0'; at++) {
		if (*at != '/')
			continue;
		*at = '\0';
		if (mkdir(folder, 0777) != 0 && errno != EEXIST)
			return -errno;
		*at = '/';
	}
	return 0;
}

int probe_report_save(const struct probe_report *report, const char *path)
{
	char draft[PATH_MAX];
	FILE *file;
	int error = make_folders(path);

	if (error != 0)
		return error;
	if (snprintf(draft, sizeof(draft), "%s.tmp", path) >=
		(int)sizeof(draft))
		return -ENAMETOOLONG;
	file = fopen(draft, "w");
	if (file == NULL)
		return -errno;
	error = probe_report_json(report, file);
	if (fclose(file) != 0 && error == 0)
		error = -EIO;
	if (error == 0 && rename(draft, path) != 0)
		error = -errno;
	if (error != 0)
		(void)remove(draft);
	return error;
}
