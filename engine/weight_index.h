/* weight_index.h - which file holds which tensor (index -> claims) */
/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Why:   with an index, a tensor counts only in the file that the index says,
 *        and everything that the index names has to be there; without one,
 *        model.safetensors is the model.
 * Ownership: borrows the files until release.
 * Threads: one thread.
 */
#ifndef HEDDLE_ENGINE_WEIGHT_INDEX_H
#define HEDDLE_ENGINE_WEIGHT_INDEX_H

#include <jansson.h>
#include <stdbool.h>

#include "base/error.h"
#include "engine/files.h"

struct weight_index {
	const struct model_files *files;
	json_t *root; /* NULL: there is no index */
	json_t *map; /* borrows from root: name -> number of the file */
	bool *used; /* [weight_count] files that are part of the model */
};

/* -EINVAL with a text that names the file; -EIO, -EFBIG, -ENOMEM. */
int weight_index_read(const struct model_files *files, struct weight_index *out,
	struct error *err);

/* File number `file` holds `name`: -EINVAL where the index disagrees. */
int weight_index_claim(struct weight_index *index, uint32_t file,
	const char *name, struct error *err);

/* After all claims: -EINVAL where the index names what no file holds. */
int weight_index_finish(struct weight_index *index, struct error *err);

/* A zeroed struct is allowed. */
void weight_index_release(struct weight_index *index);

#endif
