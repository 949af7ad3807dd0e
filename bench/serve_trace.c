/* serve_trace.c - recorded traffic (trace file -> arrivals and lengths) */
/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <jansson.h>
#include <math.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "bench/serve_trace.h"

#define CELL_COUNT_MAX 32
#define SECONDS_MAX 1e9

enum column { COLUMN_TIME, COLUMN_INPUT, COLUMN_OUTPUT, COLUMN_COUNT };

struct reader {
	struct serve_trace *trace;
	size_t row_room, hash_room;
	size_t row_max;
	const char *name;
	unsigned long line;
	int columns[COLUMN_COUNT]; /* CSV: which cell, -1 = none */
	struct error *err;
};

static int bad(const struct reader *reader, const char *what)
{
	return error_set(reader->err, EINVAL, "%s:%lu: %s", reader->name,
		reader->line, what);
}

/* Room for one more of `size` bytes each; doubles. */
static int grow(void **memory, size_t *room, size_t count, size_t size)
{
	size_t wanted = *room ? *room * 2 : 1024;
	void *larger;

	if (count < *room)
		return 0;
	larger = reallocarray(*memory, wanted, size);
	if (!larger)
		return -ENOMEM;
	*memory = larger;
	*room = wanted;
	return 0;
}

static int add_row(struct reader *reader, const struct serve_trace_row *row)
{
	struct serve_trace *trace = reader->trace;
	void *rows = trace->rows;

	if (grow(&rows, &reader->row_room, trace->count, sizeof(*row)))
		return error_set(reader->err, ENOMEM, "%s: no memory for rows",
			reader->name);
	trace->rows = rows;
	trace->rows[trace->count] = *row;
	trace->rows[trace->count].index = (uint32_t)trace->count;
	trace->count++;
	return 0;
}

static int add_hash(struct reader *reader, uint64_t hash)
{
	struct serve_trace *trace = reader->trace;
	void *hashes = trace->hashes;

	if (grow(&hashes, &reader->hash_room, trace->hash_count, sizeof(hash)))
		return error_set(reader->err, ENOMEM,
			"%s: no memory for hashes", reader->name);
	trace->hashes = hashes;
	trace->hashes[trace->hash_count++] = hash;
	return 0;
}

/* --- BurstGPT ------------------------------------------------------------- */

/* Cut the line at its commas; no trace has a quoted one in these columns. */
static int split(char *line, char *cells[CELL_COUNT_MAX])
{
	int count = 0;
	char *rest = line;

	line[strcspn(line, "\r\n")] = '\0';
	while (rest && count < CELL_COUNT_MAX)
		cells[count++] = strsep(&rest, ",");
	return rest ? -1 : count;
}

static int read_header(struct reader *reader, char *line)
{
	static const char *const names[COLUMN_COUNT] = {
		"Timestamp", "Request tokens", "Response tokens"};
	char *cells[CELL_COUNT_MAX];
	int count = split(line, cells);

	for (int column = 0; column < COLUMN_COUNT; column++) {
		reader->columns[column] = -1;
		for (int i = 0; i < count; i++)
			if (strcmp(cells[i], names[column]) == 0)
				reader->columns[column] = i;
		if (reader->columns[column] < 0)
			return error_set(reader->err, EINVAL,
				"%s:%lu: no column \"%s\"", reader->name,
				reader->line, names[column]);
	}
	return 0;
}

static bool number(const char *text, double max, double *out)
{
	char *end;

	*out = strtod(text, &end);
	return end != text && *end == '\0' && isfinite(*out) && *out >= 0 &&
	       *out <= max;
}

static int read_cells(struct reader *reader, char *line)
{
	static const double most[COLUMN_COUNT] = {
		SECONDS_MAX, SERVE_TRACE_TOKENS_MAX, SERVE_TRACE_TOKENS_MAX};
	char *cells[CELL_COUNT_MAX];
	int count = split(line, cells);
	double values[COLUMN_COUNT];

	for (int column = 0; column < COLUMN_COUNT; column++) {
		int cell = reader->columns[column];

		if (cell >= count)
			return bad(reader, "too few or too many columns");
		if (!number(cells[cell], most[column], &values[column]))
			return error_set(reader->err, EINVAL,
				"%s:%lu: column %d: not a number in range",
				reader->name, reader->line, cell + 1);
	}
	if (values[COLUMN_OUTPUT] < 1 || values[COLUMN_INPUT] < 1) {
		reader->trace->failed_count++;
		return 0;
	}
	return add_row(reader,
		&(struct serve_trace_row){.at_s = values[COLUMN_TIME],
			.input_tokens = (uint32_t)values[COLUMN_INPUT],
			.output_tokens = (uint32_t)values[COLUMN_OUTPUT]});
}

static int read_csv_line(struct reader *reader, char *line)
{
	if (reader->line == 1)
		return read_header(reader, line);
	if (line[strspn(line, " \t\r\n")] == '\0')
		return 0;
	return read_cells(reader, line);
}

/* --- Mooncake ------------------------------------------------------------- */

static int read_hashes(struct reader *reader, const json_t *hashes,
	struct serve_trace_row *row)
{
	size_t count = json_array_size(hashes);

	row->hash_offset = (uint32_t)reader->trace->hash_count;
	row->hash_count = (uint32_t)count;
	for (size_t i = 0; i < count; i++) {
		const json_t *hash = json_array_get(hashes, i);
		int rc;

		if (!json_is_integer(hash))
			return bad(reader, "hash_ids: not an integer");
		rc = add_hash(reader, (uint64_t)json_integer_value(hash));
		if (rc)
			return rc;
	}
	return 0;
}

static bool tokens(const json_t *object, const char *key, uint32_t *out)
{
	const json_t *value = json_object_get(object, key);
	json_int_t count = json_integer_value(value);

	*out = (uint32_t)count;
	return json_is_integer(value) && count >= 1 &&
	       count <= SERVE_TRACE_TOKENS_MAX;
}

static int read_object(struct reader *reader, const json_t *object)
{
	const json_t *time = json_object_get(object, "timestamp");
	const json_t *hashes = json_object_get(object, "hash_ids");
	struct serve_trace_row row = {.at_s = json_number_value(time) / 1e3};
	int rc = 0;

	if (!json_is_number(time) || row.at_s < 0 || row.at_s > SECONDS_MAX)
		return bad(reader, "timestamp: not a number in range");
	if (!tokens(object, "input_length", &row.input_tokens))
		return bad(reader, "input_length: not an integer in range");
	if (!tokens(object, "output_length", &row.output_tokens))
		return bad(reader, "output_length: not an integer in range");
	if (hashes && !json_is_array(hashes))
		return bad(reader, "hash_ids: not a list");
	if (hashes)
		rc = read_hashes(reader, hashes, &row);
	return rc ? rc : add_row(reader, &row);
}

static int read_json_line(struct reader *reader, const char *line)
{
	json_error_t fault;
	json_t *object;
	int rc;

	if (line[strspn(line, " \t\r\n")] == '\0')
		return 0;
	object = json_loads(line, JSON_REJECT_DUPLICATES, &fault);
	if (!object)
		return error_set(reader->err, EINVAL, "%s:%lu:%d: %s",
			reader->name, reader->line, fault.column, fault.text);
	rc = json_is_object(object) ? read_object(reader, object)
				    : bad(reader, "not an object");
	json_decref(object);
	return rc;
}

/* --- both ----------------------------------------------------------------- */

static int by_time(const void *a, const void *b)
{
	const struct serve_trace_row *x = a;
	const struct serve_trace_row *y = b;

	if (x->at_s != y->at_s)
		return (x->at_s > y->at_s) - (x->at_s < y->at_s);
	return (x->index > y->index) - (x->index < y->index);
}

static void settle(struct serve_trace *trace)
{
	double start;

	qsort(trace->rows, trace->count, sizeof(*trace->rows), by_time);
	start = trace->rows[0].at_s;
	for (size_t i = 0; i < trace->count; i++)
		trace->rows[i].at_s -= start;
}

static int read_lines(struct reader *reader, FILE *file)
{
	char *line = NULL;
	size_t room = 0;
	bool is_json = false;
	int rc = 0;

	while (rc == 0 && reader->trace->count < reader->row_max &&
		getline(&line, &room, file) >= 0) {
		if (++reader->line == 1)
			is_json = line[0] == '{';
		rc = is_json ? read_json_line(reader, line)
			     : read_csv_line(reader, line);
	}
	free(line);
	if (rc == 0 && ferror(file))
		rc = error_set(
			reader->err, EIO, "%s: reading failed", reader->name);
	return rc;
}

int serve_trace_read(FILE *file, const char *name, size_t row_max,
	struct serve_trace *out, struct error *err)
{
	struct reader reader = {.trace = out,
		.row_max = row_max < SERVE_TRACE_ROW_COUNT_MAX
				   ? row_max
				   : SERVE_TRACE_ROW_COUNT_MAX,
		.name = name,
		.err = err};
	int rc;

	memset(out, 0, sizeof(*out));
	rc = read_lines(&reader, file);
	if (rc == 0 && out->count == 0)
		rc = error_set(err, ENODATA, "%s: no row", name);
	if (rc)
		serve_trace_release(out);
	else
		settle(out);
	return rc;
}

void serve_trace_release(struct serve_trace *trace)
{
	free(trace->rows);
	free(trace->hashes);
	memset(trace, 0, sizeof(*trace));
}
