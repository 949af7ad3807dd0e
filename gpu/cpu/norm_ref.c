/* norm_ref.c - rms_norm, rope and the element-wise operations in plain C */
/* SPDX-License-Identifier: Apache-2.0 */
#include <assert.h>
#include <math.h>

#include "gpu/cpu/backend_ref.h"
#include "gpu/cpu/dot_ref.h"

/* Limit to [-clip, clip]; NaN stays NaN. */
static void clip_row(float *out, uint32_t width, float clip)
{
	for (uint32_t i = 0; i < width; i++) {
		if (out[i] > clip)
			out[i] = clip;
		if (out[i] < -clip)
			out[i] = -clip;
	}
}

static void rms_norm_rows(
	const void *arg, size_t first, size_t end, uint32_t worker)
{
	const struct rms_norm_args *args = arg;

	(void)worker;
	for (size_t r = first; r < end; r++) {
		const float *x = args->x + r * args->x_stride;
		float *out = args->out + r * args->out_stride;
		float mean =
			sum_squares_ref(x, args->width) / (float)args->width;
		float root = sqrtf(mean + args->epsilon);

		for (uint32_t i = 0; i < args->width; i++)
			out[i] = x[i] / root * args->weight[i];
		if (args->clip > 0)
			clip_row(out, args->width, args->clip);
	}
}

int ref_rms_norm(struct ops *ops, const struct rms_norm_args *args)
{
	struct ref_backend *ref = ref_of(ops);

	assert(args->width > 0);
	assert(args->out != args->x || args->out_stride == args->x_stride);
	workers_run(ref->workers, args->row_count, rms_norm_rows, args);
	return 0;
}

/* Turn pair i of every head of a row by the angle (cosine, sine). */
static void rope_pair(const struct rope_args *args, float *row, uint32_t i,
	float cosine, float sine)
{
	size_t at_a = args->interleaved ? 2 * (size_t)i : i;
	size_t at_b = args->interleaved ? at_a + 1 : at_a + args->rotary / 2;

	for (uint32_t h = 0; h < args->head_count; h++) {
		float *head = row + (size_t)h * args->head_stride;
		float a = head[at_a];
		float b = head[at_b];

		head[at_a] = a * cosine - b * sine;
		head[at_b] = b * cosine + a * sine;
	}
}

static void rope_rows(
	const void *arg, size_t first, size_t end, uint32_t worker)
{
	const struct rope_args *args = arg;

	(void)worker;
	for (size_t r = first; r < end; r++) {
		float position = (float)args->rows.position[r];

		for (uint32_t i = 0; i < args->rotary / 2; i++) {
			float angle = position * args->inv_freq[i];

			rope_pair(args, args->x + r * args->stride, i,
				cosf(angle) * args->scale,
				sinf(angle) * args->scale);
		}
	}
}

int ref_rope(struct ops *ops, const struct rope_args *args)
{
	struct ref_backend *ref = ref_of(ops);

	assert(args->rotary % 2 == 0);
	assert(args->head_count <= 1 || args->head_stride >= args->rotary);
	workers_run(ref->workers, args->rows.count, rope_rows, args);
	return 0;
}

static float sigmoid(float x)
{
	return 1 / (1 + expf(-x));
}

static void add_elements(
	const void *arg, size_t first, size_t end, uint32_t worker)
{
	const struct add_args *args = arg;

	(void)worker;
	for (size_t i = first; i < end; i++)
		args->x[i] += args->scale * args->y[i];
}

int ref_add(struct ops *ops, const struct add_args *args)
{
	struct ref_backend *ref = ref_of(ops);

	workers_run(ref->workers, (size_t)args->row_count * args->width,
		add_elements, args);
	return 0;
}

static void sigmoid_gate_rows(
	const void *arg, size_t first, size_t end, uint32_t worker)
{
	const struct sigmoid_gate_args *args = arg;

	(void)worker;
	for (size_t r = first; r < end; r++) {
		float open = sigmoid(args->gate[r]);
		float *x = args->x + r * args->width;

		for (uint32_t i = 0; i < args->width; i++)
			x[i] *= open;
	}
}

int ref_sigmoid_gate(struct ops *ops, const struct sigmoid_gate_args *args)
{
	struct ref_backend *ref = ref_of(ops);

	workers_run(ref->workers, args->row_count, sigmoid_gate_rows, args);
	return 0;
}

static int run_link(struct ops *ops, const struct row_op *link)
{
	switch (link->kind) {
	case ROW_RMS_NORM:
		return ref_rms_norm(ops, &link->args.rms_norm);
	case ROW_ROPE:
		return ref_rope(ops, &link->args.rope);
	case ROW_KV_WRITE:
		return ref_kv_write(ops, &link->args.kv_write);
	case ROW_COMBINE:
		return ref_combine(ops, &link->args.combine);
	case ROW_ADD:
		return ref_add(ops, &link->args.add);
	case ROW_SIGMOID_GATE:
		return ref_sigmoid_gate(ops, &link->args.sigmoid_gate);
	default:
		assert(false);
		return 0;
	}
}

int ref_chain(struct ops *ops, const struct chain_args *args)
{
	int rc = 0;

	assert(args->count >= 1 && args->count <= OPS_CHAIN_COUNT_MAX);
	for (uint32_t i = 0; rc == 0 && i < args->count; i++)
		rc = run_link(ops, &args->list[i]);
	return rc;
}
