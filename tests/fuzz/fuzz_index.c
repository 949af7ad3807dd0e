/* fuzz_index.c - any bytes as the index of a tiny Mixtral, and as the names in
 * one of its files (text -> plan) */
/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Input: the text of the index; where a zero byte follows, what comes after
 * it is the header of the first weight file, over the same data.
 */
#include <stdlib.h>
#include <string.h>

#include "tests/checkpoint.h"
#include "tests/fuzz/fuzz.h"

static struct checkpoint checkpoint;

static char *copy_text(const uint8_t *data, size_t size)
{
	char *text = malloc(size + 1);

	if (!text)
		abort();
	memcpy(text, data, size);
	text[size] = '\0';
	return text;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	const uint8_t *zero = memchr(data, 0, size);
	size_t index_size = zero ? (size_t)(zero - data) : size;
	struct model_plan plan = {0};
	struct error err = {0};

	if (!checkpoint.config_text)
		checkpoint_init(&checkpoint, FAMILY_MIXTRAL, false);
	free(checkpoint.index_text);
	checkpoint.index_text = copy_text(data, index_size);
	free(checkpoint.files[0].header);
	checkpoint.files[0].header = NULL;
	if (zero)
		checkpoint.files[0].header =
			copy_text(zero + 1, size - index_size - 1);
	if (checkpoint_plan(&checkpoint, &plan, &err) == 0) {
		if (plan.count == 0)
			abort();
		model_plan_release(&plan);
	} else if (!err.text[0]) {
		abort();
	}
	return 0;
}
