/* eval_expand.c - fp8 blocks -> bf16, a whole checkpoint (files -> directory) */
/* SPDX-License-Identifier: Apache-2.0 */
#include <assert.h>
#include <errno.h>
#include <jansson.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/check.h"
#include "base/json_text.h"
#include "base/limits.h"
#include "control/eval_expand.h"
#include "engine/safetensors.h"

#define CONFIG_FILE "config.json"
#define INDEX_FILE "model.safetensors.index.json"
#define HEADER_ALIGN_BYTES 8 /* of the data in the file */
#define COPY_BYTES ((size_t)1 << 20)
#define SCALE_SUFFIX "_scale_inv"

/* Far more than any config.json of a model that the parser takes. */
static const struct json_bounds bounds = {
	.object_max = 4096, .array_max = 4096, .separator_max = 65536};

/* One file of weights on its way. */
struct writer {
	const struct expand *e;
	uint32_t file; /* index into files->weights */
	struct safetensors_header header;
	int fd; /* of the new one; owned */
	uint64_t at; /* where the next tensor's bytes go */
	json_t *map; /* tensor -> file, of all files; borrowed */
	uint64_t *total_bytes; /* of all tensors */
};

bool expand_needed(const struct model_plan *plan)
{
	for (uint32_t i = 0; i < plan->count; i++)
		if (plan->items[i].type == DTYPE_F8_E4M3)
			return true;
	return false;
}

bool expand_writes(const char *name)
{
	return strcmp(name, CONFIG_FILE) == 0 || strcmp(name, INDEX_FILE) == 0;
}

static const char *file_name(const struct writer *w)
{
	return w->e->files->weights[w->file].name;
}

static int no_memory(const char *name, struct error *err)
{
	return error_set(err, ENOMEM, "%s: no memory to expand it", name);
}

/* ---- which tensors ---- */

/* The item that is stored there, or NULL. */
static const struct plan_item *item_of(
	const struct writer *w, const struct safetensors_tensor *tensor)
{
	for (uint32_t i = 0; i < w->e->plan->count; i++) {
		const struct plan_item *item = &w->e->plan->items[i];

		if (item->file == w->file &&
			item->offset_bytes == tensor->offset_bytes &&
			item->size_bytes == tensor->size_bytes)
			return item;
	}
	return NULL;
}

static bool is_scale(const struct safetensors_tensor *tensor)
{
	size_t length = strlen(tensor->name), end = strlen(SCALE_SUFFIX);

	return length > end &&
	       strcmp(tensor->name + length - end, SCALE_SUFFIX) == 0;
}

/* The blocks that are expanded; NULL: as stored. */
static const struct plan_item *blocks_of(
	const struct writer *w, const struct safetensors_tensor *tensor)
{
	return tensor->type == DTYPE_F8_E4M3 ? item_of(w, tensor) : NULL;
}

static bool is_kept(
	const struct writer *w, const struct safetensors_tensor *tensor)
{
	if (tensor->type == DTYPE_F8_E4M3)
		return item_of(w, tensor) != NULL;
	return !is_scale(tensor);
}

static uint64_t new_bytes(
	const struct writer *w, const struct safetensors_tensor *tensor)
{
	return blocks_of(w, tensor)
		       ? tensor->size_bytes * dtype_size(FP8_EXPANDED_TYPE)
		       : tensor->size_bytes;
}

/* ---- bytes ---- */

static int copy_tensor(const struct writer *w,
	const struct safetensors_tensor *tensor, struct error *err)
{
	const struct model_file *from = &w->e->files->weights[w->file];
	uint8_t *bytes = malloc(COPY_BYTES);
	int rc = bytes ? 0 : no_memory(file_name(w), err);

	for (uint64_t at = 0; rc == 0 && at < tensor->size_bytes;) {
		uint64_t left = tensor->size_bytes - at;
		size_t size = left < COPY_BYTES ? (size_t)left : COPY_BYTES;

		rc = model_file_read(
			from, tensor->offset_bytes + at, size, bytes, err);
		if (rc == 0)
			rc = out_dir_write(w->fd, from->name, bytes, size,
				w->at + at, err);
		at += size;
	}
	free(bytes);
	return rc;
}

/* A row, each value as engine/fill.c makes it. */
static void expand_row(const struct writer *w, const struct plan_item *item,
	const uint8_t *row, const float *scales, uint16_t *out)
{
	for (uint32_t c = 0; c < item->cols; c++)
		out[c] = f32_to_bf16(f8_e4m3_to_f32(row[c]) *
				     scales[c / w->e->config->fp8_block_cols]);
}

static int read_scales(const struct writer *w, const struct plan_item *item,
	float *out, struct error *err)
{
	const struct model_file *file = &w->e->files->weights[item->scale_file];
	size_t count = item->scale_size_bytes / sizeof(*out);
	int rc = model_file_read(file, item->scale_offset_bytes,
		item->scale_size_bytes, out, err);

	for (size_t i = 0; rc == 0 && i < count; i++)
		if (!isfinite(out[i]))
			rc = error_set(err, EINVAL,
				"%s: \"%s\": block scale %zu is not a number",
				file->name, item->name, i);
	return rc;
}

static int expand_rows(const struct writer *w, const struct plan_item *item,
	const float *scales, uint8_t *bytes, struct error *err)
{
	const struct model_config *config = w->e->config;
	size_t scale_cols = div_up(item->cols, config->fp8_block_cols);
	size_t row_bytes = item->cols * sizeof(uint16_t);
	uint16_t *out = malloc(row_bytes);
	int rc = out ? 0 : no_memory(file_name(w), err);

	_Static_assert(FP8_EXPANDED_TYPE == DTYPE_BF16, "expanded to 16 bits");
	for (uint32_t r = 0; rc == 0 && r < item->rows; r++) {
		expand_row(w, item, bytes + (size_t)r * item->cols,
			scales + r / config->fp8_block_rows * scale_cols, out);
		rc = out_dir_write(w->fd, file_name(w), out, row_bytes,
			w->at + r * row_bytes, err);
	}
	free(out);
	return rc;
}

static int expand_tensor(
	const struct writer *w, const struct plan_item *item, struct error *err)
{
	uint8_t *bytes = malloc(item->size_bytes);
	float *scales = malloc(item->scale_size_bytes);
	int rc = bytes && scales ? 0 : no_memory(file_name(w), err);

	assert(item->size_bytes == (uint64_t)item->rows * item->cols);
	if (rc == 0)
		rc = read_scales(w, item, scales, err);
	if (rc == 0)
		rc = model_file_read(&w->e->files->weights[w->file],
			item->offset_bytes, item->size_bytes, bytes, err);
	if (rc == 0)
		rc = expand_rows(w, item, scales, bytes, err);
	free(scales);
	free(bytes);
	return rc;
}

/* ---- a file ---- */

static json_t *describe(
	const struct writer *w, const struct safetensors_tensor *tensor)
{
	const char *type = blocks_of(w, tensor) ? "BF16" : tensor->type_name;
	json_t *shape = json_array();
	json_int_t begin = (json_int_t)w->at;
	json_int_t length = (json_int_t)new_bytes(w, tensor);

	for (uint32_t i = 0; i < tensor->rank; i++)
		json_array_append_new(
			shape, json_integer((json_int_t)tensor->shape[i]));
	return json_pack("{s:s, s:o, s:[I, I]}", "dtype", type, "shape", shape,
		"data_offsets", begin, begin + length);
}

/* Its tensors by offset, counted from the beginning of the data. */
static json_t *describe_all(struct writer *w)
{
	json_t *root = json_pack("{s:{s:s}}", "__metadata__", "format", "pt");
	bool good = root != NULL;

	w->at = 0;
	for (uint32_t i = 0; good && i < w->header.count; i++) {
		const struct safetensors_tensor *tensor = &w->header.tensors[i];

		if (!is_kept(w, tensor))
			continue;
		good = json_object_set_new(
			       root, tensor->name, describe(w, tensor)) == 0 &&
		       json_object_set_new(w->map, tensor->name,
			       json_string(file_name(w))) == 0;
		w->at += new_bytes(w, tensor);
	}
	*w->total_bytes += w->at;
	if (good)
		return root;
	json_decref(root);
	return NULL;
}

/* The value's text, padded so that what follows is aligned; NULL: no memory. */
static char *print(const json_t *root, size_t flags, size_t *out_size)
{
	size_t size = root ? json_dumpb(root, NULL, 0, flags) : 0;
	size_t padded = div_up(size, HEADER_ALIGN_BYTES) * HEADER_ALIGN_BYTES;
	char *text = size ? malloc(padded) : NULL;

	if (!text)
		return NULL;
	memset(text, ' ', padded);
	/* It drops what its own buffers have no memory for. */
	if (json_dumpb(root, text, padded, flags) != size) {
		free(text);
		return NULL;
	}
	*out_size = padded;
	return text;
}

static int write_header(struct writer *w, struct error *err)
{
	json_t *root = describe_all(w);
	size_t size = 0;
	char *text = print(root, JSON_COMPACT, &size);
	uint64_t length = size;
	int rc = text ? 0 : no_memory(file_name(w), err);

	json_decref(root);
	if (rc == 0)
		rc = out_dir_write(
			w->fd, file_name(w), &length, sizeof(length), 0, err);
	if (rc == 0)
		rc = out_dir_write(
			w->fd, file_name(w), text, size, sizeof(length), err);
	free(text);
	w->at = sizeof(length) + size;
	return rc;
}

static int write_tensors(struct writer *w, struct error *err)
{
	int rc = 0;

	for (uint32_t i = 0; rc == 0 && i < w->header.count; i++) {
		const struct safetensors_tensor *tensor = &w->header.tensors[i];
		const struct plan_item *blocks = blocks_of(w, tensor);

		if (!is_kept(w, tensor))
			continue;
		rc = blocks ? expand_tensor(w, blocks, err)
			    : copy_tensor(w, tensor, err);
		w->at += new_bytes(w, tensor);
	}
	return rc;
}

static int expand_file(struct writer *w, struct error *err)
{
	const struct model_file *file = &w->e->files->weights[w->file];
	int rc = safetensors_read(file->fd, file->name, &w->header, err);

	if (rc)
		return rc;
	rc = out_dir_create(w->e->out, file->name, &w->fd, err);
	if (rc == 0) {
		rc = write_header(w, err);
		if (rc == 0)
			rc = write_tensors(w, err);
		close(w->fd);
	}
	safetensors_release(&w->header);
	return rc;
}

/* ---- the others ---- */

static int write_json(const struct expand *e, const char *name,
	const json_t *root, struct error *err)
{
	size_t size = 0;
	char *text = print(root, JSON_INDENT(2), &size);
	int fd = -1;
	int rc = text ? 0 : no_memory(name, err);

	if (rc == 0)
		rc = out_dir_create(e->out, name, &fd, err);
	if (rc == 0) {
		rc = out_dir_write(fd, name, text, size, 0, err);
		close(fd);
	}
	free(text);
	return rc;
}

static int write_config(const struct expand *e, struct error *err)
{
	json_t *root = NULL;
	size_t length;
	char *text;
	int rc = model_file_text(&e->files->config, &text, &length, err);

	if (rc)
		return rc;
	rc = json_text_parse(text, length, &bounds, &root, err);
	free(text);
	if (rc)
		return error_prefix(err, "%s", CONFIG_FILE);
	json_object_del(root, "quantization_config");
	rc = write_json(e, CONFIG_FILE, root, err);
	json_decref(root);
	return rc;
}

static int write_index(const struct expand *e, json_t *map,
	uint64_t total_bytes, struct error *err)
{
	json_t *root;
	int rc;

	if (e->files->index.fd < 0)
		return 0;
	root = json_pack("{s:{s:I}, s:O}", "metadata", "total_size",
		(json_int_t)total_bytes, "weight_map", map);
	rc = write_json(e, INDEX_FILE, root, err);
	json_decref(root);
	return rc;
}

int expand_checkpoint(const struct expand *e, struct error *err)
{
	json_t *map = json_object();
	uint64_t total_bytes = 0;
	int rc = map ? 0 : no_memory(INDEX_FILE, err);

	for (uint32_t i = 0; rc == 0 && i < e->files->weight_count; i++) {
		struct writer w = {.e = e,
			.file = i,
			.fd = -1,
			.map = map,
			.total_bytes = &total_bytes};

		if (!model_plan_ignores(e->plan, e->files->weights[i].name))
			rc = expand_file(&w, err);
	}
	if (rc == 0)
		rc = write_config(e, err);
	if (rc == 0)
		rc = write_index(e, map, total_bytes, err);
	json_decref(map);
	return rc;
}
