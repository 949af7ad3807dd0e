/* test_error.c - errors that travel */
/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <string.h>

#include "base/error.h"
#include "tests/suite.h"

static void test_error_set__first_wins(void)
{
	struct error err = {0};

	CU_ASSERT_EQUAL(error_set(&err, EINVAL, "cause %d", 1), -EINVAL);
	CU_ASSERT_EQUAL(error_set(&err, EIO, "echo"), -EIO);
	CU_ASSERT_EQUAL(err.code, -EINVAL);
	CU_ASSERT_STRING_EQUAL(err.text, "cause 1");
}

static void test_error_set__null_is_allowed(void)
{
	CU_ASSERT_EQUAL(error_set(NULL, ENOMEM, "x"), -ENOMEM);
	CU_ASSERT_EQUAL(error_prefix(NULL, "x"), 0);
	CU_ASSERT_FALSE(error_is_set(NULL));
}

static void test_error_set__no_control_characters(void)
{
	struct error err = {0};

	error_set(&err, EINVAL, "tensor \"%s\"", "a\nb\033[2Jc\177");
	CU_ASSERT_STRING_EQUAL(err.text, "tensor \"a?b?[2Jc?\"");
}

static void test_error_set__long_text_is_cut(void)
{
	struct error err = {0};
	char big[2 * ERROR_TEXT_BYTES];

	memset(big, 'x', sizeof(big) - 1);
	big[sizeof(big) - 1] = '\0';
	error_set(&err, EINVAL, "%s", big);
	CU_ASSERT_EQUAL(strlen(err.text), ERROR_TEXT_BYTES - 1);
	error_prefix(&err, "%s", big);
	CU_ASSERT_EQUAL(strlen(err.text), ERROR_TEXT_BYTES - 1);
}

static void test_error_prefix__says_where(void)
{
	struct error err = {0};

	CU_ASSERT_EQUAL(error_prefix(&err, "dir"), 0);
	CU_ASSERT_FALSE(error_is_set(&err));
	error_set(&err, EINVAL, "bad");
	CU_ASSERT_EQUAL(error_prefix(&err, "%s:%d", "file", 3), -EINVAL);
	CU_ASSERT_STRING_EQUAL(err.text, "file:3: bad");
	error_clear(&err);
	CU_ASSERT_FALSE(error_is_set(&err));
	CU_ASSERT_STRING_EQUAL(err.text, "");
}

int main(void)
{
	static const struct suite_case cases[] = {
		SUITE_CASE(error_set__first_wins),
		SUITE_CASE(error_set__null_is_allowed),
		SUITE_CASE(error_set__no_control_characters),
		SUITE_CASE(error_set__long_text_is_cut),
		SUITE_CASE(error_prefix__says_where),
	};

	return SUITE_MAIN("error", cases);
}
