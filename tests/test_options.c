/* test_options.c - configuration: file, environment, flags, keys */
/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "control/keys.h"
#include "control/options.h"
#include "tests/fake/fake_os.h"
#include "tests/suite.h"

/* The error of a text in a file, or "" where there is none. */
static const char *yaml_error(const char *text)
{
	static char out[ERROR_TEXT_BYTES];
	struct options options;
	struct error err = {0};

	CU_ASSERT_EQUAL_FATAL(options_init(&options, &err), 0);
	options_parse_yaml(&options, text, strlen(text), "f.yaml", &err);
	snprintf(out, sizeof(out), "%s", err.text);
	options_release(&options);
	return out;
}

static void expect(const char *text, const char *error)
{
	const char *got = yaml_error(text);

	if (strcmp(got, error) != 0)
		printf("\n  \"%s\"\n  gave \"%s\"\n  want \"%s\"\n", text, got,
			error);
	CU_ASSERT_STRING_EQUAL(got, error);
}

static void test_option_table__is_consistent(void)
{
	for (int i = 0; i < OPTION_ID_COUNT; i++) {
		const struct option_spec *spec = option_spec((enum option_id)i);
		size_t length = strlen(spec->key);

		CU_ASSERT_EQUAL((int)option_find(spec->key, length), i);
		CU_ASSERT_EQUAL(
			strspn(spec->key, "abcdefghijklmnopqrstuvwxyz-"),
			length);
		CU_ASSERT_PTR_NOT_NULL(spec->help);
		CU_ASSERT_PTR_NOT_NULL(spec->value);
		CU_ASSERT_STRING_EQUAL(
			option_nearest(spec->key, length), spec->key);
	}
}

static void test_options_parse_yaml__values_of_each_kind(void)
{
	static const char text[] = "# a node\n"
				   "model: /m\n"
				   "alias: [a, \"b c\"]\n"
				   "listen:\n  - 127.0.0.1:1\n  - '[::1]:2'\n"
				   "slots: 77\n"
				   "request-body-bytes: 2MiB\n"
				   "stall-timeout: 1500ms\n"
				   "log-level: debug\n";
	struct options o;
	struct error err = {0};

	CU_ASSERT_EQUAL_FATAL(options_init(&o, &err), 0);
	CU_ASSERT_EQUAL(
		options_parse_yaml(&o, text, strlen(text), "f.yaml", &err), 0);
	CU_ASSERT_STRING_EQUAL(options_text(&o, OPTION_MODEL), "/m");
	CU_ASSERT_EQUAL(o.value[OPTION_ALIAS].count, 2);
	CU_ASSERT_STRING_EQUAL(o.value[OPTION_ALIAS].items[1], "b c");
	CU_ASSERT_EQUAL(o.value[OPTION_LISTEN].count, 2);
	CU_ASSERT_STRING_EQUAL(o.value[OPTION_LISTEN].items[1], "[::1]:2");
	CU_ASSERT_STRING_EQUAL(o.value[OPTION_LISTEN].where, "f.yaml:5");
	CU_ASSERT_EQUAL(options_number(&o, OPTION_SLOTS), 77);
	CU_ASSERT_EQUAL(options_number(&o, OPTION_BODY_BYTES), 2 << 20);
	CU_ASSERT_EQUAL(
		options_number(&o, OPTION_STALL_TIMEOUT), 1500 * NS_PER_MS);
	CU_ASSERT_EQUAL(options_number(&o, OPTION_LOG_LEVEL), 3);
	CU_ASSERT_EQUAL(o.value[OPTION_PAGES].source, OPTION_DEFAULT);
	CU_ASSERT_FALSE(options_is_set(&o, OPTION_API_KEYS));
	options_release(&o);
}

static void test_options_parse_yaml__empty_files(void)
{
	expect("", "");
	expect("# nothing\n", "");
	expect("---\n{}\n", "");
}

static void test_options_parse_yaml__errors_have_line_and_column(void)
{
	expect("model: /m\nslot: 4\n",
		"f.yaml:2:1: unknown key \"slot\"; the nearest is \"slots\"");
	expect("slots: 4\nmodel: /m\n\nslots: 5\n",
		"f.yaml:4:1: slots stands here twice");
	expect("slots:   many\n",
		"f.yaml:1:10: slots: \"many\" is not a whole number");
	expect("slots: 0\n", "f.yaml:1:8: slots: 0 is not between 1 and 65536");
	expect("slots: 99999999999999999999999\n",
		"f.yaml:1:8: slots: 99999999999999999999999 is not between 1 "
		"and 65536");
	expect("slots: -1\n",
		"f.yaml:1:8: slots: \"-1\" is not a whole number");
	expect("slots: [1]\nslots2: 1\n",
		"f.yaml:2:1: unknown key \"slots2\"; the nearest is \"slots\"");
	expect("slots: [1, 2]\n", "f.yaml:1:8: slots: must be one value");
	expect("slots: {a: 1}\n", "f.yaml:1:8: slots must be a single value");
	expect("model:\n", "f.yaml:1:7: model: is empty");
	expect("drain-timeout: 5\n",
		"f.yaml:1:16: drain-timeout: \"5\" is not a time with its "
		"unit, such as 500us, 20ms, 30s, 5m");
	expect("request-body-bytes: 1TiB\n",
		"f.yaml:1:21: request-body-bytes: \"1TiB\" is not a size, such "
		"as 65536, 64KiB, 16MiB");
	expect("log-level: loud\n",
		"f.yaml:1:12: log-level: \"loud\" is none of: error warn info "
		"debug");
	expect("device: [null, gpu]\n",
		"f.yaml:1:9: device: \"gpu\" is none of: cpu null");
	expect("config-version: 2\n",
		"f.yaml:1:17: config-version: 2 is not between 1 and 1");
	expect("model: \"a\\0b\"\n", "f.yaml:1:8: model holds a zero byte");
	expect("model: \"a\\nb\"\n",
		"f.yaml:1:8: model: holds a control character");
}

static void expect_too_many_items(void)
{
	char text[16 + 2 * OPTION_ITEM_COUNT_MAX + 8] = "alias: [a";

	for (int i = 0; i < OPTION_ITEM_COUNT_MAX; i++)
		strcat(text, ",a");
	strcat(text, "]");
	CU_ASSERT_PTR_NOT_NULL(strstr(yaml_error(text), "more than 64 items"));
}

static void test_options_parse_yaml__what_yaml_can_and_we_do_not(void)
{
	expect("- model\n", "f.yaml:1:1: must be lines of \"key: value\"");
	expect("just words\n", "f.yaml:1:1: must be lines of \"key: value\"");
	expect("model: &a /m\n",
		"f.yaml:1:8: anchors and tags are not supported");
	expect("model: !!str /m\n",
		"f.yaml:1:8: anchors and tags are not supported");
	expect("model: *a\n", "f.yaml:1:8: model must be a single value");
	expect("alias: [[a]]\n", "f.yaml:1:9: alias must be a single value");
	expect("model: /m\n---\nmodel: /n\n", "f.yaml:2:1: a second document");
	CU_ASSERT_PTR_NOT_NULL(
		strstr(yaml_error("model: [1\nname: 2\n"), "f.yaml:2:5: "));
	CU_ASSERT_PTR_NOT_NULL(
		strstr(yaml_error("model: \"x\n"), "f.yaml:2:1: "));
	CU_ASSERT_PTR_NOT_NULL(
		strstr(yaml_error("model: \xff\xfe\n"), "f.yaml:"));
	expect_too_many_items();
}

/* The words behind the program's name, ended by NULL. */
static int load_words(
	struct options *out, struct error *err, const char *const *words)
{
	char *argv[16] = {strdup("heddled")};
	struct command_line line;
	int argc = 1, rc;

	for (; *words && argc < 16; words++)
		argv[argc++] = strdup(*words);
	rc = command_line_parse(argc, argv, &line, err);
	if (rc == 0)
		rc = options_load(&line, out, err);
	for (int i = 0; i < argc; i++)
		free(argv[i]);
	return rc;
}

#define LOAD(out, err, ...)                                                    \
	load_words((out), (err), (const char *const[]){__VA_ARGS__})

static void write_file(char path[64], const char *text)
{
	int fd;

	snprintf(path, 64, "/tmp/heddle-options-XXXXXX");
	fd = mkstemp(path);
	CU_ASSERT_FATAL(fd >= 0);
	CU_ASSERT_EQUAL(write(fd, text, strlen(text)), (ssize_t)strlen(text));
	close(fd);
}

static void test_options_load__flag_environment_file_default(void)
{
	struct options o;
	struct error err = {0};
	char path[64];

	write_file(path, "slots: 10\npages: 100\nring: 64\nalias: [f]\n");
	setenv("HEDDLE_SLOTS", "11", 1);
	setenv("HEDDLE_PAGES", "110", 1);
	setenv("HEDDLE_ALIAS", "e,e2", 1);
	CU_ASSERT_EQUAL_FATAL(LOAD(&o, &err, "-c", path, "--slots=12",
				      "--alias", "a,b", "--alias=c", NULL),
		0);
	CU_ASSERT_EQUAL(options_number(&o, OPTION_SLOTS), 12);
	CU_ASSERT_EQUAL(o.value[OPTION_SLOTS].source, OPTION_FLAG);
	CU_ASSERT_STRING_EQUAL(o.value[OPTION_SLOTS].where, "--slots");
	CU_ASSERT_EQUAL(options_number(&o, OPTION_PAGES), 110);
	CU_ASSERT_STRING_EQUAL(o.value[OPTION_PAGES].where, "HEDDLE_PAGES");
	CU_ASSERT_EQUAL(options_number(&o, OPTION_RING), 64);
	CU_ASSERT_EQUAL(o.value[OPTION_RING].source, OPTION_FILE);
	CU_ASSERT_EQUAL(options_number(&o, OPTION_NULL_ROWS), 1024);
	CU_ASSERT_EQUAL(o.value[OPTION_ALIAS].count, 3);
	CU_ASSERT_STRING_EQUAL(o.value[OPTION_ALIAS].items[2], "c");
	options_release(&o);
	setenv("HEDDLE_CONFIG", path, 1);
	CU_ASSERT_EQUAL_FATAL(LOAD(&o, &err, NULL), 0);
	CU_ASSERT_EQUAL(options_number(&o, OPTION_RING), 64);
	CU_ASSERT_EQUAL(o.value[OPTION_ALIAS].count, 2);
	options_release(&o);
	unsetenv("HEDDLE_CONFIG");
	unsetenv("HEDDLE_SLOTS");
	unsetenv("HEDDLE_PAGES");
	unsetenv("HEDDLE_ALIAS");
	unlink(path);
}

static void expect_flags(const char *want, const char *a, const char *b)
{
	struct options o;
	struct error err = {0};

	CU_ASSERT_NOT_EQUAL_FATAL(LOAD(&o, &err, a, b, NULL), 0);
	if (!strstr(err.text, want))
		printf("\n  got \"%s\"\n  want \"%s\"\n", err.text, want);
	CU_ASSERT_PTR_NOT_NULL(strstr(err.text, want));
}

static void test_options_load__bad_flags_and_variables(void)
{
	expect_flags(
		"unknown option --slot; the nearest is --slots", "--slot", "3");
	expect_flags("\"model\" is no option", "model", NULL);
	expect_flags("--slots needs a value", "--slots", NULL);
	expect_flags("-c needs a value", "-c", NULL);
	expect_flags("--slots: \"x\" is not a whole number", "--slots", "x");
	expect_flags(
		"unknown option --config-version", "--config-version", "1");
	expect_flags("/nowhere: No such file", "-c", "/nowhere");
	expect_flags("/tmp: is not a regular file", "-c", "/tmp");
	expect_flags("--alias: is empty", "--alias", "a,,b");
	setenv("HEDDLE_RING", "few", 1);
	expect_flags(
		"HEDDLE_RING: \"few\" is not a whole number", "--slots", "3");
	unsetenv("HEDDLE_RING");
}

static void test_options_reload__takes_what_may_change(void)
{
	struct options old, fresh;
	struct error err = {0};
	char kept[64], small[8];

	CU_ASSERT_EQUAL_FATAL(LOAD(&old, &err, NULL), 0);
	CU_ASSERT_EQUAL_FATAL(LOAD(&fresh, &err, "--drain-timeout=5s",
				      "--slots=9", "--name=n", NULL),
		0);
	options_reload(&old, &fresh, kept, sizeof(kept));
	CU_ASSERT_STRING_EQUAL(kept, "name slots");
	CU_ASSERT_EQUAL(
		options_number(&old, OPTION_DRAIN_TIMEOUT), 5 * NS_PER_S);
	CU_ASSERT_EQUAL(options_number(&old, OPTION_SLOTS), 16384);
	options_reload(&old, &fresh, small, sizeof(small));
	CU_ASSERT_STRING_EQUAL(small, "name sl");
	options_release(&old);
	options_release(&fresh);
}

static void test_options_set__failure_changes_nothing(void)
{
	static const char *const items[] = {"good", ""};
	struct option_origin origin = {OPTION_FLAG, "--alias"};
	struct options o;
	struct error err = {0};

	CU_ASSERT_EQUAL_FATAL(LOAD(&o, &err, "--alias=x", NULL), 0);
	CU_ASSERT_EQUAL(options_set(&o, OPTION_ALIAS, &origin, items, 2, &err),
		-EINVAL);
	CU_ASSERT_EQUAL(o.value[OPTION_ALIAS].count, 1);
	CU_ASSERT_STRING_EQUAL(o.value[OPTION_ALIAS].items[0], "x");
	options_release(&o);
}

static void test_options_print__is_a_file_that_reads_back(void)
{
	struct options o, back;
	struct error err = {0};
	char *text = NULL;
	size_t length = 0;
	FILE *out = open_memstream(&text, &length);

	CU_ASSERT_EQUAL_FATAL(
		LOAD(&o, &err, "--device=null,null", "--name=a \"b\\",
			"--alias=true", "--drain-timeout=90s", NULL),
		0);
	options_print(&o, out);
	(void)fclose(out);
	CU_ASSERT_PTR_NOT_NULL(strstr(
		text, "\ndevice: [\"null\", \"null\"]  # flag --device\n"));
	CU_ASSERT_PTR_NOT_NULL(strstr(text, "\n# model is not set\n"));
	CU_ASSERT_EQUAL_FATAL(options_init(&back, &err), 0);
	CU_ASSERT_EQUAL(
		options_parse_yaml(&back, text, length, "shown", &err), 0);
	for (int i = 0; i < OPTION_ID_COUNT; i++) {
		CU_ASSERT_EQUAL(back.value[i].count, o.value[i].count);
		CU_ASSERT_EQUAL(back.value[i].number, o.value[i].number);
		for (uint32_t k = 0; k < o.value[i].count; k++)
			CU_ASSERT_STRING_EQUAL(
				back.value[i].items[k], o.value[i].items[k]);
	}
	options_release(&o);
	options_release(&back);
	free(text);
}

static void test_options_help__names_every_option(void)
{
	char *help = NULL, *man = NULL;
	size_t length;
	FILE *out = open_memstream(&help, &length);

	options_help(out);
	(void)fclose(out);
	out = open_memstream(&man, &length);
	options_man(out);
	(void)fclose(out);
	for (int i = 0; i < OPTION_ID_COUNT; i++) {
		char flag[64], variable[64];

		if (option_spec((enum option_id)i)->file_only)
			continue;
		snprintf(flag, sizeof(flag), "--%s ",
			option_spec((enum option_id)i)->key);
		option_variable((enum option_id)i, variable);
		CU_ASSERT_PTR_NOT_NULL(strstr(help, flag));
		CU_ASSERT_PTR_NOT_NULL(strstr(help, variable));
		CU_ASSERT_PTR_NOT_NULL(strstr(man, variable));
	}
	for (const char *line = help; *line; line = strchr(line, '\n') + 1)
		CU_ASSERT_TRUE(strcspn(line, "\n") <= 80);
	free(help);
	free(man);
}

static void test_options__every_allocation_can_fail(void)
{
	static const char text[] = "alias: [a, b]\nmodel: /m\nslots: 5\n";

	for (uint64_t nth = 1;; nth++) {
		struct options o;
		struct error err = {0};
		int rc;

		fake_os_reset();
		fake_os_fail(FAKE_OS_ALLOCATE, nth, ENOMEM);
		rc = options_init(&o, &err);
		if (rc == 0)
			rc = options_parse_yaml(
				&o, text, strlen(text), "f", &err);
		options_release(&o);
		CU_ASSERT_TRUE(fake_os_check_empty());
		if (!fake_os_has_failed()) {
			CU_ASSERT_EQUAL(rc, 0);
			break;
		}
		CU_ASSERT_EQUAL(rc, -ENOMEM);
	}
	fake_os_disarm();
}

/* --- keys ----------------------------------------------------------------------- */

#define A64 "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
#define B64 "BBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBB"

static void test_keys_parse__good_and_bad_lines(void)
{
	static const struct {
		const char *text, *error;
	} cases[] = {
		{A64 " one\n", ""},
		{"# who\n\n  " A64 "\ttwo  \r\n" B64 " two\n", ""},
		{"", "k: holds no key"},
		{"# none\n", "k: holds no key"},
		{"abc one\n", "k:1: does not begin with"},
		{"\n" A64 "\n", "k:2: has no space and tenant"},
		{A64 "a one\n", "k:1: has no space and tenant"},
		{A64 " \n", "k:1: the tenant must be"},
		{A64 " a b\n", "k:1: the tenant must be"},
		{A64 " a\"b\n", "k:1: the tenant must be"},
		{A64 " " A64 "\n", "k:1: the tenant must be"},
		{A64 " a\n" A64 " b\n", "k:2: this key stands here twice"},
	};
	static struct front_key keys[FRONT_KEY_COUNT_MAX];

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct error err = {0};
		uint32_t count = 99;
		int rc = keys_parse(cases[i].text, strlen(cases[i].text), "k",
			keys, &count, &err);

		if (!strstr(err.text, cases[i].error))
			printf("\n  case %zu: %s\n", i, err.text);
		CU_ASSERT_PTR_NOT_NULL(strstr(err.text, cases[i].error));
		CU_ASSERT_EQUAL(rc == 0, cases[i].error[0] == '\0');
		CU_ASSERT_EQUAL(rc == 0, count != 99);
	}
	CU_ASSERT_STRING_EQUAL(keys[0].tenant, "two");
	CU_ASSERT_EQUAL(keys[1].sha256[31], 0xbb);
}

static void test_keys_parse__no_more_than_fit(void)
{
	static struct front_key keys[FRONT_KEY_COUNT_MAX];
	struct error err = {0};
	uint32_t count = 0;
	char *text = NULL;
	size_t length = 0;
	FILE *out = open_memstream(&text, &length);

	for (int i = 0; i <= FRONT_KEY_COUNT_MAX; i++)
		fprintf(out, "%064x t\n", i);
	(void)fclose(out);
	CU_ASSERT_EQUAL(
		keys_parse(text, length - 67, "k", keys, &count, &err), 0);
	CU_ASSERT_EQUAL(count, FRONT_KEY_COUNT_MAX);
	CU_ASSERT_EQUAL(
		keys_parse(text, length, "k", keys, &count, &err), -EINVAL);
	CU_ASSERT_PTR_NOT_NULL(strstr(err.text, "k:257: more than 256 keys"));
	free(text);
}

/* SHA-256("abc"), FIPS 180-4's example. */
static void test_keys_line__reads_back(void)
{
	static struct front_key keys[FRONT_KEY_COUNT_MAX];
	struct error err = {0};
	char line[KEYS_LINE_BYTES];
	uint32_t count = 0;

	CU_ASSERT_EQUAL_FATAL(keys_line("abc", 3, "team-1", line, &err), 0);
	CU_ASSERT_STRING_EQUAL(line,
		"ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015"
		"ad team-1");
	CU_ASSERT_EQUAL(
		keys_parse(line, strlen(line), "k", keys, &count, &err), 0);
	CU_ASSERT_EQUAL(keys[0].sha256[0], 0xba);
	CU_ASSERT_EQUAL(keys_line("", 0, "t", line, &err), -EINVAL);
	error_clear(&err);
	CU_ASSERT_EQUAL(keys_line("k", 1, "a b", line, &err), -EINVAL);
}

int main(void)
{
	static const struct suite_case cases[] = {
		SUITE_CASE(option_table__is_consistent),
		SUITE_CASE(options_parse_yaml__values_of_each_kind),
		SUITE_CASE(options_parse_yaml__empty_files),
		SUITE_CASE(options_parse_yaml__errors_have_line_and_column),
		SUITE_CASE(options_parse_yaml__what_yaml_can_and_we_do_not),
		SUITE_CASE(options_load__flag_environment_file_default),
		SUITE_CASE(options_load__bad_flags_and_variables),
		SUITE_CASE(options_reload__takes_what_may_change),
		SUITE_CASE(options_set__failure_changes_nothing),
		SUITE_CASE(options_print__is_a_file_that_reads_back),
		SUITE_CASE(options_help__names_every_option),
		SUITE_CASE(options__every_allocation_can_fail),
		SUITE_CASE(keys_parse__good_and_bad_lines),
		SUITE_CASE(keys_parse__no_more_than_fit),
		SUITE_CASE(keys_line__reads_back),
	};

	return SUITE_MAIN("options", cases);
}
