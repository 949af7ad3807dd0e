/* load_check.c - is every loaded element where its layout says? (test) */
/* SPDX-License-Identifier: Apache-2.0 */
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "tests/load_check.h"
#include "tests/suite.h"

/* One matrix: as the file has it, and where it was loaded to. */
struct matrix {
	const uint8_t *raw; /* [rows][cols], in the loaded type */
	const uint8_t *loaded;
	size_t rows, cols, size;
	enum dtype type;
};

/* Element (n, k) of the panels of an [outputs][inputs] matrix. */
static size_t panel_place(
	size_t outputs, size_t inputs, bool paired, size_t n, size_t k)
{
	size_t panel = n / PANEL_ROWS, lane = n % PANEL_ROWS;
	size_t left = outputs - panel * PANEL_ROWS;
	size_t width = left < PANEL_ROWS ? left : PANEL_ROWS;
	size_t begin = panel * PANEL_ROWS * inputs;

	if (paired && !(k == inputs - 1 && inputs % 2 == 1))
		return begin + k / 2 * 2 * width + lane * 2 + k % 2;
	return begin + k * width + lane;
}

static size_t place(const struct matrix *m, enum weight_layout layout,
	const struct model_config *config, size_t n, size_t k)
{
	size_t nope = config->nope_dim, head_rows = nope + config->value_dim;
	bool paired = m->type == DTYPE_BF16;
	size_t head, row;

	if (layout == WEIGHT_ROWS)
		return n * m->cols + k;
	if (layout == WEIGHT_PANELS)
		return panel_place(m->rows, m->cols, paired, n, k);
	head = n / head_rows;
	row = n % head_rows;
	if (row < nope)
		return head * head_rows * m->cols +
		       panel_place(m->cols, nope, paired, k, row);
	return (head * head_rows + nope) * m->cols +
	       panel_place(config->value_dim, m->cols, paired, row - nope, k);
}

static void check_matrix(const struct matrix *m, enum weight_layout layout,
	const struct model_config *config, struct load_tally *tally)
{
	for (size_t n = 0; n < m->rows; n++)
		for (size_t k = 0; k < m->cols; k++)
			tally->wrong +=
				memcmp(m->raw + (n * m->cols + k) * m->size,
					m->loaded +
						place(m, layout, config, n, k) *
							m->size,
					m->size) != 0;
	tally->elements += m->rows * m->cols;
	tally->tensors++;
}

static void read_exactly(
	const struct model_file *file, void *out, size_t size, uint64_t offset)
{
	CU_ASSERT_EQUAL_FATAL(
		pread(file->fd, out, size, (off_t)offset), (ssize_t)size);
}

/* fp8 with its block scales, as bf16. */
static uint8_t *expand(const struct model_files *files,
	const struct model_config *config, const struct plan_item *item,
	const uint8_t *raw)
{
	uint32_t height = config->fp8_block_rows,
		 width = config->fp8_block_cols;
	size_t across = (item->cols + width - 1) / width;
	uint16_t *wide =
		suite_calloc((size_t)item->rows * item->cols, sizeof(*wide));
	float *scales = suite_calloc(1, item->scale_size_bytes);

	read_exactly(&files->weights[item->scale_file], scales,
		item->scale_size_bytes, item->scale_offset_bytes);
	for (size_t n = 0; n < item->rows; n++)
		for (size_t k = 0; k < item->cols; k++) {
			float scale = scales[n / height * across + k / width];
			size_t at = n * item->cols + k;

			wide[at] = f32_to_bf16(f8_e4m3_to_f32(raw[at]) * scale);
		}
	free(scales);
	return (uint8_t *)wide;
}

static const uint8_t *expert_matrix(const struct model *model,
	const struct plan_item *item, uint32_t expert, enum tensor_role role)
{
	const struct expert_shape *shape = expert_store_shape(model->experts);
	uint32_t layer = model->weights.layers[item->layer].moe_layer;
	vmm_addr at = expert_store_base_slot(model->experts, layer, expert);

	if (role == ROLE_EXPERT_UP)
		at += shape->up_offset_bytes;
	if (role == ROLE_EXPERT_DOWN)
		at += shape->down_offset_bytes;
	return (const uint8_t *)(uintptr_t)at;
}

/* All experts of the item, gate before up where they are one tensor. */
static void check_experts(const struct model *model,
	const struct plan_item *item, struct matrix m,
	enum weight_layout layout, struct load_tally *tally)
{
	bool both = item->role == ROLE_EXPERT_GATE_UP;

	if (both)
		m.rows /= 2;
	for (uint32_t e = 0; e < item->expert_count; e++)
		for (int part = 0; part < (both ? 2 : 1); part++) {
			enum tensor_role role = item->role;

			if (both)
				role = part ? ROLE_EXPERT_UP : ROLE_EXPERT_GATE;
			m.loaded = expert_matrix(
				model, item, item->expert + e, role);
			check_matrix(&m, layout, &model->config, tally);
			m.raw += m.rows * m.cols * m.size;
		}
}

static const struct weight *find_weight(
	const struct model *model, const struct plan_item *item)
{
	if (item->role == ROLE_EMBED)
		return &model->weights.embed;
	if (item->role == ROLE_HEAD)
		return &model->weights.head;
	return &model->weights.layers[item->layer].matrix[item->role];
}

static void check_item(const struct model_files *files,
	const struct model *model, const struct plan_item *item,
	enum weight_layout layout, struct load_tally *tally)
{
	uint8_t *raw = suite_calloc(1, item->size_bytes);
	struct matrix m = {
		.rows = item->rows,
		.cols = item->cols,
		.type = plan_item_loaded_type(item),
	};

	read_exactly(&files->weights[item->file], raw, item->size_bytes,
		item->offset_bytes);
	if (item->type == DTYPE_F8_E4M3) {
		uint8_t *wide = expand(files, &model->config, item, raw);

		free(raw);
		raw = wide;
	}
	m.raw = raw;
	m.size = dtype_size(m.type);
	if (tensor_role_is_expert(item->role)) {
		check_experts(model, item, m, layout, tally);
	} else {
		const struct weight *weight = find_weight(model, item);

		CU_ASSERT_EQUAL(weight->layout,
			layout == WEIGHT_PANELS && item->role == ROLE_KV_B
				? WEIGHT_MLA_PANELS
				: layout);
		m.loaded = weight->data;
		check_matrix(&m, weight->layout, &model->config, tally);
	}
	free(raw);
}

void load_check_model(const struct model_files *files,
	const struct model *model, enum weight_layout layout,
	struct load_tally *out)
{
	struct model_plan plan;
	struct error err = {0};

	*out = (struct load_tally){0};
	CU_ASSERT_EQUAL(
		expert_store_shape(model->experts)->format.layout, layout);
	CU_ASSERT_EQUAL_FATAL(
		model_plan_create(files, &model->config, &plan, &err), 0);
	for (uint32_t i = 0; i < plan.count; i++)
		if (!tensor_role_is_vector(plan.items[i].role))
			check_item(files, model, &plan.items[i], layout, out);
	model_plan_release(&plan);
}
