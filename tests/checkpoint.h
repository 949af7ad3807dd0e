/* checkpoint.h - a whole tiny model that tests make wrong (family -> files) */
/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Why:   a hostile checkpoint is a right one with one thing changed; this is
 *        the right one, with every part open to change: the text of
 *        config.json, the tensors of two weight files, the index.
 * Use:   checkpoint_init(), change fields, checkpoint_plan() as often as
 *        wanted, checkpoint_release().
 */
#ifndef HEDDLE_TESTS_CHECKPOINT_H
#define HEDDLE_TESTS_CHECKPOINT_H

#include "engine/plan.h"
#include "tests/st_builder.h"
#include "tests/st_model.h"

#define CHECKPOINT_FILE_COUNT 2

/* One weight file, and how it is written. */
struct checkpoint_file {
	char name[64];
	struct st_builder tensors;
	char *header; /* owned; NULL = as the tensors say */
	uint64_t length_field; /* of the header; 0 = right */
	int64_t more_bytes; /* than the tensors need; may be negative */
	int64_t size_change; /* since the file was opened */
	bool absent;
};

struct checkpoint {
	char *config_text; /* owned */
	struct model_config config; /* of the text that was right */
	struct checkpoint_file files[CHECKPOINT_FILE_COUNT];
	char *index_text; /* owned; NULL = no index */
};

/*
 * The tensors are dealt out in turn: model-00001-of-00002.safetensors holds
 * those of even number. fp8: the DeepSeek-V3 whose linears are in fp8, and
 * with a layer after the last.
 */
void checkpoint_init(struct checkpoint *c, enum model_family family, bool fp8);
void checkpoint_release(struct checkpoint *c);

/* The tensor and the file that it is in; the name has to be there. */
struct st_tensor *checkpoint_find(struct checkpoint *c, const char *name,
	struct checkpoint_file **out_file);

/* Lay out again what was changed, and write the index anew. */
void checkpoint_layout(struct checkpoint *c);
void checkpoint_write_index(struct checkpoint *c);

/* Replace the first `from`, which has to be there, in an owned text. */
void text_replace(char **text, const char *from, const char *to);

/* Open files, as control would hand them over; model_files_close() them. */
void checkpoint_open(const struct checkpoint *c, struct model_files *out);

/* Parse the config, open the files, make the plan. */
int checkpoint_plan(
	const struct checkpoint *c, struct model_plan *out, struct error *err);

#endif
