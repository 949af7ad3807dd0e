/* load_check.h - is every loaded element where its layout says? (test) */
/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Why:   the loader moves bytes in pieces, on several threads, into another
 *        order; the check walks the checkpoint element by element, with the
 *        formulas of base/weight_format.h written out once more.
 */
#ifndef HEDDLE_TESTS_LOAD_CHECK_H
#define HEDDLE_TESTS_LOAD_CHECK_H

#include <stdint.h>

#include "engine/load.h"

struct load_tally {
	uint64_t tensors, elements, wrong;
};

/* Every matrix of the model, loaded with `layout`, against its files. */
void load_check_model(const struct model_files *files,
	const struct model *model, enum weight_layout layout,
	struct load_tally *out);

#endif
