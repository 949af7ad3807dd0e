/* report.c - what a benchmark found: JSON, table, bars (rows -> files) */
/* SPDX-License-Identifier: Apache-2.0 */
#include <assert.h>
#include <errno.h>
#include <math.h>
#include <stdarg.h>
#include <string.h>

#include "bench/report.h"

#define BAR_CELLS 50

/* The picture's measures, in pixels. */
enum {
	SVG_WIDTH = 860,
	SVG_LEFT = 210, /* where bars begin */
	SVG_BAR_WIDTH = 430, /* of the whole scale */
	SVG_TOP = 56,
	SVG_ROW = 34,
	SVG_BAR = 18
};

void report_add(struct report *report, const struct report_row *row)
{
	assert(report->count < REPORT_ROW_COUNT_MAX);
	report->rows[report->count++] = *row;
}

void report_add_named(struct report *report, const struct report_row *row,
	const char *format, ...)
{
	struct report_row named = *row;
	va_list args;

	assert(report->count < REPORT_ROW_COUNT_MAX);
	named.name = report->names[report->count];
	va_start(args, format);
	vsnprintf(
		report->names[report->count], REPORT_NAME_BYTES, format, args);
	va_end(args);
	report_add(report, &named);
}

bool report_row_reached(const struct report_row *row)
{
	bool reached = true;

	if (row->goal_share > 0 && row->limit > 0)
		reached = row->less_is_better
				  ? row->value <= row->goal_share * row->limit
				  : row->value >= row->goal_share * row->limit;
	if (row->goal_factor > 0 && row->peer_value > 0)
		reached =
			reached &&
			(row->less_is_better ? row->value * row->goal_factor <=
						       row->peer_value
					     : row->value >=
						       row->goal_factor *
							       row->peer_value);
	return reached;
}

static const char *verdict(const struct report_row *row)
{
	bool judged = (row->goal_share > 0 && row->limit > 0) ||
		      (row->goal_factor > 0 && row->peer_value > 0);

	if (!judged)
		return "";
	return report_row_reached(row) ? "reached" : "MISSED";
}

/* How many times the peer's value is aimed at; 0 = no aim. */
static double peer_share(const struct report_row *row)
{
	return row->goal_factor > 0 && row->less_is_better
		       ? 1 / row->goal_factor
		       : row->goal_factor;
}

/* "87 % (85)": the share, and the one aimed at. */
static void print_share(double share, double goal, const char *mark, FILE *out)
{
	char text[32] = "-", aim[32] = "";

	if (goal > 0)
		snprintf(aim, sizeof(aim), " (%.4g)", goal);
	if (share > 0)
		snprintf(text, sizeof(text), "%.3g%s%s", share, mark, aim);
	fprintf(out, " %14s", text);
}

void report_print_table(const struct report *report, FILE *out)
{
	fprintf(out, "%-24s %10s %-9s %10s %14s %10s %14s\n", "name", "value",
		"unit", "limit", "of limit", "peer", "times peer");
	for (uint32_t i = 0; i < report->count; i++) {
		const struct report_row *row = &report->rows[i];
		double limit = row->limit, peer = row->peer_value;

		fprintf(out, "%-24s %10.2f %-9s ", row->name, row->value,
			row->unit);
		if (limit > 0)
			fprintf(out, "%10.2f", limit);
		else
			fprintf(out, "%10s", "-");
		print_share(limit > 0 ? 100 * row->value / limit : 0,
			100 * row->goal_share, " %", out);
		if (peer > 0)
			fprintf(out, " %10.2f", peer);
		else
			fprintf(out, " %10s", "-");
		print_share(peer > 0 ? row->value / peer : 0, peer_share(row),
			"x", out);
		fprintf(out, " %s\n", verdict(row));
	}
}

/* What the scale of a row has to hold. */
static double widest(const struct report_row *row)
{
	return fmax(row->value, fmax(row->limit, row->peer_value));
}

void report_print_bars(const struct report *report, FILE *out)
{
	for (uint32_t i = 0; i < report->count; i++) {
		const struct report_row *row = &report->rows[i];
		double scale = (BAR_CELLS - 1) / widest(row);
		char cells[BAR_CELLS + 1];
		int value = (int)lround(row->value * scale);

		memset(cells, ' ', BAR_CELLS);
		cells[BAR_CELLS] = '\0';
		for (int k = 0; k <= value; k++)
			cells[k] = '#';
		if (row->limit > 0)
			cells[lround(row->limit * scale)] = '|';
		if (row->peer_value > 0)
			cells[lround(row->peer_value * scale)] = 'o';
		fprintf(out, "%-24s %s %.4g %s\n", row->name, cells, row->value,
			row->unit);
	}
	fprintf(out, "%-24s # ours   | limit   o peer\n", "");
}

static int finish(FILE *file, const char *path, struct error *err)
{
	bool failed = ferror(file) != 0;

	if (fclose(file) || failed)
		return error_set(err, EIO, "%s: writing failed", path);
	return 0;
}

static void svg_row(const struct report_row *row, int top, FILE *out)
{
	double scale = SVG_BAR_WIDTH / widest(row);
	double value = row->value * scale;
	int text = top + SVG_BAR - 5;

	fprintf(out, "<text x='12' y='%d'>%s</text>\n", text, row->name);
	fprintf(out,
		"<rect x='%d' y='%d' width='%.1f' height='%d' "
		"fill='#2a6f97'/>\n",
		SVG_LEFT, top, value, SVG_BAR);
	if (row->peer_value > 0)
		fprintf(out,
			"<rect x='%d' y='%d' width='%.1f' height='5' "
			"fill='#e09f3e'/>\n",
			SVG_LEFT, top + SVG_BAR + 1, row->peer_value * scale);
	if (row->limit > 0)
		fprintf(out,
			"<rect x='%.1f' y='%d' width='2' height='%d' "
			"fill='#9e2a2b'/>\n",
			SVG_LEFT + row->limit * scale - 1, top - 3,
			SVG_BAR + 9);
	fprintf(out, "<text x='%d' y='%d'>%.4g %s",
		SVG_LEFT + SVG_BAR_WIDTH + 12, text, row->value, row->unit);
	if (row->limit > 0)
		fprintf(out, ", %.0f %%", 100 * row->value / row->limit);
	fprintf(out, "</text>\n");
}

static void svg_legend(FILE *out)
{
	static const struct {
		const char *colour, *name;
		int x;
	} keys[] = {{"#2a6f97", "Heddle", SVG_LEFT},
		{"#e09f3e", "peer", SVG_LEFT + 90},
		{"#9e2a2b", "what the machine allows", SVG_LEFT + 165}};

	for (int i = 0; i < 3; i++)
		fprintf(out,
			"<rect x='%d' y='20' width='12' height='12' "
			"fill='%s'/><text x='%d' y='31'>%s</text>\n",
			keys[i].x, keys[i].colour, keys[i].x + 18,
			keys[i].name);
}

static int write_svg(
	const struct report *report, const char *path, struct error *err)
{
	FILE *out = fopen(path, "we");
	int height = SVG_TOP + (int)report->count * SVG_ROW + 12;

	if (!out)
		return error_set(err, errno, "%s: %s", path, strerror(errno));
	fprintf(out,
		"<svg xmlns='http://www.w3.org/2000/svg' width='%d' "
		"height='%d' font-family='sans-serif' font-size='13'>\n"
		"<rect width='100%%' height='100%%' fill='white'/>\n",
		SVG_WIDTH, height);
	svg_legend(out);
	for (uint32_t i = 0; i < report->count; i++)
		svg_row(&report->rows[i], SVG_TOP + (int)i * SVG_ROW, out);
	fprintf(out, "</svg>\n");
	return finish(out, path, err);
}

static void json_number(const char *name, double value, FILE *out)
{
	if (isfinite(value))
		fprintf(out, ", \"%s\": %.6g", name, value);
	else
		fprintf(out, ", \"%s\": null", name);
}

static int write_json(
	const struct report *report, const char *path, struct error *err)
{
	FILE *out = fopen(path, "we");

	if (!out)
		return error_set(err, errno, "%s: %s", path, strerror(errno));
	fprintf(out, "[");
	for (uint32_t i = 0; i < report->count; i++) {
		const struct report_row *row = &report->rows[i];

		fprintf(out, "%s\n  {\"name\": \"%s\"", i ? "," : "",
			row->name);
		json_number("value", row->value, out);
		fprintf(out, ", \"unit\": \"%s\"", row->unit);
		json_number("limit", row->limit > 0 ? row->limit : NAN, out);
		if (row->peer)
			fprintf(out, ", \"peer\": \"%s\"", row->peer);
		else
			fprintf(out, ", \"peer\": null");
		json_number("peer_value",
			row->peer_value > 0 ? row->peer_value : NAN, out);
		fprintf(out, "}");
	}
	fprintf(out, "\n]\n");
	return finish(out, path, err);
}

int report_write(const struct report *report, const char *json, const char *svg,
	struct error *err)
{
	int rc = json ? write_json(report, json, err) : 0;

	return rc == 0 && svg ? write_svg(report, svg, err) : rc;
}
