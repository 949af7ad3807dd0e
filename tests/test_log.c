/* test_log.c - lines for the operator */
/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/log.h"
#include "tests/suite.h"

/* Run `what` with standard error in a pipe; the text lands in out. */
static void capture(void (*what)(void), char *out, size_t size)
{
	int saved = dup(STDERR_FILENO);
	int ends[2];
	ssize_t got;

	CU_ASSERT_EQUAL_FATAL(pipe(ends), 0);
	dup2(ends[1], STDERR_FILENO);
	close(ends[1]);
	what();
	dup2(saved, STDERR_FILENO);
	close(saved);
	got = read(ends[0], out, size - 1);
	out[got < 0 ? 0 : got] = '\0';
	close(ends[0]);
}

static void say_all(void)
{
	errno = ENOENT;
	log_error("a %d", 1);
	log_warn("b");
	log_warnx("c\nd");
	log_info("e");
	log_debug("unseen");
	CU_ASSERT_EQUAL(errno, ENOENT);
}

static void test_log__levels_and_form(void)
{
	char text[1024];

	log_open("name", LOG_TARGET_STDERR, LOG_LEVEL_INFO);
	capture(say_all, text, sizeof(text));
	CU_ASSERT_STRING_EQUAL(text,
		"name: error: a 1\n"
		"name: warning: b: No such file or directory\n"
		"name: warning: c?d\n"
		"name: info: e\n");
}

static void say_long(void)
{
	char big[8192];

	memset(big, 'x', sizeof(big) - 1);
	big[sizeof(big) - 1] = '\0';
	log_warn("%s", big);
}

static void test_log__a_long_line_is_one_line(void)
{
	char text[8192];
	size_t length;

	capture(say_long, text, sizeof(text));
	length = strlen(text);
	CU_ASSERT(length > 1000 && length <= 2048);
	CU_ASSERT_EQUAL(text[length - 1], '\n');
	CU_ASSERT_PTR_EQUAL(strchr(text, '\n'), text + length - 1);
}

int main(void)
{
	static const struct suite_case cases[] = {
		SUITE_CASE(log__levels_and_form),
		SUITE_CASE(log__a_long_line_is_one_line),
	};

	return SUITE_MAIN("log", cases);
}
