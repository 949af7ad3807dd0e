/* fake_cuda_kernels.c - the probe's kernels on the host, as far as results matter */
/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/fake/fake_cuda.h"
#include "bench/gpu/probe_kernels.h"

#include <errno.h>
#include <string.h>

static void *pointer(uint64_t at)
{
	return (void *)(uintptr_t)at;
}

static int run_fill(const struct fake_launch *l)
{
	uint32_t *dst = pointer(l->value[0].word);
	uint64_t words = l->value[1].word;

	if (!fake_accessible(l->value[0].word, words * 4))
		return -EFAULT;
	for (uint64_t i = 0; i < words; i++)
		dst[i] = probe_pattern(l->value[2].half, l->value[3].word + i);
	return 0;
}

static int run_check(const struct fake_launch *l)
{
	const uint32_t *src = pointer(l->value[0].word);
	uint64_t words = l->value[1].word;
	uint64_t *bad = pointer(l->value[4].word);

	if (!fake_accessible(l->value[0].word, words * 4) ||
		!fake_accessible(l->value[4].word, 8))
		return -EFAULT;
	for (uint64_t i = 0; i < words; i++)
		*bad += src[i] != probe_pattern(l->value[2].half,
					  l->value[3].word + i)
				? 1
				: 0;
	return 0;
}

static int run_sum(const struct fake_launch *l)
{
	const uint32_t *src = pointer(l->value[0].word);
	uint64_t words = l->value[1].word;
	uint64_t *sum = pointer(l->value[2].word);

	if (!fake_accessible(l->value[0].word, words * 4) ||
		!fake_accessible(l->value[2].word, 8))
		return -EFAULT;
	for (uint64_t i = 0; i < words; i++)
		*sum += probe_sum_term(src[i], i);
	return 0;
}

static int run_read(const struct fake_launch *l)
{
	if (!fake_accessible(
		    l->value[0].word, l->value[1].word * PROBE_STEP_BYTES) ||
		!fake_accessible(l->value[2].word, l->blocks * 4ull))
		return -EFAULT;
	return 0;
}

static int run_write(const struct fake_launch *l)
{
	uint64_t bytes = l->value[1].word * PROBE_STEP_BYTES;
	uint32_t *dst = pointer(l->value[0].word);
	uint32_t seed = l->value[2].half;

	if (!fake_accessible(l->value[0].word, bytes))
		return -EFAULT;
	for (uint64_t i = 0; i < bytes / 16; i++) {
		uint32_t low = (uint32_t)i;

		dst[4 * i] = low;
		dst[4 * i + 1] = low ^ seed;
		dst[4 * i + 2] = ~low;
		dst[4 * i + 3] = seed;
	}
	return 0;
}

static int run_copy(const struct fake_launch *l)
{
	uint64_t bytes = l->value[2].word * PROBE_STEP_BYTES;

	if (!fake_accessible(l->value[0].word, bytes) ||
		!fake_accessible(l->value[1].word, bytes))
		return -EFAULT;
	memcpy(pointer(l->value[0].word), pointer(l->value[1].word), bytes);
	return 0;
}

static int run_runs(const struct fake_launch *l)
{
	struct probe_runs_args a;
	const uint64_t *offset;

	memcpy(&a, l->value[0].bytes, sizeof(a));
	if (!fake_accessible(a.offset, a.run_count * 8ull) ||
		!fake_accessible(a.sink, l->blocks * 4ull))
		return -EFAULT;
	offset = pointer(a.offset);
	for (uint32_t i = 0; i < a.run_count; i++)
		if (offset[i] % 16 != 0 ||
			!fake_accessible(a.base + offset[i],
				(uint64_t)a.run_steps * PROBE_STEP_BYTES))
			return -EFAULT;
	return 0;
}

static int run_empty(const struct fake_launch *l)
{
	(void)l;
	return 0;
}

/* A log as of a kernel that made four steps in each of phases 1 to 8. */
static int run_stream(const struct fake_launch *l)
{
	struct probe_stream_args a;
	uint64_t *log;
	uint32_t *entries;
	volatile uint32_t *seen;

	memcpy(&a, l->value[0].bytes, sizeof(a));
	if (!fake_accessible(
		    a.source, a.step_count * PROBE_STREAM_STEP_BYTES) ||
		!fake_accessible(a.log, 8ull * l->blocks * a.log_max) ||
		!fake_accessible(a.entries, l->blocks * 4ull) ||
		!fake_accessible(a.phase, 4) ||
		!fake_accessible(a.sink, l->blocks * 4ull) ||
		!fake_accessible(a.host_phase, 8) || a.log_max < 33)
		return -EFAULT;
	log = pointer(a.log);
	entries = pointer(a.entries);
	seen = pointer(a.host_seen);
	for (unsigned block = 0; block < l->blocks; block++) {
		for (uint64_t i = 0; i < 33; i++)
			log[(uint64_t)block * a.log_max + i] =
				(i / 4 + 1) << PROBE_LOG_PHASE_SHIFT |
				(i * 50000);
		entries[block] = 33;
	}
	*seen = 33;
	return 0;
}

static int run_alias(const struct fake_launch *l)
{
	uint32_t *one = pointer(l->value[0].word);
	const volatile uint32_t *two = pointer(l->value[1].word);
	uint64_t words = l->value[2].word;
	uint32_t seed = l->value[3].half;
	uint64_t *seen = pointer(l->value[4].word);

	if (!fake_accessible(l->value[0].word, words * 4) ||
		!fake_accessible(l->value[1].word, words * 4) ||
		!fake_accessible(l->value[4].word, 16))
		return -EFAULT;
	for (uint64_t i = 0; i < words; i++) {
		seen[0] += two[i] == probe_pattern(seed, i) ? 1 : 0;
		one[i] = probe_pattern(seed + 1, i);
		seen[1] += two[i] == one[i] ? 1 : 0;
	}
	return 0;
}

static int run_rate(const struct fake_launch *l)
{
	float *out = pointer(l->value[2].word);
	uint64_t count = (uint64_t)l->blocks * l->threads;

	if (!fake_accessible(l->value[0].word, 49152) ||
		!fake_accessible(l->value[2].word, count * 4))
		return -EFAULT;
	for (uint64_t i = 0; i < count; i++)
		out[i] = 1;
	return 0;
}

static float bf16_value(uint16_t bits)
{
	uint32_t wide = (uint32_t)bits << 16;
	float value;

	memcpy(&value, &wide, sizeof(value));
	return value;
}

/* One order of adding whatever the tile: what the real ones should do too. */
static int run_rows(const struct fake_launch *l)
{
	struct probe_rows_args a;
	const uint16_t *w;
	const uint16_t *x;
	float *c;

	memcpy(&a, l->value[0].bytes, sizeof(a));
	if (!fake_accessible(a.w, 2ull * a.out * a.k) ||
		!fake_accessible(a.x, 2ull * a.tokens * a.k) ||
		!fake_accessible(a.c, 4ull * a.tokens * a.out))
		return -EFAULT;
	w = pointer(a.w);
	x = pointer(a.x);
	c = pointer(a.c);
	for (uint64_t t = 0; t < a.tokens; t++) {
		for (uint64_t o = 0; o < a.out; o++) {
			float sum = 0;

			for (uint64_t k = 0; k < a.k; k++)
				sum += bf16_value(w[o * a.k + k]) *
				       bf16_value(x[t * a.k + k]);
			c[t * a.out + o] = sum;
		}
	}
	return 0;
}

static const struct fake_kernel kernels[] = {
	{"k_fill", run_fill, {8, 8, 4, 8}},
	{"k_check", run_check, {8, 8, 4, 8, 8}},
	{"k_sum", run_sum, {8, 8, 8}},
	{"k_read", run_read, {8, 8, 8}},
	{"k_write", run_write, {8, 8, 4}},
	{"k_copy", run_copy, {8, 8, 8}},
	{"k_runs", run_runs, {sizeof(struct probe_runs_args)}},
	{"k_empty", run_empty, {0}},
	{"k_stream", run_stream, {sizeof(struct probe_stream_args)}},
	{"k_alias_plain", run_alias, {8, 8, 8, 4, 8}},
	{"k_alias_fenced", run_alias, {8, 8, 8, 4, 8}},
	{"k_mma_rate", run_rate, {8, 4, 8}},
	{"k_wgmma_rate", run_rate, {8, 4, 8}},
	{"k_wgmma_rate_swizzled", run_rate, {8, 4, 8}},
};
static const struct fake_kernel rows_kernel = {
	"k_rows", run_rows, {sizeof(struct probe_rows_args)}};
_Static_assert(sizeof(struct probe_stream_args) <= FAKE_ARG_BYTES,
	"an argument block fits");

const struct fake_kernel *fake_kernel_find(const char *name)
{
	for (size_t i = 0; i < sizeof(kernels) / sizeof(kernels[0]); i++)
		if (strcmp(kernels[i].name, name) == 0)
			return &kernels[i];
	if (strncmp(name, "k_rows_wgmma_", 13) == 0 ||
		strncmp(name, "k_rows_mma_", 11) == 0)
		return &rows_kernel;
	return NULL;
}
