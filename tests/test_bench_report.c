/* test_bench_report.c - when a figure reaches its aims */
/* SPDX-License-Identifier: Apache-2.0 */
#include <stdlib.h>
#include <string.h>

#include "bench/report.h"
#include "tests/suite.h"

struct judged {
	struct report_row row;
	bool reached;
};

static const struct judged judged[] = {
	/* More is better: a share of the limit, so many times the peer. */
	{{.value = 85, .limit = 100, .goal_share = 0.85}, true},
	{{.value = 84, .limit = 100, .goal_share = 0.85}, false},
	{{.value = 15, .peer_value = 10, .goal_factor = 1.5}, true},
	{{.value = 14, .peer_value = 10, .goal_factor = 1.5}, false},
	/* Less is better: the limit is the most, the peer needs more. */
	{{.value = 100, .limit = 100, .goal_share = 1, .less_is_better = true},
		true},
	{{.value = 101, .limit = 100, .goal_share = 1, .less_is_better = true},
		false},
	{{.value = 2,
		 .peer_value = 10,
		 .goal_factor = 5,
		 .less_is_better = true},
		true},
	{{.value = 3,
		 .peer_value = 10,
		 .goal_factor = 5,
		 .less_is_better = true},
		false},
	/* Both have to be. */
	{{.value = 90,
		 .limit = 100,
		 .goal_share = 0.85,
		 .peer_value = 80,
		 .goal_factor = 1.15},
		false},
	{{.value = 1,
		 .limit = 2,
		 .goal_share = 1,
		 .peer_value = 4,
		 .goal_factor = 5,
		 .less_is_better = true},
		false},
	/* What was not measured is not judged. */
	{{.value = 1, .goal_share = 0.85, .goal_factor = 5}, true},
	{{.value = 1, .limit = 10, .peer_value = 10}, true},
};

static void test_bench_report__reaches_its_aims(void)
{
	for (size_t i = 0; i < sizeof(judged) / sizeof(judged[0]); i++)
		CU_ASSERT_EQUAL(
			report_row_reached(&judged[i].row), judged[i].reached);
}

static void test_bench_report__table_shows_aims(void)
{
	struct report report = {.count = 0};
	char *text = NULL;
	size_t length;
	FILE *out = open_memstream(&text, &length);

	CU_ASSERT_PTR_NOT_NULL_FATAL(out);
	report_add(&report, &(struct report_row){.name = "more",
				    .value = 30,
				    .unit = "x",
				    .peer_value = 10,
				    .goal_factor = 2});
	report_add_named(&report,
		&(struct report_row){.value = 4,
			.unit = "ns",
			.limit = 5,
			.goal_share = 1,
			.peer_value = 16,
			.goal_factor = 5,
			.less_is_better = true},
		"%s.%d", "less", 1);
	report_print_table(&report, out);
	fclose(out);
	CU_ASSERT_PTR_NOT_NULL(strstr(text, " 3x (2) reached\n"));
	CU_ASSERT_PTR_NOT_NULL(strstr(text, "less.1 "));
	CU_ASSERT_PTR_NOT_NULL(strstr(text, " 80 % (100) "));
	CU_ASSERT_PTR_NOT_NULL(strstr(text, " 0.25x (0.2) MISSED\n"));
	free(text);
}

int main(void)
{
	static const struct suite_case cases[] = {
		SUITE_CASE(bench_report__reaches_its_aims),
		SUITE_CASE(bench_report__table_shows_aims),
	};

	return SUITE_MAIN("bench_report", cases);
}
