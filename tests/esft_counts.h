/* esft_counts.h - experts per layer of the four published ESFT adapters */
/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Source: deepseek-ai/ESFT, results/expert_configs, method "token" with
 *         p = 0.2 (MIT licence): the lengths of the lists per MoE layer 1..26
 *         of DeepSeek-V2-Lite. Only these numbers matter for placement.
 */
#ifndef HEDDLE_TESTS_ESFT_COUNTS_H
#define HEDDLE_TESTS_ESFT_COUNTS_H

#include <stdint.h>

#define ESFT_LAYER_COUNT 26
#define ESFT_ADAPTER_COUNT 4

struct esft_counts {
	const char *name;
	uint32_t total;
	uint32_t counts[ESFT_LAYER_COUNT];
};

static const struct esft_counts esft_counts[ESFT_ADAPTER_COUNT] = {
	{"intent", 124,
		{5, 6, 6, 6, 5, 5, 4, 4, 4, 5, 5, 5, 4, 4, 5, 4, 5, 4, 5, 5, 5,
			4, 5, 4, 5, 5}},
	{"law", 153,
		{9, 9, 8, 7, 7, 6, 6, 5, 6, 6, 6, 6, 5, 6, 4, 6, 6, 6, 3, 5, 6,
			6, 5, 3, 5, 6}},
	{"summary", 128,
		{8, 7, 6, 6, 5, 6, 4, 4, 3, 5, 4, 6, 6, 4, 5, 5, 8, 5, 4, 4, 3,
			5, 4, 5, 4, 2}},
	{"translation", 83,
		{4, 3, 4, 3, 3, 3, 3, 2, 3, 3, 2, 3, 3, 4, 3, 3, 3, 3, 3, 3, 3,
			3, 4, 4, 4, 4}},
};

#endif
