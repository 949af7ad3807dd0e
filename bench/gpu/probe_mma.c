/* probe_mma.c - rate of the matrix instructions (section mma) */
/* SPDX-License-Identifier: Apache-2.0 */
#include "probe_section.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>

enum { MMA_SEED = 77, MMA_DATA_WORDS = 6, MMA_WARPS = PROBE_THREADS / 32 };

struct mma {
	CUdeviceptr data;
	CUdeviceptr out;
	const char *kernel;
	struct probe_grid grid;
	uint32_t turns;
};

static int op_mma(struct probe *p, void *context)
{
	struct mma *m = context;
	void *args[] = {&m->data, &m->turns, &m->out};

	return probe_launch(p, m->kernel, m->grid, args);
}

/* Two random bf16 of magnitude 2^-8 to 1: sums stay finite, bits toggle. */
static uint32_t random_pair(uint64_t index)
{
	uint32_t word = probe_pattern(MMA_SEED, index);

	/* sign and mantissa are random, the exponent is 119 to 126 */
	return (word & 0x807f807fu) | ((119u + (word >> 7 & 7u)) << 7) |
	       ((119u + (word >> 23 & 7u)) << 23);
}

/* Operations per clock and multiprocessor in dense bf16, by generation: the
 * datasheets' peaks over their clock and count (A100: 2048, H100: 4096). */
static double peak_tflops(const struct probe *p)
{
	int clock_khz = 0;

	if (probe_attribute(p, CU_DEVICE_ATTRIBUTE_CLOCK_RATE, &clock_khz) != 0)
		return NAN;
	if (p->major != 8 && p->major != 9)
		return NAN;
	return (p->major == 9 ? 4096.0 : 2048.0) * clock_khz * 1e3 *
	       p->sm_count / 1e12;
}

/* A rate of a kernel that did not run is none: its sums must be numbers, and
 * not all zero. */
static int check_out(struct probe *p, const struct mma *m)
{
	size_t count = (size_t)m->grid.blocks * m->grid.threads;
	float *out = calloc(count, sizeof(*out));
	size_t zero = 0;
	size_t odd = 0;

	if (out == NULL)
		return probe_stop(p, -ENOMEM, "no memory for %zu sums", count);
	if (probe_download(p, out, m->out, count * sizeof(*out)) != 0) {
		free(out);
		return -EIO;
	}
	for (size_t i = 0; i < count; i++) {
		zero += fpclassify(out[i]) == FP_ZERO ? 1 : 0;
		odd += isfinite(out[i]) ? 0 : 1;
	}
	if (zero > count / 100 || odd != 0)
		probe_wrong(p, "%s: %zu sums are zero, %zu are no numbers",
			m->kernel, zero, odd);
	free(out);
	return 0;
}

static int measure_mma(struct probe *p, struct mma *m)
{
	unsigned sms = (unsigned)p->sm_count;
	struct probe_rate rate = {.limit = peak_tflops(p), .runs = 20};
	int error;

	m->kernel = "k_mma_rate";
	m->grid = (struct probe_grid){sms * 2, PROBE_THREADS};
	m->turns = p->quick ? 512 : 8192;
	rate.name = "mma.sync";
	rate.note = "random data; limit is dense bf16 at the rated clock";
	rate.amount = (double)m->grid.blocks * MMA_WARPS * m->turns *
		      PROBE_MMA_CHAINS * PROBE_MMA_FLOP / 1e12;
	error = probe_rate(p, &rate, op_mma, m, NULL);
	if (error == 0)
		error = check_out(p, m);
	if (error != 0)
		return error;
	if (p->major != 9)
		return 0;
	m->grid = (struct probe_grid){sms, 256};
	m->turns = p->quick ? 256 : 2048;
	rate.amount = (double)m->grid.blocks * 2 * m->turns *
		      PROBE_WGMMA_PER_TURN * PROBE_WGMMA_FLOP / 1e12;
	m->kernel = "k_wgmma_rate";
	rate.name = "mma.wgmma";
	error = probe_rate(p, &rate, op_mma, m, NULL);
	if (error == 0)
		error = check_out(p, m);
	m->kernel = "k_wgmma_rate_swizzled";
	rate.name = "mma.wgmma_swizzled";
	if (error == 0)
		error = probe_rate(p, &rate, op_mma, m, NULL);
	if (error == 0)
		error = check_out(p, m);
	return error;
}

int probe_section_mma(struct probe *p)
{
	size_t threads = (size_t)p->sm_count * 2 * PROBE_THREADS;
	size_t words = threads * MMA_DATA_WORDS;
	uint32_t *data;
	struct mma m = {.turns = 0};
	int error = -EIO;

	/* k_wgmma_rate reads 48 KiB. */
	if (words < 12288)
		words = 12288;
	data = calloc(words, sizeof(*data));
	if (data == NULL)
		return probe_stop(p, -ENOMEM, "no memory for %zu words", words);
	for (size_t i = 0; i < words; i++)
		data[i] = random_pair(i);
	if (probe_cu(p, p->cu.memory_alloc(&m.data, words * 4), "cuMemAlloc") ==
			0 &&
		probe_cu(p, p->cu.memory_alloc(&m.out, threads * 4),
			"cuMemAlloc") == 0 &&
		probe_upload(p, m.data, data, words * 4) == 0)
		error = measure_mma(p, &m);
	if (m.out != 0)
		(void)p->cu.memory_free(m.out);
	if (m.data != 0)
		(void)p->cu.memory_free(m.data);
	free(data);
	return error;
}
