/* checkpoint.c - a whole tiny model that tests make wrong (family -> files) */
/* SPDX-License-Identifier: Apache-2.0 */
#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/checkpoint.h"

static void deal_out(struct checkpoint *c, const struct st_builder *all)
{
	for (size_t i = 0; i < all->count; i++) {
		const struct st_tensor *tensor = &all->tensors[i];

		st_add(&c->files[i % CHECKPOINT_FILE_COUNT].tensors,
			tensor->name, tensor->type, tensor->rank,
			tensor->shape);
	}
}

void checkpoint_init(struct checkpoint *c, enum model_family family, bool fp8)
{
	const char *text =
		fp8 ? st_model_fp8_config_text() : st_model_config_text(family);
	struct st_builder all;

	*c = (struct checkpoint){.config_text = strdup(text)};
	assert(c->config_text);
	if (model_config_parse(
		    text, strlen(text), "config.json", &c->config, NULL))
		abort();
	for (int i = 0; i < CHECKPOINT_FILE_COUNT; i++) {
		snprintf(c->files[i].name, sizeof(c->files[i].name),
			"model-%05d-of-%05d.safetensors", i + 1,
			CHECKPOINT_FILE_COUNT);
		st_init(&c->files[i].tensors);
	}
	st_init(&all);
	st_model_add(&all, &c->config, ST_PUBLISHED, "BF16");
	if (fp8)
		st_model_add_mtp(&all, &c->config);
	deal_out(c, &all);
	st_release(&all);
	checkpoint_layout(c);
	checkpoint_write_index(c);
}

void checkpoint_release(struct checkpoint *c)
{
	for (int i = 0; i < CHECKPOINT_FILE_COUNT; i++) {
		st_release(&c->files[i].tensors);
		free(c->files[i].header);
	}
	free(c->index_text);
	free(c->config_text);
	*c = (struct checkpoint){0};
}

struct st_tensor *checkpoint_find(struct checkpoint *c, const char *name,
	struct checkpoint_file **out_file)
{
	for (int i = 0; i < CHECKPOINT_FILE_COUNT; i++) {
		struct st_tensor *tensor = st_find(&c->files[i].tensors, name);

		if (!tensor)
			continue;
		*out_file = &c->files[i];
		return tensor;
	}
	printf("\n    no tensor %s\n", name);
	abort();
}

void checkpoint_layout(struct checkpoint *c)
{
	for (int i = 0; i < CHECKPOINT_FILE_COUNT; i++)
		st_layout(&c->files[i].tensors);
}

void checkpoint_write_index(struct checkpoint *c)
{
	size_t size = 0;
	const char *separator = "";
	FILE *out;

	free(c->index_text);
	out = open_memstream(&c->index_text, &size);
	assert(out);
	fputs("{\"metadata\": {\"total_size\": 1},\n\"weight_map\": {\n", out);
	for (int f = 0; f < CHECKPOINT_FILE_COUNT; f++) {
		const struct st_builder *b = &c->files[f].tensors;

		for (size_t i = 0; i < b->count; i++) {
			fprintf(out, "%s\"%s\": \"%s\"", separator,
				b->tensors[i].name, c->files[f].name);
			separator = ",\n";
		}
	}
	fputs("\n}}\n", out);
	fclose(out);
}

void text_replace(char **text, const char *from, const char *to)
{
	char *at = strstr(*text, from), *out;
	size_t size = strlen(*text) + strlen(to) + 1;

	if (!at) {
		printf("\n    \"%s\" is not there to be replaced\n", from);
		abort();
	}
	out = malloc(size);
	assert(out);
	snprintf(out, size, "%.*s%s%s", (int)(at - *text), *text, to,
		at + strlen(from));
	free(*text);
	*text = out;
}

static int open_weights(const struct checkpoint_file *file)
{
	char *header =
		file->header ? strdup(file->header) : st_header(&file->tensors);
	size_t length = strlen(header);
	uint64_t field = file->length_field ? file->length_field : length;
	uint64_t data = st_data_bytes(&file->tensors);
	int fd = st_memfd_raw(&file->tensors, header, length, field,
		(uint64_t)((int64_t)data + file->more_bytes));

	free(header);
	return fd;
}

static void set_file(struct model_file *out, const char *name, int fd)
{
	snprintf(out->name, sizeof(out->name), "%s", name);
	out->fd = fd;
	out->size_bytes = st_fd_size(fd);
}

void checkpoint_open(const struct checkpoint *c, struct model_files *out)
{
	model_files_init(out);
	set_file(&out->config, "config.json",
		st_memfd_bytes(c->config_text, strlen(c->config_text)));
	if (c->index_text)
		set_file(&out->index, "model.safetensors.index.json",
			st_memfd_bytes(c->index_text, strlen(c->index_text)));
	out->weights = calloc(CHECKPOINT_FILE_COUNT, sizeof(*out->weights));
	assert(out->weights);
	for (int i = 0; i < CHECKPOINT_FILE_COUNT; i++) {
		const struct checkpoint_file *from = &c->files[i];
		struct model_file *file = &out->weights[out->weight_count];

		if (from->absent)
			continue;
		set_file(file, from->name, open_weights(from));
		file->size_bytes -= (uint64_t)from->size_change;
		out->weight_count++;
	}
}

int checkpoint_plan(
	const struct checkpoint *c, struct model_plan *out, struct error *err)
{
	struct model_config config;
	struct model_files files;
	size_t length;
	char *text;
	int rc;

	checkpoint_open(c, &files);
	rc = model_file_text(&files.config, &text, &length, err);
	if (rc == 0) {
		rc = model_config_parse(
			text, length, files.config.name, &config, err);
		free(text);
	}
	if (rc == 0)
		rc = model_plan_create(&files, &config, out, err);
	model_files_close(&files);
	return rc;
}
