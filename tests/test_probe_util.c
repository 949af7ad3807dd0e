/* test_probe_util.c - what of the card probe needs no card: statistics, JSON,
 * records, names, arguments */
/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "bench/gpu/probe_args.h"
#include "bench/gpu/probe_json.h"
#include "bench/gpu/probe_names.h"
#include "bench/gpu/probe_record.h"
#include "bench/gpu/probe_report.h"
#include "bench/gpu/probe_stats.h"
#include "tests/probe_json_check.h"
#include "tests/suite.h"

/* ---- statistics --------------------------------------------------------- */

static void test_stats_of__nothing_is_nan(void)
{
	struct probe_stats stats = probe_stats_of(NULL, 0);

	CU_ASSERT_EQUAL(stats.count, 0);
	CU_ASSERT(isnan(stats.median) && isnan(stats.p99));
}

static void test_stats_of__one_is_all(void)
{
	double one[] = {4.5};
	struct probe_stats stats = probe_stats_of(one, 1);

	CU_ASSERT_EQUAL(stats.median, 4.5);
	CU_ASSERT_EQUAL(stats.p99, 4.5);
	CU_ASSERT_EQUAL(stats.low, 4.5);
	CU_ASSERT_EQUAL(stats.high, 4.5);
}

static void test_stats_of__nearest_rank(void)
{
	double four[] = {40, 10, 30, 20};
	double hundred[100];
	double more[101];
	struct probe_stats stats = probe_stats_of(four, 4);

	CU_ASSERT_EQUAL(stats.median, 20);
	CU_ASSERT_EQUAL(stats.p99, 40);
	for (int i = 0; i < 100; i++)
		hundred[i] = 100 - i;
	stats = probe_stats_of(hundred, 100);
	CU_ASSERT_EQUAL(stats.median, 50);
	CU_ASSERT_EQUAL(stats.p99, 99);
	for (int i = 0; i < 101; i++)
		more[i] = i + 1;
	stats = probe_stats_of(more, 101);
	CU_ASSERT_EQUAL(stats.median, 51);
	CU_ASSERT_EQUAL(stats.p99, 100);
}

/* The definition itself: the value with exactly ceil(q n) - 1 before it. */
static void test_stats_of__agrees_with_counting(void)
{
	uint64_t state = suite_seed(20);

	for (size_t n = 1; n <= 300; n++) {
		double sample[300];
		struct probe_stats stats;
		size_t below = 0;
		size_t below99 = 0;

		for (size_t i = 0; i < n; i++)
			sample[i] = (double)(suite_random(&state) >> 12);
		stats = probe_stats_of(sample, n);
		for (size_t i = 0; i < n; i++) {
			below += sample[i] < stats.median ? 1 : 0;
			below99 += sample[i] < stats.p99 ? 1 : 0;
		}
		CU_ASSERT_EQUAL(below, (n + 1) / 2 - 1);
		CU_ASSERT_EQUAL(below99, (99 * n + 99) / 100 - 1);
	}
}

static void test_peak_gb_s__known_cards(void)
{
	/* H100 SXM: 5120 bits at 2619 MHz; A100 80 GB: 5120 at 1593. */
	CU_ASSERT_DOUBLE_EQUAL(probe_peak_gb_s(2619000, 5120), 3352.3, 0.1);
	CU_ASSERT_DOUBLE_EQUAL(probe_peak_gb_s(1593000, 5120), 2039.0, 0.1);
}

static void test_peak_gb_s__unknown_is_nan(void)
{
	CU_ASSERT(isnan(probe_peak_gb_s(0, 5120)));
	CU_ASSERT(isnan(probe_peak_gb_s(2619000, 0)));
	CU_ASSERT(isnan(probe_peak_gb_s(-1, -1)));
}

/* ---- JSON ----------------------------------------------------------------- */

/* The document {"key": text} as written; the caller frees it. */
static char *written(const char *text, double value)
{
	char *buffer = NULL;
	size_t size = 0;
	FILE *file = open_memstream(&buffer, &size);
	struct probe_json json;

	CU_ASSERT_PTR_NOT_NULL_FATAL(file);
	probe_json_init(&json, file);
	probe_json_begin(&json, NULL, '{');
	probe_json_string(&json, "key", text);
	probe_json_begin(&json, "list", '[');
	probe_json_number(&json, NULL, value);
	probe_json_begin(&json, NULL, '{');
	probe_json_end(&json, '}');
	probe_json_end(&json, ']');
	probe_json_end(&json, '}');
	CU_ASSERT_EQUAL(probe_json_finish(&json), 0);
	(void)fclose(file);
	return buffer;
}

static void expect_text(const char *text, const char *as)
{
	char *document = written(text, 1.5);
	char wanted[256];

	snprintf(wanted, sizeof(wanted), "\"key\": \"%s\"", as);
	CU_ASSERT(probe_json_valid(document));
	if (strstr(document, wanted) == NULL) {
		printf("%s lacks %s ", document, wanted);
		CU_FAIL("escaped otherwise");
	}
	free(document);
}

static void test_json_string__is_escaped(void)
{
	expect_text("plain", "plain");
	expect_text("a\"b\\c", "a\\\"b\\\\c");
	expect_text("tab\tline\nbell\a", "tab\\u0009line\\u000abell\\u0007");
	expect_text("\x7f", "\\u007f");
	expect_text("", "");
}

static void test_json_string__utf8_only(void)
{
	expect_text("gr\xc3\xbc\xc3\x9f", "gr\xc3\xbc\xc3\x9f");
	expect_text("\xe2\x82\xac \xf0\x9f\x98\x80",
		"\xe2\x82\xac \xf0\x9f\x98\x80");
	/* a lone byte, a cut sequence, overlong, a surrogate, too far */
	expect_text("\x80", "?");
	expect_text("x\xe2\x82", "x??");
	expect_text("\xc0\xaf", "??");
	expect_text("\xed\xa0\x80", "???");
	expect_text("\xf4\x90\x80\x80", "????");
}

static void expect_number(double value, const char *as)
{
	char *document = written("", value);

	CU_ASSERT(probe_json_valid(document));
	CU_ASSERT_PTR_NOT_NULL(strstr(document, as));
	free(document);
}

static void test_json_number__not_finite_is_null(void)
{
	expect_number(NAN, "null");
	expect_number(INFINITY, "null");
	expect_number(-INFINITY, "null");
	expect_number(-0.25, "-0.25");
	expect_number(85899345920.0, "85899345920");
	expect_number(1e-30, "1e-30");
}

/* The checker must say no, or its yes means nothing. */
static void test_json_valid__refuses(void)
{
	static const char *const bad[] = {"", "{", "{}}", "{\"a\":}", "[1,]",
		"{\"a\" 1}", "\"\n\"", "\"\\x\"", "[01]", "nul", "[1 2]",
		"{a: 1}", "\"open", "[1.]", "-", "1e", "\"\\u12\""};
	static const char *const good[] = {"{}", " [ ] ", "null", "-0.5e+10",
		"{\"a\": [1, {\"b\": \"\\u00e4\"}], \"c\": false}"};

	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		CU_ASSERT_FALSE(probe_json_valid(bad[i]));
	for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++)
		CU_ASSERT(probe_json_valid(good[i]));
}

/* ---- records --------------------------------------------------------------- */

static struct probe_record sample_record(void)
{
	struct probe_record record = {.kind = PROBE_RESULT,
		.name = "mem.read",
		.value = 3000.25,
		.p99 = 2999.0 / 7,
		.limit = NAN,
		.runs = 30,
		.text = "a note, with 100 % of \"signs\""};

	return record;
}

static void test_record__comes_back(void)
{
	struct probe_record record = sample_record();
	struct probe_record read = {.kind = PROBE_STATUS};
	char line[PROBE_LINE_MAX];
	size_t length = probe_record_format(&record, line);

	CU_ASSERT_EQUAL(length, strlen(line));
	CU_ASSERT_EQUAL(line[length - 1], '\n');
	CU_ASSERT_EQUAL_FATAL(probe_record_parse(line, &read), 0);
	CU_ASSERT_EQUAL(read.kind, PROBE_RESULT);
	CU_ASSERT_STRING_EQUAL(read.name, record.name);
	CU_ASSERT_EQUAL(read.value, record.value);
	CU_ASSERT_EQUAL(read.p99, record.p99);
	CU_ASSERT(isnan(read.limit));
	CU_ASSERT_EQUAL(read.runs, 30);
	CU_ASSERT_STRING_EQUAL(read.text, record.text);
}

static void test_record__separators_become_blanks(void)
{
	struct probe_record record = sample_record();
	struct probe_record read = {.kind = PROBE_STATUS};
	char line[PROBE_LINE_MAX];

	probe_text_set(record.text, sizeof(record.text), "a\tb\nc\rd");
	(void)probe_record_format(&record, line);
	CU_ASSERT_EQUAL_FATAL(probe_record_parse(line, &read), 0);
	CU_ASSERT_STRING_EQUAL(read.text, "a b c d");
}

static void test_record__longest_text_fits(void)
{
	struct probe_record record = sample_record();
	struct probe_record read = {.kind = PROBE_STATUS};
	char line[PROBE_LINE_MAX];

	memset(record.text, 'x', sizeof(record.text) - 1);
	memset(record.name, 'y', sizeof(record.name) - 1);
	record.value = -1.2345678901234567e-300;
	record.p99 = record.value;
	record.limit = record.value;
	record.runs = (unsigned long)-1;
	CU_ASSERT(probe_record_format(&record, line) < PROBE_LINE_MAX);
	CU_ASSERT_EQUAL_FATAL(probe_record_parse(line, &read), 0);
	CU_ASSERT_EQUAL(read.runs, record.runs);
	CU_ASSERT_EQUAL(strlen(read.text), sizeof(read.text) - 1);
}

static void test_record_parse__refuses(void)
{
	static const char *const bad[] = {"", "\n", "R", "R\tname",
		"R\tname\t1\t2\t3\t4", "X\tname\t1\t2\t3\t4\ttext",
		"RR\tname\t1\t2\t3\t4\ttext", "R\t\t1\t2\t3\t4\ttext",
		"R\tname\tone\t2\t3\t4\ttext", "R\tname\t1\t\t3\t4\ttext",
		"R\tname\t1\t2\t3\t-4\ttext", "R\tname\t1\t2\t3\t4.5\ttext",
		"R\tname\t1x\t2\t3\t4\ttext",
		"R\tname\t1\t2\t3\t99999999999999999999999\ttext"};
	struct probe_record record = sample_record();

	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		CU_ASSERT_EQUAL(probe_record_parse(bad[i], &record), -EINVAL);
	CU_ASSERT_STRING_EQUAL(record.name, "mem.read");
}

/* A line that a crash cut anywhere is refused or is shorter, never worse. */
static void test_record_parse__cut_lines(void)
{
	struct probe_record record = sample_record();
	char line[PROBE_LINE_MAX];
	size_t length = probe_record_format(&record, line);

	for (size_t cut = 0; cut < length; cut++) {
		struct probe_record read = {.kind = PROBE_STATUS};
		char part[PROBE_LINE_MAX];

		memcpy(part, line, cut);
		part[cut] = '\0';
		if (probe_record_parse(part, &read) == 0)
			CU_ASSERT_STRING_EQUAL(read.name, "mem.read");
	}
}

/* ---- names ------------------------------------------------------------------ */

static void test_name_match__parts(void)
{
	CU_ASSERT(probe_name_match("mem.read", "mem.read"));
	CU_ASSERT_FALSE(probe_name_match("mem.read", "mem.reads"));
	CU_ASSERT_FALSE(probe_name_match("mem.read", "mem.rea"));
	CU_ASSERT(probe_name_match("vmm.map.*", "vmm.map.2m"));
	CU_ASSERT_FALSE(probe_name_match("vmm.map.*", "vmm.map."));
	CU_ASSERT_FALSE(probe_name_match("vmm.map.*", "vmm.map.2m.x"));
	CU_ASSERT(probe_name_match("a.*.*", "a.b.c"));
	CU_ASSERT_FALSE(probe_name_match("a.*.*", "a.b"));
}

/* A name must belong to one row of the table, and units are the known ones. */
static void test_result_names__are_distinct(void)
{
	static const char *const units[] = {"GB/s", "TFLOP/s", "us", "s",
		"bool", "bytes", "count", "share"};

	for (size_t i = 0; i < probe_result_name_count; i++) {
		const struct probe_result_name *row = &probe_result_names[i];
		size_t known = 0;

		for (size_t j = 0; j < i; j++)
			CU_ASSERT_STRING_NOT_EQUAL(
				row->pattern, probe_result_names[j].pattern);
		for (size_t j = 0; j < sizeof(units) / sizeof(units[0]); j++)
			known += strcmp(row->unit, units[j]) == 0 ? 1 : 0;
		CU_ASSERT_EQUAL(known, 1);
		CU_ASSERT(strlen(row->pattern) < PROBE_NAME_MAX);
		CU_ASSERT(row->what[0] != '\0');
	}
}

/* The first part of a result's name is the section that measures it. */
static void test_result_names__begin_with_a_section(void)
{
	for (size_t i = 0; i < probe_result_name_count; i++) {
		const char *pattern = probe_result_names[i].pattern;
		int id = probe_section_find(pattern, strcspn(pattern, "."));

		CU_ASSERT(id >= 0 && id < PROBE_SECTION_COUNT);
	}
	CU_ASSERT_PTR_NULL(probe_result_find("nothing.of.this"));
}

/* ---- arguments ---------------------------------------------------------------- */

static int parse(
	struct probe_args *args, char *message, size_t size, const char *line)
{
	static char copy[256];
	char *argv[16] = {"gpu-probe"};
	int argc = 1;
	char *save = NULL;

	probe_text_set(copy, sizeof(copy), line);
	for (char *word = strtok_r(copy, " ", &save); word != NULL;
		word = strtok_r(NULL, " ", &save))
		argv[argc++] = word;
	return probe_args_parse(args, argc, argv, message, size);
}

static void test_args_parse__defaults(void)
{
	struct probe_args args;
	char message[128];

	CU_ASSERT_EQUAL(parse(&args, message, sizeof(message), ""), 0);
	CU_ASSERT_EQUAL(args.sections, (1u << PROBE_SECTION_COUNT) - 1);
	CU_ASSERT_STRING_EQUAL(args.json_path, "build/bench/gpu-probe.json");
	CU_ASSERT_EQUAL(args.device, 0);
	CU_ASSERT_EQUAL(args.child, -1);
	CU_ASSERT_FALSE(args.quick || args.list || args.help);
	CU_ASSERT(args.time_limit_s < 300);
}

static void test_args_parse__all_options(void)
{
	struct probe_args args;
	char message[128];

	CU_ASSERT_EQUAL(
		parse(&args, message, sizeof(message),
			"--sections mem,near --json /x/y.json --device 3 "
			"--quick --time-limit 60 --list --help"),
		0);
	CU_ASSERT_EQUAL(args.sections, 1u << PROBE_mem | 1u << PROBE_near);
	CU_ASSERT_STRING_EQUAL(args.json_path, "/x/y.json");
	CU_ASSERT_EQUAL(args.device, 3);
	CU_ASSERT_EQUAL(args.time_limit_s, 60);
	CU_ASSERT(args.quick && args.list && args.help);
}

static void test_args_parse__child(void)
{
	struct probe_args args;
	char message[128];

	CU_ASSERT_EQUAL(parse(&args, message, sizeof(message),
				"--child hold_make --child-limit 7"),
		0);
	CU_ASSERT_EQUAL(args.child, PROBE_hold_make);
	CU_ASSERT_EQUAL(args.child_limit_s, 7);
}

/* Each is refused with a message of one line that names the argument. */
static void test_args_parse__refuses(void)
{
	static const char *const bad[][2] = {{"--wat", "--wat"}, {"mem", "mem"},
		{"--sections mem,wat", "wat"}, {"--sections ,", "--sections"},
		{"--sections", "--sections"},
		{"--sections hold_make", "hold_make"}, {"--json", "--json"},
		{"--device x", "--device"}, {"--device -1", "--device"},
		{"--device 64", "--device"}, {"--device 1x", "--device"},
		{"--time-limit 2", "--time-limit"},
		{"--time-limit 99999999999999999999", "--time-limit"},
		{"--section-limit 0", "--section-limit"},
		{"--child wat", "wat"}, {"--child-limit 0", "--child-limit"}};

	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		struct probe_args args;
		char message[128];

		CU_ASSERT_EQUAL(
			parse(&args, message, sizeof(message), bad[i][0]),
			-EINVAL);
		CU_ASSERT_PTR_NOT_NULL(strstr(message, bad[i][1]));
		CU_ASSERT_PTR_NULL(strchr(message, '\n'));
	}
}

static void test_args_parse__message_is_cut(void)
{
	struct probe_args args;
	char message[8];

	CU_ASSERT_EQUAL(
		parse(&args, message, sizeof(message), "--nonsense"), -EINVAL);
	CU_ASSERT_EQUAL(strlen(message), sizeof(message) - 1);
}

/* ---- the report ----------------------------------------------------------------- */

static void fill_report(struct probe_report *report)
{
	struct probe_record attribute = {.kind = PROBE_ATTRIBUTE,
		.name = "card",
		.value = NAN,
		.text = "a \"card\""};
	struct probe_record record = sample_record();
	struct probe_outcome outcome = {
		.name = "mem", .status = "ok", .why = "", .seconds = 1.25};

	probe_report_init(report);
	CU_ASSERT_EQUAL(probe_report_add(report, &attribute), 0);
	for (int i = 0; i < 600; i++)
		CU_ASSERT_EQUAL(probe_report_add(report, &record), 0);
	CU_ASSERT_EQUAL(probe_report_close(report, &outcome), 0);
}

static char *report_text(const char *path)
{
	static char text[300000];
	FILE *file = fopen(path, "r");
	size_t length;

	CU_ASSERT_PTR_NOT_NULL_FATAL(file);
	length = fread(text, 1, sizeof(text) - 1, file);
	text[length] = '\0';
	(void)fclose(file);
	return text;
}

static void test_report_save__makes_folders(void)
{
	char folder[] = "/tmp/probe-util-XXXXXX";
	char path[128];
	struct probe_report report;
	const char *text;

	CU_ASSERT_PTR_NOT_NULL_FATAL(mkdtemp(folder));
	snprintf(path, sizeof(path), "%s/a/b/report.json", folder);
	fill_report(&report);
	CU_ASSERT_EQUAL(probe_report_save(&report, path), 0);
	/* Once more: over the old file. */
	CU_ASSERT_EQUAL(probe_report_save(&report, path), 0);
	text = report_text(path);
	CU_ASSERT(probe_json_valid(text));
	CU_ASSERT_PTR_NOT_NULL(strstr(text, "\"schema\": 1"));
	CU_ASSERT_PTR_NOT_NULL(strstr(text, "\"card\": \"a \\\"card\\\"\""));
	CU_ASSERT_PTR_NOT_NULL(strstr(text, "\"unit\": \"GB/s\""));
	CU_ASSERT_PTR_NOT_NULL(strstr(text, "\"limit\": null"));
	CU_ASSERT_PTR_NOT_NULL(strstr(text, "\"seconds\": 1.25"));
	probe_report_release(&report);
	CU_ASSERT_EQUAL(remove(path), 0);
	snprintf(path, sizeof(path), "%s/a/b", folder);
	CU_ASSERT_EQUAL(rmdir(path), 0);
	snprintf(path, sizeof(path), "%s/a", folder);
	CU_ASSERT_EQUAL(rmdir(path), 0);
	CU_ASSERT_EQUAL(rmdir(folder), 0);
}

static void test_report_save__bad_path_is_an_error(void)
{
	struct probe_report report;

	fill_report(&report);
	CU_ASSERT_EQUAL(
		probe_report_save(&report, "/dev/null/x.json"), -ENOTDIR);
	probe_report_release(&report);
}

static void test_report_json__full_disk_is_an_error(void)
{
	struct probe_report report;
	FILE *full = fopen("/dev/full", "w");

	CU_ASSERT_PTR_NOT_NULL_FATAL(full);
	fill_report(&report);
	CU_ASSERT_EQUAL(probe_report_json(&report, full), -EIO);
	probe_report_release(&report);
	(void)fclose(full);
}

static void test_report_find__last_of_a_name(void)
{
	struct probe_report report;
	struct probe_record record = sample_record();

	fill_report(&report);
	record.value = 7;
	CU_ASSERT_EQUAL(probe_report_add(&report, &record), 0);
	CU_ASSERT_EQUAL(
		probe_report_find(&report, PROBE_RESULT, "mem.read")->value, 7);
	CU_ASSERT_PTR_NULL(
		probe_report_find(&report, PROBE_RESULT, "mem.write"));
	probe_report_release(&report);
}

int main(void)
{
	static const struct suite_case cases[] = {
		SUITE_CASE(stats_of__nothing_is_nan),
		SUITE_CASE(stats_of__one_is_all),
		SUITE_CASE(stats_of__nearest_rank),
		SUITE_CASE(stats_of__agrees_with_counting),
		SUITE_CASE(peak_gb_s__known_cards),
		SUITE_CASE(peak_gb_s__unknown_is_nan),
		SUITE_CASE(json_string__is_escaped),
		SUITE_CASE(json_string__utf8_only),
		SUITE_CASE(json_number__not_finite_is_null),
		SUITE_CASE(json_valid__refuses),
		SUITE_CASE(record__comes_back),
		SUITE_CASE(record__separators_become_blanks),
		SUITE_CASE(record__longest_text_fits),
		SUITE_CASE(record_parse__refuses),
		SUITE_CASE(record_parse__cut_lines),
		SUITE_CASE(name_match__parts),
		SUITE_CASE(result_names__are_distinct),
		SUITE_CASE(result_names__begin_with_a_section),
		SUITE_CASE(args_parse__defaults),
		SUITE_CASE(args_parse__all_options),
		SUITE_CASE(args_parse__child),
		SUITE_CASE(args_parse__refuses),
		SUITE_CASE(args_parse__message_is_cut),
		SUITE_CASE(report_save__makes_folders),
		SUITE_CASE(report_save__bad_path_is_an_error),
		SUITE_CASE(report_json__full_disk_is_an_error),
		SUITE_CASE(report_find__last_of_a_name),
	};

	return SUITE_MAIN("probe_util", cases);
}
