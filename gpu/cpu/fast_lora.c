/* fast_lora.c - low-rank updates, one row and one panel of outputs at a time */
/* SPDX-License-Identifier: Apache-2.0 */
#include "gpu/cpu/fast_lora.h"

void FAST(lora_down)(
	const struct lora_pair *pair, const float *x, size_t cols, float *low)
{
	const unsigned char *a = pair->a;
	size_t line = cols * dtype_size(pair->type);

	for (uint32_t j = 0; j < pair->rank; j++)
		low[j] = FAST(gemm_dot)(x, a + j * line, pair->type, cols);
}

static void turn(struct lora_panel *panel, const struct lora_pair *pair,
	size_t first, uint32_t width)
{
	const float *rows[PANEL_ROWS];
	size_t rank = pair->rank;

	for (uint32_t n = 0; n < PANEL_ROWS; n++) {
		/* Outputs that there are not repeat the first one. */
		size_t row = first + (n < width ? n : 0);
		float *wide = panel->wide + n * rank;

		for (size_t j = 0; j < rank; j += VEC_LANES) {
			size_t some =
				rank - j < VEC_LANES ? rank - j : VEC_LANES;

			vec_store_part(wide + j,
				gemm_load_part(pair->b, pair->type,
					row * rank + j, some),
				some);
		}
		rows[n] = wide;
	}
	FAST(gemm_pack)
	(GEMM_FLOATS, rows, PANEL_ROWS, pair->rank, panel->turned);
	panel->pair = pair;
	panel->first = first;
}

void FAST(lora_up)(struct lora_panel *panel, const struct lora_pair *pair,
	size_t first, uint32_t width, const float *low, float *value)
{
	struct vec sum = vec_set(0);

	if (panel->pair != pair || panel->first != first)
		turn(panel, pair, first, width);
	for (uint32_t j = 0; j < pair->rank; j++)
		sum = vec_fma(vec_set(low[j]),
			vec_load(panel->turned + (size_t)j * PANEL_ROWS), sum);
	vec_store(value, vec_fma(vec_set(pair->scale), sum, vec_load(value)));
}

void FAST(lora_across)(const struct lora_columns *w, const float *x,
	size_t count, float scale, float *out)
{
	for (size_t c = 0; c < w->cols; c += VEC_LANES) {
		size_t rest = w->cols - c;
		size_t some = rest < VEC_LANES ? rest : VEC_LANES;
		struct vec sum = vec_set(0);

		for (size_t n = 0; n < count; n++)
			sum = vec_fma(vec_set(x[n]),
				gemm_load_part(w->data, w->type,
					n * w->cols + c, some),
				sum);
		vec_store_part(out + c,
			vec_fma(vec_set(scale), sum,
				vec_load_part(out + c, some)),
			some);
	}
}
