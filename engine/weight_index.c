/* weight_index.c - which file holds which tensor (index -> claims) */
/* SPDX-License-Identifier: Apache-2.0 */
#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/json_text.h"
#include "engine/weight_index.h"

#define SINGLE_FILE "model.safetensors"

/* Added to the number of the file once the tensor was found there. */
#define CLAIMED ((json_int_t)1 << 32)

/* One comma and one colon for each tensor, and room for the metadata. */
static const struct json_bounds index_bounds = {
	.object_max = 64,
	.array_max = 64,
	.separator_max = (size_t)4 * SAFETENSORS_TENSOR_COUNT_MAX,
};

static int compare_name(const void *key, const void *file)
{
	return strcmp(key, ((const struct model_file *)file)->name);
}

/* The number of a weight file, or weight_count. */
static uint32_t find_file(const struct model_files *files, const char *name)
{
	const struct model_file *found = NULL;

	if (files->weight_count > 0)
		found = bsearch(name, files->weights, files->weight_count,
			sizeof(*found), compare_name);
	return found ? (uint32_t)(found - files->weights) : files->weight_count;
}

/* Replace each file name by the number of the file. */
static int resolve_files(struct weight_index *index, struct error *err)
{
	const struct model_files *files = index->files;
	const char *index_name = files->index.name;
	void *at = json_object_iter(index->map);

	for (; at; at = json_object_iter_next(index->map, at)) {
		const char *file_name =
			json_string_value(json_object_iter_value(at));
		uint32_t file;

		if (!file_name)
			return error_set(err, EINVAL,
				"%s: tensor \"%.200s\": is in no file",
				index_name, json_object_iter_key(at));
		file = find_file(files, file_name);
		if (file == files->weight_count)
			return error_set(err, EINVAL,
				"%s: tensor \"%.200s\": is in \"%.200s\", "
				"which is not there",
				index_name, json_object_iter_key(at),
				file_name);
		index->used[file] = true;
		if (json_object_iter_set_new(
			    index->map, at, json_integer(file)))
			return error_set(err, ENOMEM,
				"%s: no memory for its tensors", index_name);
	}
	return 0;
}

static int read_index(struct weight_index *index, struct error *err)
{
	const struct model_file *file = &index->files->index;
	size_t length;
	char *text;
	int rc = model_file_text(file, &text, &length, err);

	if (rc)
		return rc;
	rc = json_text_parse(text, length, &index_bounds, &index->root, err);
	free(text);
	if (rc) {
		error_prefix(err, "%s", file->name);
		return rc;
	}
	index->map = json_object_get(index->root, "weight_map");
	if (!json_is_object(index->map))
		return error_set(
			err, EINVAL, "%s: weight_map is no object", file->name);
	return resolve_files(index, err);
}

/* find_file() needs the order that files.h promises. */
static void check_sorted(const struct model_files *files)
{
	for (uint32_t i = 1; i < files->weight_count; i++)
		assert(strcmp(files->weights[i - 1].name,
			       files->weights[i].name) < 0);
}

static int read_any(struct weight_index *index, struct error *err)
{
	const struct model_files *files = index->files;
	uint32_t single;

	if (files->index.fd >= 0)
		return read_index(index, err);
	single = find_file(files, SINGLE_FILE);
	if (single == files->weight_count)
		return error_set(err, EINVAL,
			"neither " SINGLE_FILE " nor an index is there");
	index->used[single] = true;
	return 0;
}

int weight_index_read(const struct model_files *files, struct weight_index *out,
	struct error *err)
{
	struct weight_index index = {.files = files};
	int rc;

	check_sorted(files);
	/* One more, because an empty allocation may be NULL. */
	index.used = calloc((size_t)files->weight_count + 1, sizeof(bool));
	if (!index.used)
		return error_set(err, ENOMEM, "no memory for %u files",
			files->weight_count);
	rc = read_any(&index, err);
	if (rc)
		weight_index_release(&index);
	else
		*out = index;
	return rc;
}

int weight_index_claim(struct weight_index *index, uint32_t file,
	const char *name, struct error *err)
{
	const struct model_file *weights = index->files->weights;
	json_t *value;
	json_int_t said;

	assert(file < index->files->weight_count);
	if (!index->map)
		return 0;
	value = json_object_get(index->map, name);
	if (!value)
		return error_set(err, EINVAL,
			"%s: tensor \"%s\": is not in the index",
			weights[file].name, name);
	said = json_integer_value(value);
	if (said % CLAIMED != file)
		return error_set(err, EINVAL,
			"%s: tensor \"%s\": the index says that it is in %s",
			weights[file].name, name, weights[said % CLAIMED].name);
	json_integer_set(value, file + CLAIMED);
	return 0;
}

int weight_index_finish(struct weight_index *index, struct error *err)
{
	const char *name;
	json_t *value;

	json_object_foreach(index->map, name, value)
	{
		json_int_t said = json_integer_value(value);

		if (said < CLAIMED)
			return error_set(err, EINVAL,
				"%s: tensor \"%.200s\": is not in the file, "
				"although the index says so",
				index->files->weights[said].name, name);
	}
	return 0;
}

void weight_index_release(struct weight_index *index)
{
	json_decref(index->root);
	free(index->used);
	*index = (struct weight_index){0};
}
