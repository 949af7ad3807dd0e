/* eval_merge.c - base + adapter -> a checkpoint of its own (directories) */
/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The merged checkpoint has the base's files, tensor for tensor; only the
 * bytes of the tuned experts differ, converted to the base's type as the
 * loader converts them. So woven and merged compute the same bits.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "control/eval.h"
#include "control/eval_expand.h"
#include "control/model_dir.h"
#include "control/out_dir.h"
#include "engine/adapter_plan.h"
#include "engine/expert_source.h"
#include "engine/names.h"

struct merge {
	const struct eval_options *options;
	struct model_config config;
	struct model_files base;
	struct adapter_files adapter;
	struct model_plan plan;
	struct adapter_plan adapter_plan;
	struct expert_sources sources;
	struct out_dir out;
	bool expands; /* the base's fp8 blocks become bf16 */
	int *weights; /* [base.weight_count] descriptors of the new files */
	uint8_t *from,
		*to; /* one matrix, as the adapter and the base have it */
};

static int merge_matrix(struct merge *m, const struct adapter_tensor *tensor,
	const struct expert_source *source, struct error *err)
{
	const struct model_file *file = &m->adapter.model.weights[tensor->file];
	const struct plan_item *item = source->item;
	size_t count = tensor->size_bytes / dtype_size(tensor->type);
	const uint8_t *bytes = m->from;
	int rc = model_file_read(
		file, tensor->offset_bytes, tensor->size_bytes, m->from, err);

	if (rc)
		return rc;
	if (item->type != tensor->type) {
		bytes = m->to;
		if (dtype_convert(m->to, item->type, m->from, tensor->type,
			    count) < count)
			return error_set(err, ERANGE,
				"%s: a value of \"%s\" has no room in %s",
				file->name, item->name, dtype_name(item->type));
	}
	return out_dir_write(m->weights[item->file],
		m->base.weights[item->file].name, bytes, source->size_bytes,
		source->offset_bytes, err);
}

static int merge_experts(struct merge *m, struct error *err)
{
	const struct adapter_config *config = &m->adapter_plan.config;
	size_t count = (size_t)m->config.hidden * m->config.expert_inter;
	int rc = 0;

	m->from = malloc(count * dtype_size(DTYPE_F32));
	m->to = malloc(count * dtype_size(DTYPE_F32));
	if (!m->from || !m->to)
		return error_set(err, ENOMEM, "no memory for an expert");
	for (uint32_t l = 0; rc == 0 && l < config->layer_count; l++)
		for (uint32_t i = 0; rc == 0 && i < config->counts[l]; i++) {
			uint32_t at = config->first[l] + i;
			uint32_t expert = l * m->sources.expert_count +
					  config->lists[l][i];

			for (int p = 0; rc == 0 && p < ADAPTER_PART_COUNT; p++)
				rc = merge_matrix(m,
					&m->adapter_plan.tensors[at][p],
					&m->sources.parts[expert][p], err);
		}
	return rc;
}

static int make_weights(struct merge *m, struct error *err)
{
	m->weights = calloc(m->base.weight_count, sizeof(*m->weights));
	if (!m->weights)
		return error_set(err, ENOMEM, "no memory for %u files",
			m->base.weight_count);
	for (uint32_t i = 0; i < m->base.weight_count; i++)
		m->weights[i] = -1;
	return 0;
}

static int copy_weights(struct merge *m, struct error *err)
{
	int rc = make_weights(m, err);

	for (uint32_t i = 0; rc == 0 && i < m->base.weight_count; i++) {
		const struct model_file *file = &m->base.weights[i];

		if (model_plan_ignores(&m->plan, file->name))
			continue;
		rc = out_dir_create(&m->out, file->name, &m->weights[i], err);
		if (rc == 0)
			rc = out_dir_copy(m->weights[i], file->fd, file->name,
				file->size_bytes, err);
	}
	return rc;
}

/* The checkpoint that is the base from here on, and where its experts are. */
static int open_base(struct merge *m, const char *path, struct error *err)
{
	struct generation_config generation;
	int rc = model_dir_open(path, &m->base, err);

	if (rc)
		return rc;
	rc = model_read_config(&m->base, &m->config, &generation, err);
	if (rc == 0)
		rc = model_plan_create(&m->base, &m->config, &m->plan, err);
	if (rc)
		return error_prefix(err, "%s", path);
	return expert_sources_create(&m->plan, &m->config, &m->sources, err);
}

static void close_base(struct merge *m)
{
	expert_sources_release(&m->sources);
	model_plan_release(&m->plan);
	model_files_close(&m->base);
}

/*
 * Scaled blocks have no room for experts that were trained without them: the
 * base is expanded into the new directory, and is then read from there.
 */
static int expand_weights(struct merge *m, struct error *err)
{
	const struct expand expand = {&m->base, &m->config, &m->plan, &m->out};
	int rc = expand_checkpoint(&expand, err);

	if (rc)
		return rc;
	close_base(m);
	rc = open_base(m, m->out.temporary, err);
	if (rc == 0)
		rc = make_weights(m, err);
	for (uint32_t i = 0; rc == 0 && i < m->base.weight_count; i++) {
		const char *name = m->base.weights[i].name;

		m->weights[i] = openat(
			m->out.fd, name, O_RDWR | O_NOFOLLOW | O_CLOEXEC);
		if (m->weights[i] < 0)
			rc = error_set(
				err, errno, "%s: %s", name, strerror(errno));
	}
	return rc;
}

static int copy_other(
	void *arg, const struct model_file *file, struct error *err)
{
	struct merge *m = arg;
	int fd, rc;

	if (m->expands && expand_writes(file->name))
		return 0;
	rc = out_dir_create(&m->out, file->name, &fd, err);
	if (rc)
		return rc;
	rc = out_dir_copy(fd, file->fd, file->name, file->size_bytes, err);
	close(fd);
	return rc;
}

static int write_merged(struct merge *m, struct error *err)
{
	int rc = out_dir_begin(m->options->out, &m->out, err);

	if (rc)
		return rc;
	rc = m->expands ? expand_weights(m, err) : copy_weights(m, err);
	if (rc == 0)
		rc = merge_experts(m, err);
	if (rc == 0)
		rc = model_dir_each_other(m->options->base, copy_other, m, err);
	if (rc == 0)
		return out_dir_commit(&m->out, err);
	out_dir_abort(&m->out);
	return rc;
}

static int plan_merge(struct merge *m, struct error *err)
{
	int rc = open_base(m, m->options->base, err);

	m->expands = rc == 0 && expand_needed(&m->plan);
	if (rc == 0)
		rc = adapter_dir_open(
			m->options->adapters[0].directory, &m->adapter, err);
	if (rc)
		return rc;
	rc = adapter_plan_create(
		&m->adapter, &m->config, NULL, &m->adapter_plan, err);
	return rc ? error_prefix(err, "%s", m->options->adapters[0].directory)
		  : 0;
}

static void release(struct merge *m)
{
	for (uint32_t i = 0; m->weights && i < m->base.weight_count; i++)
		if (m->weights[i] >= 0)
			close(m->weights[i]);
	free(m->weights);
	free(m->to);
	free(m->from);
	adapter_plan_release(&m->adapter_plan);
	adapter_files_close(&m->adapter);
	close_base(m);
	free(m);
}

int eval_merge(const struct eval_options *options, struct error *err)
{
	struct merge *m;
	int rc;

	if (!options->base || options->adapter_count != 1 || !options->out)
		return error_set(err, EINVAL,
			"--base DIR, one --adapter DIR and --out DIR are "
			"needed");
	m = calloc(1, sizeof(*m));
	if (!m)
		return error_set(err, ENOMEM, "no memory to merge");
	m->options = options;
	m->out.fd = -1;
	model_files_init(&m->base);
	adapter_files_init(&m->adapter);
	rc = plan_merge(m, err);
	if (rc == 0)
		rc = write_merged(m, err);
	if (rc == 0)
		printf("%s: %s with %u experts of %s\n", options->out,
			options->base, m->adapter_plan.config.total,
			options->adapters[0].directory);
	release(m);
	return rc;
}
