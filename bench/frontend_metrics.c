/* frontend_metrics.c - numbers of /metrics, read twice (-> percentile, sum) */
/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "bench/frontend_metrics.h"

/* One line "NAME_bucket{...,le="END"} SUM": add it to its bucket. */
static void take_line(const char *line, struct frontend_histogram *out)
{
	const char *end_text = strstr(line, "le=\"");
	const char *brace = end_text ? strchr(end_text, '}') : NULL;
	const char *stop = strchr(line, '\n');
	double end;
	size_t i = 0;

	if (!brace || (stop && brace > stop))
		return;
	/* strtod() reads "+Inf" too. */
	end = strtod(end_text + 4, NULL);
	while (i < out->count && out->ends[i] < end)
		i++;
	if (i == out->count) {
		if (out->count == FRONTEND_BUCKET_COUNT_MAX)
			return;
		out->ends[out->count++] = end;
	}
	out->sums[i] += strtod(brace + 1, NULL);
}

int frontend_histogram_parse(
	const char *page, const char *name, struct frontend_histogram *out)
{
	size_t length = strlen(name);

	memset(out, 0, sizeof(*out));
	for (const char *line = page; line;) {
		if (strncmp(line, name, length) == 0 &&
			strncmp(line + length, "_bucket{", 8) == 0)
			take_line(line, out);
		line = strchr(line, '\n');
		line = line ? line + 1 : NULL;
	}
	return out->count ? 0 : -ENODATA;
}

int frontend_number_parse(const char *page, const char *name, double *out)
{
	size_t length = strlen(name);
	int rc = -ENODATA;

	*out = 0;
	for (const char *line = page; line;) {
		const char *at = line + length;

		if (strncmp(line, name, length) == 0 &&
			(*at == ' ' || *at == '{')) {
			at = *at == '{' ? strchr(at, '}') : at;
			*out += at ? strtod(at + 1, NULL) : 0;
			rc = 0;
		}
		line = strchr(line, '\n');
		line = line ? line + 1 : NULL;
	}
	return rc;
}

/* With a 0 at the end. */
static int get_page(const struct serve_target *admin, struct serve_bytes *page,
	struct error *err)
{
	const struct serve_call call = {.method = "GET", .path = "/metrics"};
	int status, rc = serve_call(admin, &call, page, &status, err);

	return rc ? rc : serve_bytes_add(page, "", 1, SIZE_MAX / 4);
}

int frontend_number_get(const struct serve_target *admin, const char *name,
	double *out, struct error *err)
{
	struct serve_bytes page = {0};
	int rc = get_page(admin, &page, err);

	if (rc == 0 && frontend_number_parse(page.data, name, out))
		rc = error_set(err, ENODATA, "/metrics: no %s", name);
	serve_bytes_release(&page);
	return rc;
}

int frontend_histogram_get(const struct serve_target *admin, const char *name,
	struct frontend_histogram *out, struct error *err)
{
	struct serve_bytes page = {0};
	int rc = get_page(admin, &page, err);

	if (rc == 0 && frontend_histogram_parse(page.data, name, out))
		rc = error_set(err, ENODATA, "/metrics: no %s", name);
	serve_bytes_release(&page);
	return rc;
}

double frontend_histogram_percentile(const struct frontend_histogram *before,
	const struct frontend_histogram *after, double percent)
{
	double low = 0, counted = 0, total, wanted;
	size_t last = after->count - 1;

	if (after->count == 0 || before->count != after->count)
		return 0;
	total = after->sums[last] - before->sums[last];
	wanted = total * percent / 100;
	for (size_t i = 0; total > 0 && i < after->count; i++) {
		double sum = after->sums[i] - before->sums[i];

		if (sum >= wanted && sum > counted)
			return isinf(after->ends[i])
				       ? low
				       : low + (after->ends[i] - low) *
							 (wanted - counted) /
							 (sum - counted);
		low = after->ends[i];
		counted = sum;
	}
	return 0;
}
