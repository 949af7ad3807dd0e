/* test_probe_fake.c - the card probe's host code against a driver with no card
 *
 * Runs build/tests/gpu-probe-fake: the probe with the fake driver library of
 * tests/fake. What it measures means nothing; that every section runs to its
 * end, gives back what it took, and survives any call that fails, does.
 */
/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "bench/gpu/probe_names.h"
#include "bench/gpu/probe_record.h"
#include "tests/probe_json_check.h"
#include "tests/suite.h"

/* Only a hang of the probe itself, which is not expected, takes so long. */
enum { WAIT_MS = 600000, TEXT = 1 << 18 };

/* Folder of the test programs, and a folder for this run's files, which is
 * also the working folder. */
static char home[512];
static char scratch[64];

struct ended {
	int status; /* of waitpid; -1: killed by this test, it hung */
	char output[TEXT]; /* standard error, or records of a section */
};

static struct ended ended;

static const char *file_text(const char *path)
{
	static char text[TEXT];
	FILE *file = fopen(path, "r");
	size_t length = 0;

	if (file != NULL) {
		length = fread(text, 1, sizeof(text) - 1, file);
		(void)fclose(file);
	}
	text[length] = '\0';
	return text;
}

static void set_number(const char *name, unsigned long value)
{
	char text[32];

	snprintf(text, sizeof(text), "%lu", value);
	if (value == 0)
		(void)unsetenv(name);
	else
		(void)setenv(name, text, 1);
}

/* Read `fd` to its end into ended.output; false: it took too long. */
static bool drain(int fd)
{
	size_t length = 0;

	for (;;) {
		struct pollfd wait = {.fd = fd, .events = POLLIN};
		ssize_t count;

		if (poll(&wait, 1, WAIT_MS) <= 0)
			return false;
		count = read(fd, ended.output + length,
			sizeof(ended.output) - 1 - length);
		if (count <= 0)
			break;
		length += (size_t)count;
	}
	ended.output[length] = '\0';
	return true;
}

/*
 * Run the probe; `listen` is the descriptor that is kept: 2 for messages, 3
 * for the records of a section run alone. `fault` names a variable of the fake
 * and `at` its value; 0 for none.
 */
static void run_probe(
	const char *const *words, int listen, const char *fault, unsigned at)
{
	char program[600];
	char *argv[16] = {program};
	int ends[2];
	pid_t pid;

	snprintf(program, sizeof(program), "%s/gpu-probe-fake", home);
	for (int i = 0; i < 14 && words[i] != NULL; i++)
		argv[i + 1] = (char *)(uintptr_t)words[i];
	CU_ASSERT_EQUAL_FATAL(pipe(ends), 0);
	(void)fcntl(ends[0], F_SETFD, FD_CLOEXEC);
	(void)remove("report");
	pid = fork();
	CU_ASSERT_FATAL(pid >= 0);
	if (pid == 0) {
		int null = open("/dev/null", O_WRONLY);

		set_number(fault, at);
		(void)dup2(null, 1);
		if (listen != 2)
			(void)dup2(null, 2);
		(void)dup2(ends[1], listen);
		if (ends[1] != listen)
			(void)close(ends[1]);
		execv(program, argv);
		_exit(126);
	}
	(void)close(ends[1]);
	ended.status = 0;
	if (drain(ends[0])) {
		(void)waitpid(pid, &ended.status, 0);
	} else {
		(void)kill(pid, SIGKILL);
		(void)waitpid(pid, &ended.status, 0);
		ended.status = -1;
	}
	(void)close(ends[0]);
}

static int exit_code(void)
{
	return WIFEXITED(ended.status) ? WEXITSTATUS(ended.status) : -1;
}

/* Sum of a number in the lines that the fake's processes left. */
static long reported(const char *word)
{
	const char *at = file_text("report");
	long sum = 0;

	while ((at = strstr(at, word)) != NULL) {
		at += strlen(word);
		sum += strtol(at, NULL, 10);
	}
	return sum;
}

/* "name" and "status" of a section stand next to each other. */
static bool section_is(const char *json, const char *name, const char *status)
{
	char wanted[128];

	snprintf(wanted, sizeof(wanted),
		"\"name\": \"%s\",\n      \"status\": \"%s\"", name, status);
	return strstr(json, wanted) != NULL;
}

/* Value of a result, -1 when it is not there. */
static double value_of(const char *json, const char *name)
{
	char wanted[128];
	const char *at;

	snprintf(wanted, sizeof(wanted),
		"\"name\": \"%s\",\n      \"value\": ", name);
	at = strstr(json, wanted);
	return at == NULL ? -1 : strtod(at + strlen(wanted), NULL);
}

/* True when some result has a name that the pattern covers. */
static bool has_result(const char *json, const char *pattern)
{
	static const char key[] = "\"name\": \"";

	for (const char *at = json; (at = strstr(at, key)) != NULL;) {
		char name[PROBE_NAME_MAX];
		size_t length;

		at += sizeof(key) - 1;
		length = strcspn(at, "\"");
		if (length >= sizeof(name))
			continue;
		memcpy(name, at, length);
		name[length] = '\0';
		if (probe_name_match(pattern, name))
			return true;
	}
	return false;
}

/* ---- whole runs ----------------------------------------------------------- */

static void expect_facts(const char *json)
{
	static const char *const facts[] = {"vmm.usable", "remap.graph.whole",
		"remap.graph.middle", "remap.graph.cycle",
		"alias.window_to_tensor", "alias.tensor_to_window",
		"rows.wgmma.right", "rows.mma.right", "rows.wgmma.poison",
		"rows.wgmma.same_bits.k1408", "rows.wgmma_is_mma",
		"hold.survives", "hold.usage_returned", "share.same_memory",
		"window.right", "rdma.dmabuf.flagged_n16"};

	for (size_t i = 0; i < sizeof(facts) / sizeof(facts[0]); i++) {
		if (value_of(json, facts[i]) == 1)
			continue;
		printf("%s ", facts[i]);
		CU_FAIL("not true");
	}
}

static void test_run__every_section_and_every_result(void)
{
	/* Limits that no slow machine meets. */
	const char *const words[] = {"--quick", "--json", "new/run.json",
		"--time-limit", "3600", "--section-limit", "600", NULL};
	const char *json;

	run_probe(words, 2, "FAKE_CUDA_FAIL_AT", 0);
	CU_ASSERT_EQUAL(exit_code(), 0);
	CU_ASSERT_EQUAL(reported("leaks "), 0);
	CU_ASSERT_EQUAL(reported("violations "), 0);
	CU_ASSERT(reported("calls ") > 1000);
	json = file_text("new/run.json");
	CU_ASSERT(probe_json_valid(json));
	CU_ASSERT_PTR_NOT_NULL(strstr(json, "\"card\": \"fake (no card)\""));
	for (int i = 0; i < PROBE_SECTION_COUNT; i++) {
		const char *status = i == PROBE_cublaslt ? "skipped" : "ok";

		if (!section_is(json, probe_section_names[i].name, status)) {
			printf("%s ", probe_section_names[i].name);
			CU_FAIL("other status");
		}
	}
	for (size_t i = 0; i < probe_result_name_count; i++) {
		const char *pattern = probe_result_names[i].pattern;

		if (strncmp(pattern, "cublaslt.", 9) != 0 &&
			!has_result(json, pattern)) {
			printf("%s ", pattern);
			CU_FAIL("no result");
		}
	}
	expect_facts(json);
}

static void test_run__only_the_chosen_sections(void)
{
	const char *const words[] = {"--quick", "--json", "some.json",
		"--sections", "share,launch", NULL};
	const char *json;

	run_probe(words, 2, "FAKE_CUDA_FAIL_AT", 0);
	CU_ASSERT_EQUAL(exit_code(), 0);
	json = file_text("some.json");
	CU_ASSERT(section_is(json, "info", "ok"));
	CU_ASSERT(section_is(json, "share", "ok"));
	CU_ASSERT(section_is(json, "launch", "ok"));
	CU_ASSERT_PTR_NULL(strstr(json, "\"name\": \"mem"));
}

/* info and share need fewer than 300 calls, launch needs thousands. */
static void test_run__a_crash_costs_one_section(void)
{
	const char *const words[] = {"--quick", "--json", "crash.json",
		"--sections", "launch,share", NULL};
	const char *json;

	run_probe(words, 2, "FAKE_CUDA_CRASH_AT", 300);
	CU_ASSERT_EQUAL(exit_code(), 1);
	json = file_text("crash.json");
	CU_ASSERT(probe_json_valid(json));
	CU_ASSERT(section_is(json, "launch", "failed"));
	CU_ASSERT_PTR_NOT_NULL(strstr(json, "ended by signal 6"));
	CU_ASSERT(section_is(json, "share", "ok"));
}

static void test_run__a_hang_costs_one_section(void)
{
	const char *const words[] = {"--quick", "--json", "hang.json",
		"--sections", "launch,share", "--section-limit", "5", NULL};
	const char *json;

	run_probe(words, 2, "FAKE_CUDA_HANG_AT", 300);
	CU_ASSERT_EQUAL(exit_code(), 1);
	json = file_text("hang.json");
	CU_ASSERT(probe_json_valid(json));
	CU_ASSERT(section_is(json, "launch", "timeout"));
	/* What came before the hang is kept. */
	CU_ASSERT(value_of(json, "launch.host") > 0);
	CU_ASSERT(section_is(json, "share", "ok"));
}

static void test_run__no_time_skips_the_rest(void)
{
	const char *const words[] = {"--quick", "--json", "late.json",
		"--sections", "launch,share", "--time-limit", "3", NULL};
	const char *json;

	run_probe(words, 2, "FAKE_CUDA_HANG_AT", 300);
	CU_ASSERT_EQUAL(exit_code(), 1);
	json = file_text("late.json");
	CU_ASSERT(section_is(json, "share", "skipped"));
	CU_ASSERT_PTR_NOT_NULL(strstr(json, "no time was left"));
}

static void test_run__no_card(void)
{
	const char *const words[] = {"--json", "none.json", NULL};

	/* The first call is cuInit. */
	run_probe(words, 2, "FAKE_CUDA_FAIL_AT", 1);
	CU_ASSERT_EQUAL(exit_code(), 77);
	CU_ASSERT_PTR_NOT_NULL(strstr(ended.output, "no card: cuInit"));
	CU_ASSERT_NOT_EQUAL(access("none.json", F_OK), 0);
}

static void test_run__no_driver(void)
{
	const char *const words[] = {"--json", "none.json", NULL};
	const char *library = getenv("HEDDLE_LIBCUDA");
	char copy[1024];

	CU_ASSERT_PTR_NOT_NULL_FATAL(library);
	snprintf(copy, sizeof(copy), "%s", library);
	(void)setenv("HEDDLE_LIBCUDA", "/nonexistent/libcuda.so", 1);
	run_probe(words, 2, "FAKE_CUDA_FAIL_AT", 0);
	(void)setenv("HEDDLE_LIBCUDA", copy, 1);
	CU_ASSERT_EQUAL(exit_code(), 77);
	CU_ASSERT_PTR_NOT_NULL(strstr(
		ended.output, "/nonexistent/libcuda.so cannot be opened"));
}

static void test_run__no_such_device(void)
{
	const char *const words[] = {
		"--json", "none.json", "--device", "7", NULL};

	run_probe(words, 2, "FAKE_CUDA_FAIL_AT", 0);
	CU_ASSERT_EQUAL(exit_code(), 77);
	CU_ASSERT_PTR_NOT_NULL(strstr(ended.output, "there is no device 7"));
}

static void test_run__bad_argument(void)
{
	const char *const words[] = {"--sections", "mem,wat", NULL};

	run_probe(words, 2, "FAKE_CUDA_FAIL_AT", 0);
	CU_ASSERT_EQUAL(exit_code(), 2);
	CU_ASSERT_STRING_EQUAL(ended.output,
		"gpu-probe: --sections: no section is named 'wat'\n");
}

static void test_run__file_cannot_be_written(void)
{
	const char *const words[] = {"--quick", "--json", "/dev/null/x.json",
		"--sections", "info", NULL};

	run_probe(words, 2, "FAKE_CUDA_FAIL_AT", 0);
	CU_ASSERT_EQUAL(exit_code(), 1);
	CU_ASSERT_PTR_NOT_NULL(strstr(ended.output, "/dev/null/x.json"));
}

/* ---- one section, and a call of it that fails -------------------------------- */

/* The last status among the records in ended.output; false: there is none. */
static bool last_status(struct probe_record *status)
{
	bool found = false;
	char *save = NULL;

	for (char *line = strtok_r(ended.output, "\n", &save); line != NULL;
		line = strtok_r(NULL, "\n", &save)) {
		struct probe_record record;

		CU_ASSERT_EQUAL(probe_record_parse(line, &record), 0);
		if (record.kind == PROBE_STATUS) {
			*status = record;
			found = true;
		}
	}
	return found;
}

static void run_alone(const char *section, unsigned fail_at)
{
	const char *const words[] = {
		"--child", section, "--quick", "--child-limit", "60", NULL};

	run_probe(words, 3, "FAKE_CUDA_FAIL_AT", fail_at);
}

/*
 * The section said what failed and left little behind: a call that gives
 * something back may be the one that failed, and what hangs on it stays too.
 */
static void expect_failure(const char *section, unsigned at)
{
	struct probe_record status = {.kind = PROBE_STATUS};
	bool bad = false;

	bad = bad || exit_code() != 0 || !last_status(&status);
	bad = bad || (strcmp(status.name, "failed") != 0 &&
			     strcmp(status.name, "nocard") != 0 &&
			     strcmp(status.name, "skipped") != 0 &&
			     strcmp(status.name, "ok") != 0);
	bad = bad || (strcmp(status.name, "ok") != 0 && status.text[0] == '\0');
	bad = bad || reported("leaks ") > 3 || reported("failed ") != 1;
	if (!bad)
		return;
	printf("%s call %u: exit %d, %s (%s), leaks %ld ", section, at,
		exit_code(), status.name, status.text, reported("leaks "));
	CU_FAIL("a failing call was not survived");
}

/*
 * PROBE_FAULT_STEP=1 tries every call; by default some two of each
 * section, others in each run.
 */
static void try_section(const char *section, uint64_t *state)
{
	const char *text = getenv("PROBE_FAULT_STEP");
	unsigned step = text == NULL ? 0 : (unsigned)strtoul(text, NULL, 10);
	unsigned calls;
	struct probe_record status = {.kind = PROBE_STATUS};

	run_alone(section, 0);
	calls = (unsigned)reported("calls ");
	CU_ASSERT(last_status(&status));
	CU_ASSERT(calls > 10);
	CU_ASSERT_EQUAL(reported("leaks "), 0);
	if (step == 0)
		step = calls / 2 + 1;
	for (unsigned at = 1 + suite_below(state, step); at <= calls;
		at += step) {
		run_alone(section, at);
		expect_failure(section, at);
	}
}

static void test_section__survives_a_failing_call(void)
{
	uint64_t state = suite_seed((uint64_t)getpid());
	const char *only = getenv("PROBE_FAULT_SECTION");

	(void)setenv("FAKE_CUDA_MIB", "192", 1);
	for (int i = 0; i < PROBE_SECTION_COUNT; i++) {
		const char *name = probe_section_names[i].name;

		/* rows computes for seconds; hold and cublaslt: see below. */
		if (i == PROBE_rows || i == PROBE_hold || i == PROBE_cublaslt)
			continue;
		if (only != NULL && strcmp(only, name) != 0)
			continue;
		try_section(name, &state);
	}
	(void)unsetenv("FAKE_CUDA_MIB");
}

/* Its set-up and its first launches. */
static void test_section_rows__survives_a_failing_call(void)
{
	for (unsigned at = 10; at < 50; at += 3) {
		run_alone("rows", at);
		expect_failure("rows", at);
	}
}

/* Three processes, so it is tried as a whole; info has some 50 calls. */
static void test_section_hold__survives_a_failing_call(void)
{
	const char *const words[] = {
		"--quick", "--json", "hold.json", "--sections", "hold", NULL};

	(void)setenv("FAKE_CUDA_MIB", "192", 1);
	for (unsigned at = 60; at < 240; at += 20) {
		const char *json;

		run_probe(words, 2, "FAKE_CUDA_FAIL_AT", at);
		json = file_text("hold.json");
		CU_ASSERT(exit_code() == 0 || exit_code() == 1);
		CU_ASSERT(probe_json_valid(json));
		CU_ASSERT_NOT_EQUAL(
			section_is(json, "hold", "ok"), exit_code());
	}
	(void)unsetenv("FAKE_CUDA_MIB");
}

/* ---- where things are ---------------------------------------------------------- */

/* 0, or 77 when this build has no probe to test. */
static int find_home(void)
{
	char path[600];
	ssize_t length = readlink("/proc/self/exe", home, sizeof(home) - 1);

	if (length <= 0)
		return 1;
	home[length] = '\0';
	*strrchr(home, '/') = '\0';
	snprintf(path, sizeof(path), "%s/gpu-probe-fake", home);
	if (access(path, X_OK) != 0) {
		printf("SKIP: %s was not built: no CUDA headers here\n", path);
		return 77;
	}
	snprintf(path, sizeof(path), "%s/libfakecuda.so", home);
	(void)setenv("HEDDLE_LIBCUDA", path, 1);
	snprintf(scratch, sizeof(scratch), "/tmp/probe-fake-XXXXXX");
	if (mkdtemp(scratch) == NULL || chdir(scratch) != 0)
		return 1;
	(void)setenv("FAKE_CUDA_REPORT", "report", 1);
	return 0;
}

static void clean_up(void)
{
	static const char *const names[] = {"report", "new/run.json", "new",
		"some.json", "crash.json", "hang.json", "late.json",
		"hold.json"};

	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
		(void)remove(names[i]);
	(void)rmdir(scratch);
}

int main(void)
{
	static const struct suite_case cases[] = {
		SUITE_CASE(run__every_section_and_every_result),
		SUITE_CASE(run__only_the_chosen_sections),
		SUITE_CASE(run__a_crash_costs_one_section),
		SUITE_CASE(run__a_hang_costs_one_section),
		SUITE_CASE(run__no_time_skips_the_rest),
		SUITE_CASE(run__no_card),
		SUITE_CASE(run__no_driver),
		SUITE_CASE(run__no_such_device),
		SUITE_CASE(run__bad_argument),
		SUITE_CASE(run__file_cannot_be_written),
		SUITE_CASE(section__survives_a_failing_call),
		SUITE_CASE(section_rows__survives_a_failing_call),
		SUITE_CASE(section_hold__survives_a_failing_call),
	};
	int found = find_home();
	int failed;

	if (found != 0)
		return found;
	failed = SUITE_MAIN("probe_fake", cases);
	clean_up();
	return failed;
}
