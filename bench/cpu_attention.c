/* cpu_attention.c - attention over a long context by itself (-> rates) */
/* SPDX-License-Identifier: Apache-2.0 */
#include <assert.h>
#include <errno.h>
#include <math.h>
#include <stdlib.h>

#include "base/clock.h"
#include "bench/cpu_attention.h"
#include "bench/median.h"

#define SEQUENCES 8
#define BLOCK_TOKENS 64
#define ROWS 256 /* of the stretch of prompt */
#define RUNS 9

struct cache {
	uint16_t *data; /* [sequence][token][K | V], bf16 */
	uint32_t *table; /* [sequence][block] */
	float *q, *out; /* [ROWS][heads][head_dim] */
	uint32_t *position, *sequence, *zero; /* [ROWS] */
	uint32_t context; /* tokens of a sequence */
};

static size_t token_values(const struct cpu_model *m)
{
	return (size_t)2 * m->kv_heads * m->head_dim;
}

static bool make_cache(
	struct cache *c, const struct cpu_model *m, uint32_t context)
{
	size_t values = token_values(m) * SEQUENCES * context;
	size_t width = (size_t)ROWS * m->heads * m->head_dim;
	uint32_t blocks = SEQUENCES * context / BLOCK_TOKENS;

	c->context = context;
	c->data = calloc(values, sizeof(*c->data));
	c->table = calloc(blocks, sizeof(*c->table));
	c->q = calloc(width, sizeof(*c->q));
	c->out = calloc(width, sizeof(*c->out));
	c->position = calloc(ROWS, sizeof(uint32_t));
	c->sequence = calloc(ROWS, sizeof(uint32_t));
	c->zero = calloc(ROWS, sizeof(uint32_t));
	if (!c->data || !c->table || !c->q || !c->out || !c->position ||
		!c->sequence || !c->zero)
		return false;
	/* Numbers between -1 and 1, sign and fraction from a counter. */
	for (size_t i = 0; i < values; i++)
		c->data[i] =
			(uint16_t)(0x3f00 | ((i * 2654435761u >> 13) & 0x807f));
	for (size_t i = 0; i < width; i++)
		c->q[i] = sinf((float)i);
	for (uint32_t i = 0; i < blocks; i++)
		c->table[i] = i;
	return true;
}

static void free_cache(struct cache *c)
{
	free(c->data);
	free(c->table);
	free(c->q);
	free(c->out);
	free(c->position);
	free(c->sequence);
	free(c->zero);
}

/* The last `rows` positions of `sequence`; seconds in *out. */
static int attend(struct ops *ops, struct cache *c, const struct cpu_model *m,
	uint32_t rows, uint32_t sequence, double *out)
{
	size_t stride = token_values(m) * sizeof(*c->data);
	struct attention_args args = {
		.rows = {.count = rows,
			.token = c->zero,
			.position = c->position,
			.sequence = c->sequence,
			.instance = c->zero},
		.kv = {.window = c->data,
			.page_size_bytes = BLOCK_TOKENS * stride,
			.layer_stride_bytes = BLOCK_TOKENS * stride,
			.token_stride_bytes = stride,
			.value_offset_bytes = stride / 2,
			.block_tokens = BLOCK_TOKENS,
			.pages_per_block = 1,
			.layers_per_page = 1,
			.type = DTYPE_BF16,
			.block_table = c->table,
			.table_stride = c->context / BLOCK_TOKENS},
		.head_count = m->heads,
		.kv_head_count = m->kv_heads,
		.key_dim = m->head_dim,
		.value_dim = m->head_dim,
		.scale = 1 / sqrtf((float)m->head_dim),
		.q = c->q,
		.out = c->out,
	};
	struct mono begin;
	int rc;

	for (uint32_t r = 0; r < rows; r++) {
		c->position[r] = c->context - rows + r;
		c->sequence[r] = sequence;
	}
	begin = mono_now();
	rc = ops->table->attention(ops, &args);
	*out = (double)(mono_diff(mono_now(), begin) + 1) / 1e9;
	return rc;
}

static int measure(struct ops *ops, struct cache *c, const struct cpu_model *m,
	struct cpu_attention_rates *out)
{
	double bytes = (double)c->context * (double)token_values(m) * 2;
	/* Two multiply-adds for each element of each key that a row sees. */
	double flops = 4.0 * m->heads * m->head_dim * ROWS *
		       ((double)c->context - (ROWS - 1) / 2.0);
	double decode[RUNS], prefill[RUNS];
	int rc = 0;

	for (uint32_t i = 0; rc == 0 && i < RUNS; i++)
		rc = attend(ops, c, m, 1, i % SEQUENCES, &decode[i]);
	for (uint32_t i = 0; rc == 0 && i < RUNS; i++)
		rc = attend(ops, c, m, ROWS, i % SEQUENCES, &prefill[i]);
	if (rc)
		return rc;
	out->decode_bytes_per_second = bytes / median(decode, RUNS);
	out->prefill_flops_per_second = flops / median(prefill, RUNS);
	return 0;
}

int cpu_attention_measure(struct ops *ops, const struct cpu_model *model,
	uint32_t context, struct cpu_attention_rates *out, struct error *err)
{
	struct cache cache = {0};
	int rc;

	assert(context % BLOCK_TOKENS == 0 && context > ROWS);
	if (make_cache(&cache, model, context))
		rc = measure(ops, &cache, model, out);
	else
		rc = -ENOMEM;
	free_cache(&cache);
	if (rc)
		return error_set(
			err, -rc, "attention over %u tokens failed", context);
	return 0;
}
