/* eval_diff_write.c - the adapter that a difference is (experts -> directory) */
/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "control/eval_diff.h"
#include "control/out_dir.h"
#include "engine/names.h"

#define WEIGHTS_FILE "model.safetensors"
#define HEADER_ALIGN_BYTES 8 /* of the data in the file */

static const enum tensor_role part_roles[ADAPTER_PART_COUNT] = {
	[ADAPTER_GATE] = ROLE_EXPERT_GATE,
	[ADAPTER_UP] = ROLE_EXPERT_UP,
	[ADAPTER_DOWN] = ROLE_EXPERT_DOWN,
};

/* As safetensors writes them. */
static const char *type_name(enum dtype type)
{
	return type == DTYPE_F32 ? "F32" : type == DTYPE_F16 ? "F16" : "BF16";
}

struct writer {
	struct diff *d;
	struct out_dir out;
	int fd; /* of the weights */
	uint64_t at; /* where the next tensor goes */
};

/* Call for each changed expert, by layer and number. */
static int each_changed(struct writer *w,
	int (*take)(struct writer *w, FILE *text, uint32_t moe_layer,
		uint32_t expert, struct error *err),
	FILE *text, struct error *err)
{
	const struct model_config *config = &w->d->model.config;
	uint32_t experts = config->router.expert_count;
	int rc = 0;

	for (uint32_t l = 0; rc == 0 && l < config->moe_layer_count; l++)
		for (uint32_t e = 0; rc == 0 && e < experts; e++)
			if (w->d->changed[(size_t)l * experts + e])
				rc = take(w, text, l, e, err);
	return rc;
}

static const struct expert_source *parts_of(
	const struct writer *w, uint32_t moe_layer, uint32_t expert)
{
	const struct expert_sources *sources = &w->d->model.sources;

	return sources
		->parts[(size_t)moe_layer * sources->expert_count + expert];
}

/* ---- expert_cfg.json ---- */

static void print_list(const struct diff *d, uint32_t moe_layer, FILE *text)
{
	uint32_t experts = d->model.config.router.expert_count;
	const char *separator = "";

	for (uint32_t e = 0; e < experts; e++) {
		if (!d->changed[(size_t)moe_layer * experts + e])
			continue;
		fprintf(text, "%s%u", separator, e);
		separator = ", ";
	}
}

static void print_config(const struct diff *d, FILE *text)
{
	const struct model_config *config = &d->model.config;

	fputs("{\"experts\": {", text);
	for (uint32_t l = 0; l < config->moe_layer_count; l++) {
		fprintf(text, "%s\"%u\": [", l > 0 ? ", " : "",
			model_layer(config, l));
		print_list(d, l, text);
		fputs("]", text);
	}
	fputs("}, \"shared_experts\": false, \"non_expert_modules\": false}\n",
		text);
}

/* ---- model.safetensors ---- */

static int print_expert(struct writer *w, FILE *text, uint32_t moe_layer,
	uint32_t expert, struct error *err)
{
	const struct model_config *config = &w->d->model.config;
	const struct expert_source *parts = parts_of(w, moe_layer, expert);

	(void)err; /* a failed print shows when the stream is closed */
	for (int p = 0; p < ADAPTER_PART_COUNT; p++) {
		bool down = p == ADAPTER_DOWN;
		uint32_t inter = config->expert_inter, hidden = config->hidden;
		uint64_t end = w->at + parts[p].size_bytes;
		char name[SAFETENSORS_NAME_BYTES_MAX];

		name_format_adapter(config, part_roles[p],
			model_layer(config, moe_layer), expert, name,
			sizeof(name));
		fprintf(text,
			",\"%s\":{\"dtype\":\"%s\",\"shape\":[%u,%u],"
			"\"data_offsets\":[%llu,%llu]}",
			name, type_name(parts[p].item->type),
			down ? hidden : inter, down ? inter : hidden,
			(unsigned long long)w->at, (unsigned long long)end);
		w->at = end;
	}
	return 0;
}

/* The header's text, padded so that the data begins at a multiple of 8. */
static int print_header(
	struct writer *w, char **out, size_t *out_size, struct error *err)
{
	FILE *text = open_memstream(out, out_size);
	long length;

	if (!text)
		return error_set(err, ENOMEM, "no memory for a header");
	w->at = 0;
	fputs("{\"__metadata__\":{\"format\":\"pt\"}", text);
	each_changed(w, print_expert, text, err);
	fputs("}", text);
	length = ftell(text);
	while (length++ % HEADER_ALIGN_BYTES)
		fputc(' ', text);
	if (fclose(text) == 0)
		return 0;
	free(*out);
	*out = NULL;
	return error_set(err, ENOMEM, "no memory for a header");
}

static int copy_expert(struct writer *w, FILE *text, uint32_t moe_layer,
	uint32_t expert, struct error *err)
{
	const struct expert_source *parts = parts_of(w, moe_layer, expert);

	(void)text;
	for (int p = 0; p < ADAPTER_PART_COUNT; p++) {
		const struct model_file *file =
			&w->d->model.files.weights[parts[p].item->file];
		void *bytes = malloc(parts[p].size_bytes);
		int rc;

		if (!bytes)
			return error_set(err, ENOMEM,
				"no memory for an expert of %llu bytes",
				(unsigned long long)parts[p].size_bytes);
		rc = model_file_read(file, parts[p].offset_bytes,
			parts[p].size_bytes, bytes, err);
		if (rc == 0)
			rc = out_dir_write(w->fd, WEIGHTS_FILE, bytes,
				parts[p].size_bytes, w->at, err);
		free(bytes);
		if (rc)
			return rc;
		w->at += parts[p].size_bytes;
	}
	return 0;
}

static int write_weights(struct writer *w, struct error *err)
{
	char *header = NULL;
	size_t size = 0;
	uint64_t length;
	int rc = print_header(w, &header, &size, err);

	if (rc)
		return rc;
	length = size;
	rc = out_dir_create(&w->out, WEIGHTS_FILE, &w->fd, err);
	if (rc == 0)
		rc = out_dir_write(
			w->fd, WEIGHTS_FILE, &length, sizeof(length), 0, err);
	if (rc == 0)
		rc = out_dir_write(
			w->fd, WEIGHTS_FILE, header, size, sizeof(length), err);
	free(header);
	w->at = sizeof(length) + size;
	return rc ? rc : each_changed(w, copy_expert, NULL, err);
}

static int write_text(struct writer *w, const char *name, const char *text,
	size_t length, struct error *err)
{
	int fd, rc = out_dir_create(&w->out, name, &fd, err);

	if (rc)
		return rc;
	rc = out_dir_write(fd, name, text, length, 0, err);
	close(fd);
	return rc;
}

static int write_configs(struct writer *w, struct error *err)
{
	char *own = NULL, *model = NULL;
	size_t own_size = 0, model_size;
	FILE *text = open_memstream(&own, &own_size);
	int rc;

	if (!text)
		return error_set(err, ENOMEM, "no memory for expert_cfg.json");
	print_config(w->d, text);
	if (fclose(text)) {
		free(own);
		return error_set(err, ENOMEM, "no memory for expert_cfg.json");
	}
	rc = write_text(w, "expert_cfg.json", own, own_size, err);
	free(own);
	if (rc == 0)
		rc = model_file_text(
			&w->d->model.files.config, &model, &model_size, err);
	if (rc == 0)
		rc = write_text(w, "config.json", model, model_size, err);
	free(model);
	return rc;
}

int diff_write_adapter(struct diff *d, struct error *err)
{
	struct writer w = {.d = d, .fd = -1};
	int rc = out_dir_begin(d->options->out, &w.out, err);

	if (rc)
		return rc;
	rc = write_configs(&w, err);
	if (rc == 0)
		rc = write_weights(&w, err);
	if (w.fd >= 0)
		close(w.fd);
	if (rc == 0)
		return out_dir_commit(&w.out, err);
	out_dir_abort(&w.out);
	return rc;
}
