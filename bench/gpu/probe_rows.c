/*
 * probe_rows.c - do the bits of a row change with the number of rows (rows)
 *
 * The product's linears keep the weights on the M side of one matrix
 * instruction and vary only the tile of tokens on its N side, K ascending.
 * Whether a token's result then depends on the tile, on the number of tokens
 * or on its place among them is what is asked. First every variant is compared
 * with a sum in double precision: a variant that is wrong makes no claim.
 */
/* SPDX-License-Identifier: Apache-2.0 */
#include "probe_section.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { ROWS_TOKENS = 256, ROWS_OUT = 128, ROWS_K_MAX = 2048, TILE_COUNT = 6 };
enum { FAMILY_WGMMA, FAMILY_MMA, FAMILY_COUNT };

static const unsigned tiles[TILE_COUNT] = {8, 16, 32, 64, 128, 256};
static const char *const families[FAMILY_COUNT] = {"wgmma", "mma"};

struct rows {
	uint32_t k;
	uint16_t *w; /* [ROWS_OUT][k] */
	uint16_t *x; /* [ROWS_TOKENS][k] */
	double *want; /* [ROWS_TOKENS][ROWS_OUT] */
	double *scale; /* the same, of absolute values */
	float *alone; /* [FAMILY_COUNT][ROWS_TOKENS][ROWS_OUT] */
	float *got; /* [ROWS_TOKENS][ROWS_OUT] */
	CUdeviceptr dev_w;
	CUdeviceptr dev_x;
	CUdeviceptr dev_c;
	bool right[FAMILY_COUNT];
	bool clean[FAMILY_COUNT]; /* poison in other rows changed no bit */
};

/* Value of a bf16: the upper half of a float's bits. */
static double bf16_value(uint16_t bits)
{
	uint32_t wide = (uint32_t)bits << 16;
	float value;

	memcpy(&value, &wide, sizeof(value));
	return value;
}

/* Bits, not values: NaN equals itself here and 0 is not -0. */
static bool same_bits(const void *left, const void *right, size_t bytes)
{
	return memcmp(left, right, bytes) == 0;
}

/* Random bf16 of magnitude 2^-4 to 2. */
static uint16_t random_bf16(uint32_t seed, uint64_t index)
{
	uint32_t word = probe_pattern(seed, index);

	return (uint16_t)((word & 0x807fu) | ((123u + (word >> 16) % 5u) << 7));
}

/* Want and scale of every output, in double precision. */
static void reference(struct rows *r)
{
	for (size_t t = 0; t < ROWS_TOKENS; t++) {
		for (size_t o = 0; o < ROWS_OUT; o++) {
			const uint16_t *x = r->x + t * r->k;
			const uint16_t *w = r->w + o * r->k;
			double sum = 0;
			double scale = 0;

			for (size_t k = 0; k < r->k; k++) {
				double product =
					bf16_value(x[k]) * bf16_value(w[k]);

				sum += product;
				scale += fabs(product);
			}
			r->want[t * ROWS_OUT + o] = sum;
			r->scale[t * ROWS_OUT + o] = scale;
		}
	}
}

/* Run one kernel on `tokens` rows of x from `first` on. */
struct variant {
	int family;
	unsigned tile;
	uint32_t first;
	uint32_t tokens;
};

/* The grid has two dimensions, so the launch is written out here. */
static int run_variant(
	struct probe *p, struct rows *r, struct variant v, float *c)
{
	struct probe_rows_args a = {.w = r->dev_w,
		.x = r->dev_x + (uint64_t)v.first * r->k * sizeof(*r->x),
		.c = r->dev_c,
		.k = r->k,
		.out = ROWS_OUT,
		.tokens = v.tokens};
	void *args[] = {&a};
	size_t count = (size_t)v.tokens * ROWS_OUT;
	CUfunction function = NULL;
	char kernel[PROBE_NAME_MAX];

	snprintf(kernel, sizeof(kernel), "k_rows_%s_%u", families[v.family],
		v.tile);
	/* NaN everywhere first: an output that is not written shows. */
	if (probe_function(p, kernel, &function) != 0 ||
		probe_cu(p,
			p->cu.set_async(
				r->dev_c, 0x7fc00000u, count, p->stream),
			"cuMemsetD32Async") != 0 ||
		probe_cu(p,
			p->cu.launch(function, ROWS_OUT / PROBE_ROWS_OUT,
				(v.tokens + v.tile - 1) / v.tile, 1, 128, 1, 1,
				0, p->stream, args, NULL),
			kernel) != 0 ||
		probe_sync(p, kernel) != 0)
		return -EIO;
	return probe_download(p, c, r->dev_c, count * sizeof(*c));
}

/*
 * Largest error relative to the sum of absolute products. The tensor cores
 * add in fp32 with truncation: 128 steps of at most 2^-22 each stay under
 * 4e-5; a wrong layout gives about 1 / sqrt(K) = 2e-2.
 */
static double worst_error(const struct rows *r)
{
	double worst = 0;

	for (size_t i = 0; i < (size_t)ROWS_TOKENS * ROWS_OUT; i++) {
		double error = fabs((double)r->got[i] - r->want[i]);

		/* NaN must not pass. */
		if (!(error <= worst * r->scale[i]))
			worst = isnan(error) ? INFINITY : error / r->scale[i];
	}
	return worst;
}

static int check_right(struct probe *p, struct rows *r, int family)
{
	for (int i = 0; i < TILE_COUNT; i++) {
		struct variant v = {family, tiles[i], 0, ROWS_TOKENS};
		double worst;

		if (run_variant(p, r, v, r->got) != 0)
			return -EIO;
		worst = worst_error(r);
		if (worst <= 1e-4)
			continue;
		r->right[family] = false;
		probe_wrong(p,
			"result wrong: %s, tile of %u tokens, K %u, error %.2g",
			families[family], tiles[i], r->k, worst);
	}
	return 0;
}

/* Every token alone in the smallest tile: the bits that all others must have. */
static int run_alone(struct probe *p, struct rows *r, int family)
{
	float *alone = r->alone + (size_t)family * ROWS_TOKENS * ROWS_OUT;

	for (uint32_t t = 0; t < ROWS_TOKENS; t++) {
		struct variant v = {family, 8, t, 1};

		if (run_variant(p, r, v, alone + (size_t)t * ROWS_OUT) != 0)
			return -EIO;
	}
	return 0;
}

/* Every number of rows with every tile; writes one result. */
static int check_same(struct probe *p, struct rows *r, int family)
{
	const float *alone = r->alone + (size_t)family * ROWS_TOKENS * ROWS_OUT;
	char name[PROBE_NAME_MAX];
	char note[PROBE_TEXT_MAX] = "";
	size_t differ = 0;
	size_t cases = 0;

	for (int i = 0; i < TILE_COUNT; i++) {
		for (uint32_t n = 1; n <= ROWS_TOKENS;
			n += p->quick && n > 3 ? 126 : 1) {
			struct variant v = {family, tiles[i], 0, n};
			size_t bytes = (size_t)n * ROWS_OUT * sizeof(float);

			if (run_variant(p, r, v, r->got) != 0)
				return -EIO;
			cases++;
			if (same_bits(r->got, alone, bytes))
				continue;
			if (differ++ == 0)
				snprintf(note, sizeof(note),
					"first: tile %u, %u rows", tiles[i], n);
		}
	}
	if (differ == 0)
		snprintf(note, sizeof(note),
			"%zu cases of tile and row count, %d outputs", cases,
			ROWS_OUT);
	snprintf(name, sizeof(name), "rows.%s.same_bits.k%u", families[family],
		r->k);
	probe_bool(p, name, differ == 0, note);
	return 0;
}

/* Row 5 among NaN and infinities, in every tile. */
static int check_poison(struct probe *p, struct rows *r, int family)
{
	const size_t row = 5;
	const float *alone =
		r->alone + ((size_t)family * ROWS_TOKENS + row) * ROWS_OUT;
	size_t count = (size_t)ROWS_TOKENS * r->k;
	uint16_t *poison = calloc(count, sizeof(*poison));
	int error;

	if (poison == NULL)
		return probe_stop(p, -ENOMEM, "no memory for rows");
	for (size_t i = 0; i < count; i++)
		poison[i] = i % 3 == 0   ? 0x7fc1u
			    : i % 3 == 1 ? 0x7f80u
					 : 0xff80u;
	memcpy(poison + row * r->k, r->x + row * r->k, r->k * sizeof(*poison));
	error = probe_upload(p, r->dev_x, poison, count * sizeof(*poison));
	for (int i = 0; i < TILE_COUNT && error == 0; i++) {
		struct variant v = {family, tiles[i], 0, ROWS_TOKENS};

		error = run_variant(p, r, v, r->got);
		if (error == 0 && !same_bits(r->got + row * ROWS_OUT, alone,
					  ROWS_OUT * sizeof(float)))
			r->clean[family] = false;
	}
	free(poison);
	if (error == 0)
		error = probe_upload(p, r->dev_x, r->x, count * sizeof(*r->x));
	return error;
}

static int measure_family(struct probe *p, struct rows *r, int family)
{
	int error = check_right(p, r, family);

	if (error != 0 || !r->right[family])
		return error;
	error = run_alone(p, r, family);
	if (error == 0)
		error = check_same(p, r, family);
	if (error == 0)
		error = check_poison(p, r, family);
	return error;
}

static int rows_load(struct probe *p, struct rows *r, uint32_t k)
{
	size_t w_count = (size_t)ROWS_OUT * k;
	size_t x_count = (size_t)ROWS_TOKENS * k;

	r->k = k;
	for (size_t i = 0; i < w_count; i++)
		r->w[i] = random_bf16(31, i);
	for (size_t i = 0; i < x_count; i++)
		r->x[i] = random_bf16(32, i);
	reference(r);
	if (probe_upload(p, r->dev_w, r->w, w_count * 2) != 0)
		return -EIO;
	return probe_upload(p, r->dev_x, r->x, x_count * 2);
}

static int measure_rows(struct probe *p, struct rows *r)
{
	static const uint32_t ks[] = {1408, 2048};
	size_t k_count = p->quick ? 1 : sizeof(ks) / sizeof(ks[0]);
	int first = p->major == 9 ? FAMILY_WGMMA : FAMILY_MMA;
	size_t bytes = sizeof(float) * ROWS_TOKENS * ROWS_OUT;
	bool equal = true;

	for (size_t i = 0; i < k_count; i++) {
		if (rows_load(p, r, ks[i]) != 0)
			return -EIO;
		for (int f = first; f < FAMILY_COUNT; f++)
			if (measure_family(p, r, f) != 0)
				return -EIO;
		equal = equal &&
			same_bits(r->alone,
				r->alone + (size_t)ROWS_TOKENS * ROWS_OUT,
				bytes);
	}
	for (int f = first; f < FAMILY_COUNT; f++) {
		char name[PROBE_NAME_MAX];

		snprintf(name, sizeof(name), "rows.%s.right", families[f]);
		probe_bool(p, name, r->right[f], "tiles 8 to 256, every K");
		snprintf(name, sizeof(name), "rows.%s.poison", families[f]);
		if (r->right[f])
			probe_bool(p, name, r->clean[f], "row 5 of 256");
	}
	if (r->right[FAMILY_WGMMA] && r->right[FAMILY_MMA] && first == 0)
		probe_bool(p, "rows.wgmma_is_mma", equal,
			"256 rows alone, 128 outputs, every K");
	return 0;
}

static int rows_init(struct probe *p, struct rows *r)
{
	size_t outputs = (size_t)ROWS_TOKENS * ROWS_OUT;

	r->w = calloc((size_t)ROWS_OUT * ROWS_K_MAX, sizeof(*r->w));
	r->x = calloc((size_t)ROWS_TOKENS * ROWS_K_MAX, sizeof(*r->x));
	r->want = calloc(outputs, sizeof(*r->want));
	r->scale = calloc(outputs, sizeof(*r->scale));
	r->alone = calloc(outputs * FAMILY_COUNT, sizeof(*r->alone));
	r->got = calloc(outputs, sizeof(*r->got));
	if (r->w == NULL || r->x == NULL || r->want == NULL ||
		r->scale == NULL || r->alone == NULL || r->got == NULL)
		return probe_stop(p, -ENOMEM, "no memory for rows");
	if (probe_cu(p,
		    p->cu.memory_alloc(
			    &r->dev_w, (size_t)ROWS_OUT * ROWS_K_MAX * 2),
		    "cuMemAlloc") != 0 ||
		probe_cu(p,
			p->cu.memory_alloc(&r->dev_x,
				(size_t)ROWS_TOKENS * ROWS_K_MAX * 2),
			"cuMemAlloc") != 0 ||
		probe_cu(p, p->cu.memory_alloc(&r->dev_c, outputs * 4),
			"cuMemAlloc") != 0)
		return -EIO;
	return 0;
}

int probe_section_rows(struct probe *p)
{
	struct rows r = {.right = {true, true}, .clean = {true, true}};
	int error = rows_init(p, &r);

	if (error == 0)
		error = measure_rows(p, &r);
	if (r.dev_c != 0)
		(void)p->cu.memory_free(r.dev_c);
	if (r.dev_x != 0)
		(void)p->cu.memory_free(r.dev_x);
	if (r.dev_w != 0)
		(void)p->cu.memory_free(r.dev_w);
	free(r.got);
	free(r.alone);
	free(r.scale);
	free(r.want);
	free(r.x);
	free(r.w);
	return error;
}
