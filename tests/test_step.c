/* test_step.c - a step is checked before it runs */
/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "engine/step.h"
#include "tests/suite.h"

static const uint8_t published[] = {1, 0, 1};

static const struct step_bounds bounds = {
	.vocab = 100,
	.position_count = 64,
	.instance_count = 3,
	.published = published,
	.page_count = 50,
	.block_tokens = 16,
	.pages_per_block = 2,
};

static const struct step_capacity capacity = {
	.row_count = 8,
	.sequence_count = 3,
	.sample_count = 4,
	.table_stride = 8,
};

/* Two sequences: a decode row at 20, a chunk at 0..2. */
static void fill(struct step *step)
{
	static const uint32_t first[] = {1, 2, 3, 4}, second[] = {5, 6};
	struct sample_params params = {.top_p = 1};
	uint32_t a, b, row;

	CU_ASSERT_EQUAL_FATAL(step_init(step, &capacity), 0);
	step_clear(step, 7, 1);
	a = step_add_sequence(step, first, 4);
	b = step_add_sequence(step, second, 2);
	row = step_add_row(step, 99, 20, a, 0);
	step_add_sample(step, row, &params);
	for (uint32_t i = 0; i < 3; i++)
		row = step_add_row(step, i, i, b, 2);
	step_add_sample(step, row, &params);
}

static void test_step_check__a_good_step_passes(void)
{
	struct error err = {0};
	struct step step;

	fill(&step);
	CU_ASSERT_EQUAL(step_check(&step, &bounds, &err), 0);
	CU_ASSERT_FALSE(error_is_set(&err));
	CU_ASSERT_EQUAL(step.epoch, 7);
	CU_ASSERT_EQUAL(step.rank, 1);
	CU_ASSERT_EQUAL(step.lora[0], LORA_NONE);
	step_clear(&step, 8, 1);
	CU_ASSERT_EQUAL(step_check(&step, &bounds, &err), 0);
	step_release(&step);
	step_release(&step);
}

/* Spoil one field; the error must say which. */
static void expect(struct step *step, const char *text)
{
	struct error err = {0};

	CU_ASSERT_EQUAL(step_check(step, &bounds, &err), -EINVAL);
	if (!strstr(err.text, text))
		printf("got: %s; ", err.text);
	CU_ASSERT_PTR_NOT_NULL(strstr(err.text, text));
	step_release(step);
}

static void test_step_check__each_rule(void)
{
	struct step step;

	fill(&step);
	step.token[1] = 100;
	expect(&step, "row 1: token 100");
	fill(&step);
	step.position[0] = 64;
	expect(&step, "row 0: position 64");
	fill(&step);
	step.sequence[3] = 2;
	expect(&step, "row 3: sequence 2 of 2");
	fill(&step);
	step.instance[2] = 1;
	expect(&step, "row 2: adapter instance 1 is not published");
	fill(&step);
	step.instance[2] = 3;
	expect(&step, "row 2: adapter instance 3 is not published");
	fill(&step);
	step.position[0] = 40;
	expect(&step, "row 0: position 40 lies beyond the block table");
	fill(&step);
	step.block_table[3] = 50;
	expect(&step, "row 0: position 20 has no page");
	fill(&step);
	step.position[2] = 2;
	expect(&step, "row 2: position 2 does not follow 0");
	fill(&step);
	step.sample_row[1] = 4;
	expect(&step, "sample 1: row 4 of 4");
	fill(&step);
	step.sequence[3] = 0;
	expect(&step, "row 3: sequence 0 appears twice");
	fill(&step);
	step.row_count = 9;
	expect(&step, "exceed its capacity");
}

static void test_step_check__position_beyond_the_table(void)
{
	struct step_bounds wide = bounds;
	struct error err = {0};
	struct step step;

	wide.position_count = 1000;
	fill(&step);
	step.position[0] = 64;
	CU_ASSERT_EQUAL(step_check(&step, &wide, &err), -EINVAL);
	CU_ASSERT_PTR_NOT_NULL(strstr(err.text, "beyond the block table"));
	step_release(&step);
}

static void test_step_add_sequence__forgets_the_step_before(void)
{
	static const uint32_t few[] = {9};
	struct error err = {0};
	struct step step;

	fill(&step);
	step_clear(&step, 8, 0);
	step_add_sequence(&step, few, 1);
	CU_ASSERT_EQUAL(step.block_table[0], 9);
	CU_ASSERT_EQUAL(step.page_count[0], 1);
	CU_ASSERT_EQUAL(step.page_count_max, 1);
	/* The pages of the step before lie there, and are nobody's. */
	step_add_row(&step, 1, bounds.block_tokens, 0, 0);
	CU_ASSERT_EQUAL(step_check(&step, &bounds, &err), -EINVAL);
	CU_ASSERT_PTR_NOT_NULL(strstr(err.text, "beyond the block table"));
	step_release(&step);
}

int main(void)
{
	static const struct suite_case cases[] = {
		SUITE_CASE(step_check__a_good_step_passes),
		SUITE_CASE(step_check__each_rule),
		SUITE_CASE(step_check__position_beyond_the_table),
		SUITE_CASE(step_add_sequence__forgets_the_step_before),
	};

	return SUITE_MAIN("step", cases);
}
