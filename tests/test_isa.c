/* test_isa.c - HEDDLE_ISA forces a back end, or says why it cannot */
/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "gpu/cpu/cpu.h"
#include "tests/ops_case.h"
#include "tests/suite.h"

#define VARIABLE "HEDDLE_ISA"

static int choose(const char *value, enum cpu_isa *isa, struct error *err)
{
	int rc;

	*err = (struct error){0};
	if (value)
		setenv(VARIABLE, value, 1);
	else
		unsetenv(VARIABLE);
	rc = cpu_isa_choose(isa, err);
	unsetenv(VARIABLE);
	return rc;
}

static void test_isa__the_name_forces_it(void)
{
	enum cpu_isa isa = CPU_ISA_COUNT, forced = case_isa();
	struct error err;

	CU_ASSERT_EQUAL(choose(cpu_isa_name(forced), &isa, &err), 0);
	CU_ASSERT_EQUAL(isa, forced);
}

static void test_isa__the_forced_table_is_its_own(void)
{
	struct ops ops = case_ops(1);

	CU_ASSERT_STRING_EQUAL(ops.table->name, cpu_isa_name(case_isa()));
	ops.table->destroy(&ops);
}

static void test_isa__without_a_name_it_is_the_best(void)
{
	enum cpu_isa isa = CPU_ISA_COUNT, empty = CPU_ISA_COUNT;
	struct error err;

	CU_ASSERT_EQUAL(choose(NULL, &isa, &err), 0);
	CU_ASSERT_EQUAL(choose("", &empty, &err), 0);
	CU_ASSERT(cpu_isa_works(isa));
	CU_ASSERT_EQUAL(isa, empty);
	for (enum cpu_isa better = isa + 1; better < CPU_ISA_COUNT; better++)
		CU_ASSERT_FALSE(cpu_isa_works(better));
}

static void test_isa__no_such_name_is_refused(void)
{
	static const char *const names[] = {"sse9", "AVX2", "avx", "avx512f"};

	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		enum cpu_isa isa;
		struct error err;

		CU_ASSERT_EQUAL(choose(names[i], &isa, &err), -EINVAL);
		CU_ASSERT_PTR_NOT_NULL(strstr(err.text, names[i]));
	}
}

/* A processor without it says so, and what there is instead. */
static void test_isa__what_does_not_work_is_refused(void)
{
	for (enum cpu_isa isa = 0; isa < CPU_ISA_COUNT; isa++) {
		enum cpu_isa out;
		struct error err;

		if (cpu_isa_works(isa))
			continue;
		CU_ASSERT_EQUAL(choose(cpu_isa_name(isa), &out, &err), -EINVAL);
		CU_ASSERT_PTR_NOT_NULL(strstr(err.text, "works"));
	}
	CU_ASSERT(cpu_isa_works(CPU_REFERENCE));
}

static const struct suite_case once[] = {
	SUITE_CASE(isa__without_a_name_it_is_the_best),
	SUITE_CASE(isa__no_such_name_is_refused),
	SUITE_CASE(isa__what_does_not_work_is_refused),
};

static const struct suite_case each[] = {
	SUITE_CASE(isa__the_name_forces_it),
	SUITE_CASE(isa__the_forced_table_is_its_own),
};

int main(void)
{
	return case_run("isa", CASE_LIST(once), CASE_LIST(each));
}
