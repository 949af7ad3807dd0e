/* serve_html.c - what a run says, as a page with plots (summary -> HTML) */
/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One file without script, font or picture from elsewhere: it can be mailed
 * and opened in ten years. Plots are SVG, drawn here.
 */
#include <errno.h>
#include <math.h>
#include <string.h>

#include "bench/serve_report.h"

/* A plot's measures, in pixels. */
enum {
	PLOT_WIDTH = 560,
	PLOT_HEIGHT = 300,
	PLOT_LEFT = 64,
	PLOT_RIGHT = 16,
	PLOT_TOP = 34,
	PLOT_BOTTOM = 46
};

#define CURVE_POINTS 200
#define TOGETHER_MS 0.1
#define HISTOGRAM_BINS 48
#define TICK_COUNT_MAX 12

static const char *const colours[] = {
	"#2a6f97", "#e09f3e", "#9e2a2b", "#588157"};

struct axis {
	double low, high;
	bool is_log;
};

struct plot {
	FILE *out;
	const char *title, *x_label, *y_label;
	struct axis x, y;
};

/* --- axes ------------------------------------------------------------------ */

static double place(const struct axis *axis, double value)
{
	double share;

	if (axis->is_log)
		share = (log10(fmax(value, axis->low)) - log10(axis->low)) /
			(log10(axis->high) - log10(axis->low));
	else
		share = (value - axis->low) / (axis->high - axis->low);
	return fmin(fmax(share, 0), 1);
}

static double x_of(const struct plot *plot, double value)
{
	return PLOT_LEFT +
	       place(&plot->x, value) * (PLOT_WIDTH - PLOT_LEFT - PLOT_RIGHT);
}

static double y_of(const struct plot *plot, double value)
{
	return PLOT_HEIGHT - PLOT_BOTTOM -
	       place(&plot->y, value) * (PLOT_HEIGHT - PLOT_TOP - PLOT_BOTTOM);
}

/* 1, 2 or 5 times a power of ten: about five steps to the end. */
static double round_step(double span)
{
	double power = pow(10, floor(log10(span / 5)));
	double share = span / 5 / power;

	if (share < 1.5)
		return power;
	if (share < 3.5)
		return 2 * power;
	return share < 7.5 ? 5 * power : 10 * power;
}

static int linear_ticks(const struct axis *axis, double out[TICK_COUNT_MAX])
{
	double step = round_step(axis->high - axis->low);
	double first = ceil(axis->low / step) * step;
	int count = 0;

	while (count < TICK_COUNT_MAX &&
		first + count * step <= axis->high * 1.0001) {
		out[count] = first + count * step;
		count++;
	}
	return count;
}

/* Powers of ten, and 2 and 5 times them where there are few. */
static int log_ticks(const struct axis *axis, double out[TICK_COUNT_MAX])
{
	static const double factors[] = {1, 2, 5};
	int first = (int)floor(log10(axis->low)), count = 0;
	int last = (int)ceil(log10(axis->high));
	int factor_count = last - first <= 3 ? 3 : 1;

	for (int power = first; power <= last; power++)
		for (int i = 0; i < factor_count; i++) {
			double at = factors[i] * pow(10, power);

			if (at >= axis->low * 0.999 &&
				at <= axis->high * 1.001 &&
				count < TICK_COUNT_MAX)
				out[count++] = at;
		}
	return count;
}

static int ticks_of(const struct axis *axis, double out[TICK_COUNT_MAX])
{
	return axis->is_log ? log_ticks(axis, out) : linear_ticks(axis, out);
}

/* 1200000 as "1.2M". */
static const char *short_number(double value, char text[32])
{
	if (value >= 1e6)
		snprintf(text, 32, "%.4gM", value / 1e6);
	else if (value >= 1e4)
		snprintf(text, 32, "%.4gk", value / 1e3);
	else
		snprintf(text, 32, "%.4g", value);
	return text;
}

static void draw_grid(const struct plot *plot)
{
	double ticks[TICK_COUNT_MAX];
	char text[32];
	const int bottom = PLOT_HEIGHT - PLOT_BOTTOM;
	const int right = PLOT_WIDTH - PLOT_RIGHT;
	int count = ticks_of(&plot->x, ticks);

	for (int i = 0; i < count; i++) {
		double x = x_of(plot, ticks[i]);

		fprintf(plot->out,
			"<line x1='%.1f' y1='%d' x2='%.1f' y2='%d' "
			"class='grid'/><text x='%.1f' y='%d' class='mid'>%s"
			"</text>\n",
			x, PLOT_TOP, x, bottom, x, bottom + 16,
			short_number(ticks[i], text));
	}
	count = ticks_of(&plot->y, ticks);
	for (int i = 0; i < count; i++) {
		double y = y_of(plot, ticks[i]);

		fprintf(plot->out,
			"<line x1='%d' y1='%.1f' x2='%d' y2='%.1f' "
			"class='grid'/><text x='%d' y='%.1f' class='end'>%s"
			"</text>\n",
			PLOT_LEFT, y, right, y, PLOT_LEFT - 6, y + 4,
			short_number(ticks[i], text));
	}
}

static void plot_begin(const struct plot *plot)
{
	const int bottom = PLOT_HEIGHT - PLOT_BOTTOM;

	fprintf(plot->out,
		"<svg viewBox='0 0 %d %d' width='%d' height='%d' role='img' "
		"aria-label='%s'>\n<text x='%d' y='18' class='title'>%s"
		"</text>\n",
		PLOT_WIDTH, PLOT_HEIGHT, PLOT_WIDTH, PLOT_HEIGHT, plot->title,
		PLOT_LEFT, plot->title);
	draw_grid(plot);
	fprintf(plot->out,
		"<path d='M%d %dV%dH%d' class='axis'/>\n"
		"<text x='%d' y='%d' class='mid'>%s</text>\n"
		"<text transform='translate(14 %d) rotate(-90)' class='mid'>%s"
		"</text>\n",
		PLOT_LEFT, PLOT_TOP, bottom, PLOT_WIDTH - PLOT_RIGHT,
		(PLOT_LEFT + PLOT_WIDTH - PLOT_RIGHT) / 2, PLOT_HEIGHT - 8,
		plot->x_label, (PLOT_TOP + bottom) / 2, plot->y_label);
}

static void plot_end(const struct plot *plot)
{
	fprintf(plot->out, "</svg>\n");
}

static void legend(const struct plot *plot, const char *const *names, int count)
{
	for (int i = 0; i < count; i++) {
		int x = PLOT_WIDTH - PLOT_RIGHT - (count - i) * 70;

		fprintf(plot->out,
			"<rect x='%d' y='8' width='11' height='11' fill='%s'/>"
			"<text x='%d' y='18'>%s</text>\n",
			x, colours[i], x + 16, names[i]);
	}
}

/* --- curves ---------------------------------------------------------------- */

static void curve_begin(const struct plot *plot, int colour)
{
	fprintf(plot->out,
		"<polyline fill='none' stroke='%s' stroke-width='2' points='",
		colours[colour]);
}

static void curve_point(const struct plot *plot, double x, double y)
{
	fprintf(plot->out, "%.1f,%.1f ", x_of(plot, x), y_of(plot, y));
}

static void curve_end(const struct plot *plot)
{
	fprintf(plot->out, "'/>\n");
}

/* The share of samples below each value; values ascending, in seconds. */
static void draw_cdf(
	const struct plot *plot, const double *values, size_t count, int colour)
{
	if (!count)
		return;
	curve_begin(plot, colour);
	for (int i = 0; i <= CURVE_POINTS; i++) {
		double percent = 100.0 * i / CURVE_POINTS;

		curve_point(plot,
			serve_percentile(values, count, percent) * 1e3,
			percent);
	}
	curve_end(plot);
}

static void widen(struct axis *axis, const struct serve_figures *figures)
{
	if (!figures->count)
		return;
	if (axis->low <= 0 || figures->min * 1e3 < axis->low)
		axis->low = figures->min * 1e3;
	if (figures->max * 1e3 > axis->high)
		axis->high = figures->max * 1e3;
}

/* Ends that a logarithm can take, with some room. */
static void settle_log(struct axis *axis)
{
	axis->is_log = true;
	axis->low = fmax(axis->low, 1e-3) / 1.1;
	axis->high = fmax(axis->high, axis->low * 10) * 1.1;
}

static void plot_latencies(const struct serve_summary *summary, FILE *out)
{
	static const char *const names[] = {"TTFT", "TPOT", "E2E"};
	struct plot plot = {.out = out,
		.title = "Share of requests below",
		.x_label = "ms (logarithmic)",
		.y_label = "%",
		.y = {0, 100, false}};

	widen(&plot.x, &summary->ttft);
	widen(&plot.x, &summary->tpot);
	widen(&plot.x, &summary->e2el);
	settle_log(&plot.x);
	plot_begin(&plot);
	legend(&plot, names, 3);
	draw_cdf(&plot, summary->ttfts, summary->ttft.count, 0);
	draw_cdf(&plot, summary->tpots, summary->tpot.count, 1);
	draw_cdf(&plot, summary->e2els, summary->e2el.count, 2);
	plot_end(&plot);
}

static double highest(const double *values, size_t count)
{
	double most = 0;

	for (size_t i = 0; i < count; i++)
		most = fmax(most, values[i]);
	return most > 0 ? most * 1.05 : 1;
}

/* Steps: a value holds from the start of its bin to the end. */
static void plot_series(const struct serve_series *series, const double *values,
	struct plot *plot, int colour)
{
	plot->x =
		(struct axis){0, (double)series->count * series->bin_s, false};
	plot->y = (struct axis){0, highest(values, series->count), false};
	plot->x_label = "seconds";
	plot_begin(plot);
	curve_begin(plot, colour);
	for (size_t i = 0; i < series->count; i++) {
		curve_point(plot, (double)i * series->bin_s, values[i]);
		curve_point(plot, (double)(i + 1) * series->bin_s, values[i]);
	}
	curve_end(plot);
	plot_end(plot);
}

static void plot_gaps(const struct serve_summary *summary, FILE *out)
{
	double bins[HISTOGRAM_BINS] = {0};
	struct plot plot = {.out = out,
		.title = "Gaps between tokens (ITL)",
		.x_label = "ms (logarithmic); 0.1 is 0.1 or less",
		.y_label = "share of gaps, %"};
	double share = 100 / fmax((double)summary->itl.count, 1);

	widen(&plot.x, &summary->itl);
	/* Chunks that came together are no gaps; all such go into one bin. */
	if (plot.x.low < TOGETHER_MS && plot.x.high > TOGETHER_MS)
		plot.x.low = TOGETHER_MS;
	settle_log(&plot.x);
	for (size_t i = 0; i < summary->itl.count; i++) {
		double ms = summary->itls[i] * (SERVE_TICK_NS * 1e-6);
		int bin = (int)(place(&plot.x, ms) * HISTOGRAM_BINS);

		if (bin < 0)
			bin = 0;
		bins[bin < HISTOGRAM_BINS ? bin : HISTOGRAM_BINS - 1] += share;
	}
	plot.y = (struct axis){0, highest(bins, HISTOGRAM_BINS), false};
	plot_begin(&plot);
	for (int i = 0; i < HISTOGRAM_BINS; i++) {
		double width = (double)(PLOT_WIDTH - PLOT_LEFT - PLOT_RIGHT) /
			       HISTOGRAM_BINS;
		double top = y_of(&plot, bins[i]);

		if (bins[i] > 0)
			fprintf(out,
				"<rect x='%.1f' y='%.1f' width='%.1f' "
				"height='%.1f' fill='%s'/>\n",
				PLOT_LEFT + i * width + 0.5, top, width - 1,
				PLOT_HEIGHT - PLOT_BOTTOM - top, colours[0]);
	}
	plot_end(&plot);
}

/* --- text ------------------------------------------------------------------ */

static void escaped(const char *text, FILE *out)
{
	for (; *text; text++) {
		if (*text == '<')
			fputs("&lt;", out);
		else if (*text == '>')
			fputs("&gt;", out);
		else if (*text == '&')
			fputs("&amp;", out);
		else if (*text == '\'' || *text == '"')
			fprintf(out, "&#%d;", *text);
		else if ((unsigned char)*text >= 0x20)
			fputc(*text, out);
	}
}

static void tile(const char *name, const char *unit, double value, FILE *out)
{
	char text[32];

	fprintf(out, "<div class='tile'><b>%s</b><span>%s %s</span></div>\n",
		short_number(value, text), name, unit);
}

static void write_tiles(const struct serve_report *report, FILE *out)
{
	const struct serve_summary *summary = report->summary;

	fprintf(out, "<div class='tiles'>\n");
	tile("completed", "", (double)summary->completed, out);
	tile("failed", "", (double)summary->failed, out);
	tile("requests", "/s", summary->request_rate, out);
	tile("output tokens", "/s", summary->output_rate, out);
	if (serve_goodput_is_set(&report->options->goodput))
		tile("goodput", "req/s", summary->good_rate, out);
	tile("median TTFT", "ms", summary->ttft.median * 1e3, out);
	tile("p99 TTFT", "ms", summary->ttft.points[SERVE_P99] * 1e3, out);
	tile("p99 ITL", "ms", summary->itl.points[SERVE_P99] * 1e3, out);
	fprintf(out, "</div>\n");
}

static void table_row(
	const char *name, const struct serve_figures *figures, FILE *out)
{
	fprintf(out, "<tr><th>%s</th><td>%zu</td><td>%.3f</td><td>%.3f</td>",
		name, figures->count, figures->mean * 1e3, figures->std * 1e3);
	for (int i = 0; i < SERVE_POINT_COUNT; i++)
		fprintf(out, "<td>%.3f</td>", figures->points[i] * 1e3);
	fprintf(out, "<td>%.3f</td></tr>\n", figures->max * 1e3);
}

static void write_table(const struct serve_summary *summary, FILE *out)
{
	fprintf(out,
		"<table><tr><th>ms</th><th>samples</th><th>mean</th>"
		"<th>std</th><th>p50</th><th>p90</th><th>p95</th><th>p99</th>"
		"<th>p99.9</th><th>max</th></tr>\n");
	table_row("TTFT", &summary->ttft, out);
	table_row("TPOT", &summary->tpot, out);
	table_row("ITL", &summary->itl, out);
	table_row("E2E", &summary->e2el, out);
	table_row("TTFT from sending", &summary->ttft_sent, out);
	table_row("E2E from sending", &summary->e2el_sent, out);
	table_row("from due to sent", &summary->lag, out);
	fprintf(out, "</table>\n");
}

static void write_faults(const struct serve_faults *faults, FILE *out)
{
	struct serve_fault_row rows[SERVE_FAULT_ROW_COUNT_MAX];
	size_t count = serve_fault_rows(faults, rows);

	if (!count)
		return;
	fprintf(out, "<h2>Faults</h2><table><tr><th>name</th><th>count</th>"
		     "<th class='l'>meaning</th><th class='l'>first "
		     "one</th></tr>\n");
	for (size_t i = 0; i < count; i++) {
		fprintf(out,
			"<tr><th>%s</th><td>%llu</td><td class='l'>%s</td>"
			"<td class='l'>",
			rows[i].name, (unsigned long long)rows[i].count,
			rows[i].meaning);
		escaped(rows[i].example, out);
		fprintf(out, "</td></tr>\n");
	}
	fprintf(out, "</table>\n");
}

static void write_head(const struct serve_report *report, FILE *out)
{
	const struct serve_options *options = report->options;
	const struct serve_summary *summary = report->summary;

	fprintf(out,
		"<!doctype html>\n<html lang='en'><head><meta charset='utf-8'>"
		"<title>Serving Benchmark Result</title>\n<style>\n"
		"body{font:15px sans-serif;margin:24px auto;padding:0 24px;"
		"max-width:1160px;"
		"color:#222}h1{font-size:24px}h2{font-size:18px}\n"
		".tiles{display:flex;flex-wrap:wrap;gap:10px;margin:16px 0}"
		".tile{border:1px solid #ccc;border-radius:6px;padding:8px "
		"14px}.tile b{display:block;font-size:21px}.tile "
		"span{color:#666;font-size:13px}\n"
		"table{border-collapse:collapse;margin:16px 0}td,th{padding:"
		"4px 10px;border-bottom:1px solid #ddd;text-align:right}"
		"th:first-child,.l{text-align:left}\n"
		".plots{display:flex;flex-wrap:wrap;gap:14px}"
		"svg{background:#fcfcfc;border:1px solid #ddd;font:12px "
		"sans-serif;width:calc(50%% - 9px);height:auto}"
		"@media(max-width:800px){svg{width:100%%}}.title{font-size:"
		"14px;font-weight:bold}.grid{stroke:#e6e6e6}.axis{stroke:#444;"
		"fill:none}.mid{text-anchor:middle}.end{text-anchor:end}\n"
		"</style></head><body>\n<h1>Serving Benchmark "
		"Result</h1>\n<p>");
	escaped(options->label ? options->label : "", out);
	fprintf(out, "%s", options->label ? ", " : "");
	escaped(options->url, out);
	fprintf(out, ", model ");
	escaped(options->models[0].name, out);
	if (options->model_count > 1)
		fprintf(out, " and %u more", options->model_count - 1);
	fprintf(out, ", %.4s-%.2s-%.2s %.2s:%.2s, %.1f s%s.</p>\n",
		report->date, report->date + 4, report->date + 6,
		report->date + 9, report->date + 11, summary->duration_s,
		report->run->interrupted ? ", interrupted" : "");
}

static void write_plots(const struct serve_report *report, FILE *out)
{
	const struct serve_summary *summary = report->summary;
	const struct serve_series *series = &summary->series;

	fprintf(out, "<div class='plots'>\n");
	plot_latencies(summary, out);
	plot_gaps(summary, out);
	plot_series(series, series->output_rate,
		&(struct plot){.out = out,
			.title = "Output over time",
			.y_label = "tokens per second"},
		0);
	plot_series(series, series->in_flight,
		&(struct plot){.out = out,
			.title = "Requests in flight",
			.y_label = "requests"},
		3);
	plot_series(series, series->request_rate,
		&(struct plot){.out = out,
			.title = "Completed requests over time",
			.y_label = "requests per second"},
		1);
	fprintf(out, "</div>\n");
}

int serve_report_html(
	const struct serve_report *report, const char *path, struct error *err)
{
	const struct serve_plateau *plateau = &report->summary->plateau;
	FILE *out = fopen(path, "we");
	bool failed;

	if (!out)
		return error_set(err, errno, "%s: %s", path, strerror(errno));
	write_head(report, out);
	write_tiles(report, out);
	write_plots(report, out);
	fprintf(out, "<h2>Latencies</h2>\n");
	write_table(report->summary, out);
	if (plateau->to_s > plateau->from_s)
		fprintf(out,
			"<p>Plateau, %.1f s to %.1f s (first completion to "
			"last sending): %.2f requests/s, %.0f output tokens/s, "
			"%.1f in flight.</p>\n",
			plateau->from_s, plateau->to_s, plateau->request_rate,
			plateau->output_rate, plateau->in_flight);
	write_faults(&report->run->faults, out);
	fprintf(out, "</body></html>\n");
	failed = ferror(out) != 0;
	if (fclose(out) || failed)
		return error_set(err, EIO, "%s: writing failed", path);
	return 0;
}
