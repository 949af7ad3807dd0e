/* gemm_amx_pack.c - rows taken apart for tile registers */
/* SPDX-License-Identifier: Apache-2.0 */
#include <string.h>

#include "gpu/cpu/gemm_amx_parts.h"

/* Columns k .. k + 31 of a row, zeros behind the last, to its three lines. */
KERNEL_FN void pack_line(
	const float *row, size_t k, size_t cols, unsigned char *to)
{
	const __m512i odd = _mm512_set_epi16(63, 61, 59, 57, 55, 53, 51, 49, 47,
		45, 43, 41, 39, 37, 35, 33, 31, 29, 27, 25, 23, 21, 19, 17, 15,
		13, 11, 9, 7, 5, 3, 1);
	size_t rest = cols - k;
	size_t left = rest < VEC_LANES ? rest : VEC_LANES;
	size_t right = rest < AMX_COLS ? rest - left : VEC_LANES;
	struct parts a = parts_of(vec_load_part(row + k, left).v);
	struct parts b = parts_of(vec_load_part(row + k + left, right).v);

#pragma GCC unroll 3
	for (size_t i = 0; i < AMX_PARTS; i++)
		_mm512_storeu_si512(to + i * LINE_BYTES,
			_mm512_permutex2var_epi16(a.part[i], odd, b.part[i]));
}

KERNEL_ATTRIBUTES void amx_pack(
	const float *const *rows, uint32_t count, uint32_t cols, void *out)
{
	unsigned char *to = out;

	for (size_t k = 0; k < cols; k += AMX_COLS)
		for (uint32_t r = 0; r < count; r++) {
			pack_line(rows[r], k, cols, to);
			to += (size_t)AMX_PARTS * LINE_BYTES;
		}
}

/* Where columns n .. of row `row` are, n a multiple of 16. */
static size_t line_at(uint32_t count, uint32_t row, size_t n)
{
	size_t line = (n / AMX_COLS * count + row) * AMX_PARTS;

	return line * LINE_BYTES + n % AMX_COLS * sizeof(uint16_t);
}

void amx_put(void *tile, uint32_t count, uint32_t row, size_t cols, size_t n,
	const float *value)
{
	unsigned char *to = (unsigned char *)tile + line_at(count, row, n);
	size_t width = cols - n < VEC_LANES ? cols - n : VEC_LANES;
	struct parts parts = parts_of(vec_load_part(value, width).v);
	bool alone = n % AMX_COLS == 0 && cols - n <= VEC_LANES;

	for (size_t i = 0; i < AMX_PARTS; i++, to += LINE_BYTES) {
		_mm256_storeu_si256((void *)to,
			_mm512_cvtepi32_epi16(
				_mm512_srli_epi32(parts.part[i], 16)));
		if (alone)
			memset(to + LINE_BYTES / 2, 0, LINE_BYTES / 2);
	}
}

void amx_row(
	const void *tile, uint32_t count, uint32_t row, size_t cols, float *out)
{
	for (size_t n = 0; n < cols; n += VEC_LANES) {
		const unsigned char *from =
			(const unsigned char *)tile + line_at(count, row, n);
		const void *upper = from, *middle = from + LINE_BYTES;
		const void *lower = from + 2 * (size_t)LINE_BYTES;

		vec_store_part(out + n,
			vec_add(vec_add(vec_load_bf16(lower),
					vec_load_bf16(middle)),
				vec_load_bf16(upper)),
			cols - n < VEC_LANES ? cols - n : VEC_LANES);
	}
}
