/*
 * probe_lt.c - do cuBLASLt's bits change with the number of rows (cublaslt)
 *
 * The library is opened at run time. For each shape the same rows are
 * multiplied in batches of 1 to 4096; a row's result should not depend on the
 * batch. Each product is the library's first choice, as a caller would get it.
 * probe_lt_none.c stands in where the build has no cublasLt.h.
 */
/* SPDX-License-Identifier: Apache-2.0 */
#include "probe_section.h"

#include <assert.h>
#include <cublasLt.h>
#include <dlfcn.h>
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { LT_ROWS = 4096, LT_COMPARE = 16, LT_M_COUNT = 8, LT_RUNS = 20 };
#define LT_DIM_MAX 2048u
#define LT_WORKSPACE ((size_t)32 << 20)

static const unsigned row_counts[LT_M_COUNT] = {
	1, 2, 8, 16, 64, 256, 1024, LT_ROWS};

#define LT_CALLS(X)                                                            \
	X(version, cublasLtGetVersion)                                         \
	X(create, cublasLtCreate)                                              \
	X(destroy, cublasLtDestroy)                                            \
	X(desc_create, cublasLtMatmulDescCreate)                               \
	X(desc_destroy, cublasLtMatmulDescDestroy)                             \
	X(desc_set, cublasLtMatmulDescSetAttribute)                            \
	X(layout_create, cublasLtMatrixLayoutCreate)                           \
	X(layout_destroy, cublasLtMatrixLayoutDestroy)                         \
	X(preference_create, cublasLtMatmulPreferenceCreate)                   \
	X(preference_destroy, cublasLtMatmulPreferenceDestroy)                 \
	X(preference_set, cublasLtMatmulPreferenceSetAttribute)                \
	X(heuristic, cublasLtMatmulAlgoGetHeuristic)                           \
	X(matmul, cublasLtMatmul)

#define LT_MEMBER(member, function) __typeof__ (&(function))(member);
struct lt_library {
	LT_CALLS(LT_MEMBER)
};
#undef LT_MEMBER

#define LT_SYMBOL(member, function) #function,
static const char *const lt_symbols[] = {LT_CALLS(LT_SYMBOL)};
#undef LT_SYMBOL
enum { LT_SYMBOL_COUNT = sizeof(lt_symbols) / sizeof(lt_symbols[0]) };
_Static_assert(sizeof(struct lt_library) == LT_SYMBOL_COUNT * sizeof(void *),
	"the table is an array of pointers");

struct lt_shape {
	unsigned k;
	unsigned n;
	bool wide; /* results in fp32, else in bf16 */
};

struct lt {
	struct lt_library lib;
	cublasLtHandle_t handle;
	CUdeviceptr x; /* bf16 [LT_ROWS][k] */
	CUdeviceptr w; /* bf16 [n][k] */
	CUdeviceptr y; /* [LT_ROWS][n] */
	CUdeviceptr workspace;
	uint16_t *host_x; /* as x */
	uint16_t *host_w; /* as w */
	unsigned char *alone; /* LT_COMPARE rows, each multiplied alone */
	unsigned char *got;
	struct lt_shape shape;
};

/* One product: descriptors and the algorithm chosen for it. */
struct product {
	cublasLtMatmulDesc_t desc;
	cublasLtMatrixLayout_t w;
	cublasLtMatrixLayout_t x;
	cublasLtMatrixLayout_t y;
	cublasLtMatmulPreference_t preference;
	cublasLtMatmulHeuristicResult_t choice;
	struct lt *lt;
	CUdeviceptr first; /* first row of x */
};

static int lt_ok(struct probe *p, cublasStatus_t status, const char *what)
{
	if (status == CUBLAS_STATUS_SUCCESS)
		return 0;
	return probe_stop(p, -EIO, "%s: cuBLAS status %d", what, (int)status);
}

static int lt_open(struct probe *p, struct lt *lt)
{
	const char *const *path = cuda_blaslt_paths();
	void *library = NULL;
	void *found[LT_SYMBOL_COUNT];

	for (; *path != NULL && library == NULL; path++)
		library = dlopen(*path, RTLD_NOW | RTLD_LOCAL);
	if (library == NULL)
		return probe_stop(
			p, -ENOTSUP, "this machine has no libcublasLt");
	for (size_t i = 0; i < LT_SYMBOL_COUNT; i++) {
		found[i] = dlsym(library, lt_symbols[i]);
		if (found[i] == NULL)
			return probe_stop(p, -ENOTSUP, "libcublasLt has no %s",
				lt_symbols[i]);
	}
	memcpy(&lt->lib, found, sizeof(lt->lib));
	return lt_ok(p, lt->lib.create(&lt->handle), "cublasLtCreate");
}

static void product_release(struct product *m)
{
	const struct lt_library *lib = &m->lt->lib;

	if (m->preference != NULL)
		(void)lib->preference_destroy(m->preference);
	if (m->y != NULL)
		(void)lib->layout_destroy(m->y);
	if (m->x != NULL)
		(void)lib->layout_destroy(m->x);
	if (m->w != NULL)
		(void)lib->layout_destroy(m->w);
	if (m->desc != NULL)
		(void)lib->desc_destroy(m->desc);
}

/*
 * The library counts in columns: a row-major [rows][k] is its k x rows with
 * leading dimension k. So y(n x m) = transpose of w(k x n) times x(k x m).
 */
static int product_describe(struct probe *p, struct product *m, unsigned rows)
{
	const struct lt_library *lib = &m->lt->lib;
	const struct lt_shape *s = &m->lt->shape;
	cublasOperation_t transpose = CUBLAS_OP_T;
	size_t workspace = LT_WORKSPACE;

	assert(lib->desc_create != NULL);
	if (lt_ok(p, lib->desc_create(&m->desc, CUBLAS_COMPUTE_32F, CUDA_R_32F),
		    "cublasLtMatmulDescCreate") != 0 ||
		lt_ok(p,
			lib->desc_set(m->desc, CUBLASLT_MATMUL_DESC_TRANSA,
				&transpose, sizeof(transpose)),
			"cublasLtMatmulDescSetAttribute") != 0 ||
		lt_ok(p,
			lib->layout_create(
				&m->w, CUDA_R_16BF, s->k, s->n, s->k),
			"cublasLtMatrixLayoutCreate") != 0 ||
		lt_ok(p,
			lib->layout_create(
				&m->x, CUDA_R_16BF, s->k, rows, s->k),
			"cublasLtMatrixLayoutCreate") != 0 ||
		lt_ok(p,
			lib->layout_create(&m->y,
				s->wide ? CUDA_R_32F : CUDA_R_16BF, s->n, rows,
				s->n),
			"cublasLtMatrixLayoutCreate") != 0 ||
		lt_ok(p, lib->preference_create(&m->preference),
			"cublasLtMatmulPreferenceCreate") != 0)
		return -EIO;
	return lt_ok(p,
		lib->preference_set(m->preference,
			CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, &workspace,
			sizeof(workspace)),
		"cublasLtMatmulPreferenceSetAttribute");
}

static int product_init(struct probe *p, struct product *m, unsigned rows)
{
	int found = 0;

	if (product_describe(p, m, rows) != 0)
		return -EIO;
	if (lt_ok(p,
		    m->lt->lib.heuristic(m->lt->handle, m->desc, m->w, m->x,
			    m->y, m->y, m->preference, 1, &m->choice, &found),
		    "cublasLtMatmulAlgoGetHeuristic") != 0)
		return -EIO;
	if (found == 0)
		return probe_stop(
			p, -EIO, "cuBLASLt knows no way for %u rows", rows);
	return 0;
}

static int op_product(struct probe *p, void *context)
{
	struct product *m = context;
	const struct lt *lt = m->lt;
	const float one = 1;
	const float zero = 0;

	return lt_ok(p,
		lt->lib.matmul(lt->handle, m->desc, &one,
			(const void *)(uintptr_t)lt->w, m->w,
			(const void *)(uintptr_t)m->first, m->x, &zero,
			(const void *)(uintptr_t)lt->y, m->y,
			(void *)(uintptr_t)lt->y, m->y, &m->choice.algo,
			(void *)(uintptr_t)lt->workspace, LT_WORKSPACE,
			(cudaStream_t)p->stream),
		"cublasLtMatmul");
}

static size_t row_bytes(const struct lt *lt)
{
	return (size_t)lt->shape.n * (lt->shape.wide ? 4 : 2);
}

/* x[first, first + rows) times w; the first 16 rows of the result at most. */
static int multiply(struct probe *p, struct lt *lt, unsigned first,
	unsigned rows, unsigned char *result)
{
	struct product m = {
		.lt = lt, .first = lt->x + (uint64_t)first * lt->shape.k * 2};
	unsigned keep = rows < LT_COMPARE ? rows : LT_COMPARE;
	char name[PROBE_NAME_MAX];
	double us[LT_RUNS];
	unsigned runs = p->quick ? 3 : LT_RUNS;
	int error = product_init(p, &m, rows);

	if (error == 0)
		error = op_product(p, &m);
	if (error == 0)
		error = probe_sync(p, "cublasLtMatmul");
	if (error == 0)
		error = probe_download(p, result, lt->y, keep * row_bytes(lt));
	if (error == 0 && first == 0 && lt->shape.wide == false) {
		error = probe_time(p, op_product, &m, us, runs);
		for (unsigned i = 0; i < runs && error == 0; i++)
			us[i] *= 1e3;
		snprintf(name, sizeof(name), "cublaslt.time.k%un%u.m%u",
			lt->shape.k, lt->shape.n, rows);
		if (error == 0)
			probe_times(p, name, us, runs, "weights warm in L2");
	}
	product_release(&m);
	return error;
}

static double bf16_value(uint16_t bits)
{
	uint32_t wide = (uint32_t)bits << 16;
	float value;

	memcpy(&value, &wide, sizeof(value));
	return value;
}

/* Output `column` of row 0 as the library left it. */
static double result_at(const struct lt *lt, size_t column)
{
	float wide;
	uint16_t narrow;

	if (lt->shape.wide) {
		memcpy(&wide, lt->alone + column * 4, sizeof(wide));
		return wide;
	}
	memcpy(&narrow, lt->alone + column * 2, sizeof(narrow));
	return bf16_value(narrow);
}

/* Row 0 against double precision: bf16 results are rounded to 2^-9. */
static void check_right(struct probe *p, struct lt *lt)
{
	size_t wrong = 0;
	char name[PROBE_NAME_MAX];
	char note[PROBE_TEXT_MAX];

	for (size_t column = 0; column < lt->shape.n; column++) {
		double sum = 0;
		double scale = 0;
		double error;

		for (size_t k = 0; k < lt->shape.k; k++) {
			double product =
				bf16_value(lt->host_x[k]) *
				bf16_value(
					lt->host_w[column * lt->shape.k + k]);

			sum += product;
			scale += fabs(product);
		}
		error = fabs(result_at(lt, column) - sum);
		if (!(error <= 1e-4 * scale +
				       (lt->shape.wide ? 0 : fabs(sum) / 256)))
			wrong++;
	}
	snprintf(name, sizeof(name), "cublaslt.right.k%un%u_%s", lt->shape.k,
		lt->shape.n, lt->shape.wide ? "f32" : "bf16");
	snprintf(note, sizeof(note), "cuBLASLt %zu", lt->lib.version());
	probe_bool(p, name, wrong == 0, note);
	if (wrong != 0)
		probe_wrong(p, "cuBLASLt: %zu of %u outputs are wrong", wrong,
			lt->shape.n);
}

static int measure_shape(struct probe *p, struct lt *lt)
{
	char name[PROBE_NAME_MAX];
	char note[PROBE_TEXT_MAX] = "";
	size_t used = 0;
	bool same = true;

	for (unsigned row = 0; row < LT_COMPARE; row++)
		if (multiply(p, lt, row, 1, lt->alone + row * row_bytes(lt)) !=
			0)
			return -EIO;
	check_right(p, lt);
	for (int i = 1; i < LT_M_COUNT; i++) {
		unsigned rows = row_counts[i];
		unsigned keep = rows < LT_COMPARE ? rows : LT_COMPARE;

		if (multiply(p, lt, 0, rows, lt->got) != 0)
			return -EIO;
		if (memcmp(lt->got, lt->alone, keep * row_bytes(lt)) == 0)
			continue;
		used += (size_t)snprintf(note + used, sizeof(note) - used,
			"%s%u", same ? "other bits at M = " : ", ", rows);
		same = false;
	}
	snprintf(name, sizeof(name), "cublaslt.same_bits.k%un%u_%s",
		lt->shape.k, lt->shape.n, lt->shape.wide ? "f32" : "bf16");
	probe_bool(p, name, same,
		same ? "M = 1, 2, 8, 16, 64, 256, 1024, 4096; 16 rows" : note);
	return 0;
}

/* Random bf16 of magnitude 2^-4 to 2, as in the row kernels' test. */
static uint16_t random_bf16(uint32_t seed, uint64_t index)
{
	uint32_t word = probe_pattern(seed, index);

	return (uint16_t)((word & 0x807fu) | ((123u + (word >> 16) % 5u) << 7));
}

static int lt_init(struct probe *p, struct lt *lt)
{
	size_t x_count = (size_t)LT_ROWS * LT_DIM_MAX;
	size_t w_count = (size_t)LT_DIM_MAX * LT_DIM_MAX;
	size_t compare = (size_t)LT_COMPARE * LT_DIM_MAX * 4;

	lt->host_x = calloc(x_count, 2);
	lt->host_w = calloc(w_count, 2);
	lt->alone = calloc(compare, 1);
	lt->got = calloc(compare, 1);
	if (lt->host_x == NULL || lt->host_w == NULL || lt->alone == NULL ||
		lt->got == NULL)
		return probe_stop(p, -ENOMEM, "no memory for matrices");
	for (size_t i = 0; i < x_count; i++)
		lt->host_x[i] = random_bf16(41, i);
	for (size_t i = 0; i < w_count; i++)
		lt->host_w[i] = random_bf16(42, i);
	if (probe_cu(p, p->cu.memory_alloc(&lt->x, x_count * 2),
		    "cuMemAlloc") != 0 ||
		probe_cu(p, p->cu.memory_alloc(&lt->w, w_count * 2),
			"cuMemAlloc") != 0 ||
		probe_cu(p, p->cu.memory_alloc(&lt->y, x_count * 4),
			"cuMemAlloc") != 0 ||
		probe_cu(p, p->cu.memory_alloc(&lt->workspace, LT_WORKSPACE),
			"cuMemAlloc") != 0 ||
		probe_upload(p, lt->x, lt->host_x, x_count * 2) != 0)
		return -EIO;
	return probe_upload(p, lt->w, lt->host_w, w_count * 2);
}

static void lt_release(struct probe *p, struct lt *lt)
{
	const CUdeviceptr buffers[] = {lt->workspace, lt->y, lt->w, lt->x};

	if (lt->handle != NULL)
		(void)lt->lib.destroy(lt->handle);
	for (size_t i = 0; i < sizeof(buffers) / sizeof(buffers[0]); i++)
		if (buffers[i] != 0)
			(void)p->cu.memory_free(buffers[i]);
	free(lt->got);
	free(lt->alone);
	free(lt->host_w);
	free(lt->host_x);
}

int probe_section_cublaslt(struct probe *p)
{
	static const struct lt_shape shapes[] = {{2048, 2048, true},
		{2048, 2048, false}, {2048, 1408, true}, {2048, 1408, false},
		{1408, 2048, true}, {1408, 2048, false}};
	struct lt lt = {.handle = NULL};
	int error = lt_open(p, &lt);

	if (error == 0)
		error = lt_init(p, &lt);
	for (size_t i = 0; i < sizeof(shapes) / sizeof(shapes[0]); i++) {
		if (error != 0 || probe_late(p))
			break;
		lt.shape = shapes[i];
		error = measure_shape(p, &lt);
	}
	lt_release(p, &lt);
	return error;
}
