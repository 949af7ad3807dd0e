/* test_attention.c - kv_write and attention over paged caches */
/* SPDX-License-Identifier: Apache-2.0 */
#include <math.h>
#include <string.h>

#include "base/limits.h"
#include "gpu/cpu/dot_ref.h"
#include "tests/ops_case.h"
#include "tests/suite.h"

#define LENGTH_MAX 531

/* Sequences with random keys and values, and a cache to hold them. */
struct scene {
	uint32_t kv_heads, group; /* group: heads per K/V head */
	uint32_t key_dim, value_dim;
	uint32_t sequence_count, length; /* positions of every sequence */
	float *key; /* [sequence][length][key_width] */
	float *value; /* [sequence][length][value_width], MLA: unused */
	uint32_t layer;
	bool mla; /* V is the beginning of K */
	struct kv_view kv;
	size_t window_bytes;
};

static uint32_t key_width(const struct scene *scene)
{
	return scene->kv_heads * scene->key_dim;
}

static uint32_t value_width(const struct scene *scene)
{
	return scene->mla ? 0 : scene->kv_heads * scene->value_dim;
}

/* A new empty cache: other blocks, pages and strides, everything a NaN. */
static void scene_place(struct scene *scene, struct pool *pool, enum dtype type)
{
	uint64_t *random = &pool->random;
	size_t size = dtype_size(type);
	uint32_t blocks, entries, *table;
	struct kv_view *kv = &scene->kv;

	kv->type = type;
	kv->block_tokens = suite_below(random, 2) > 0
				   ? 16u << suite_below(random, 5)
				   : 16 + suite_below(random, 241);
	kv->pages_per_block = 1 + suite_below(random, 3);
	kv->layers_per_page = 1 + suite_below(random, 3);
	kv->value_offset_bytes =
		scene->mla ? 0
			   : (key_width(scene) + suite_below(random, 3)) * size;
	kv->token_stride_bytes =
		kv->value_offset_bytes +
		(scene->mla ? key_width(scene) : value_width(scene)) * size +
		suite_below(random, 3) * size;
	kv->layer_stride_bytes = kv->block_tokens * kv->token_stride_bytes +
				 suite_below(random, 3) * size;
	kv->page_size_bytes = kv->layers_per_page * kv->layer_stride_bytes;
	scene->layer =
		suite_below(random, kv->pages_per_block * kv->layers_per_page);
	blocks = (scene->length + kv->block_tokens - 1) / kv->block_tokens;
	entries = blocks * kv->pages_per_block;
	kv->table_stride = entries + suite_below(random, 3);
	table = pool_shuffle(pool, scene->sequence_count * kv->table_stride);
	kv->block_table = table;
	scene->window_bytes = (size_t)scene->sequence_count * kv->table_stride *
			      kv->page_size_bytes;
	kv->window = pool_get(pool, scene->window_bytes);
	memset(kv->window, 0xff, scene->window_bytes);
}

/* A scene of a given shape: the fields up to length are set. */
static void scene_make(struct scene *scene, struct pool *pool, enum dtype type)
{
	size_t tokens = (size_t)scene->sequence_count * scene->length;

	scene->key = pool_floats(pool, tokens * key_width(scene), 1);
	scene->value = pool_floats(pool, tokens * value_width(scene), 1);
	scene_place(scene, pool, type);
}

static struct scene scene_create(struct pool *pool, uint32_t i, uint32_t length)
{
	uint64_t *random = &pool->random;
	struct scene scene = {
		.mla = i % 3 == 2,
		.sequence_count = 1 + i / 2 % 3,
		.length = length,
		.key_dim = 2 + suite_below(random, i % 7 == 6 ? 400 : 40),
	};

	scene.kv_heads = scene.mla ? 1 : 1 + suite_below(random, 2);
	scene.group = 1 + suite_below(random, 3);
	scene.value_dim = scene.mla ? 1 + suite_below(random, scene.key_dim - 1)
				    : 1 + suite_below(random, 40);
	scene_make(&scene, pool, i % 2 ? DTYPE_BF16 : DTYPE_F32);
	return scene;
}

/* Where memmgr/kv.h says that a token is. */
static unsigned char *scene_token(const struct scene *scene, uint32_t layer,
	uint32_t sequence, uint32_t position)
{
	const struct kv_view *kv = &scene->kv;
	const uint32_t *table =
		kv->block_table + (size_t)sequence * kv->table_stride;
	uint32_t block = position / kv->block_tokens;
	uint32_t page = table[block * kv->pages_per_block +
			      layer / kv->layers_per_page];

	return (unsigned char *)kv->window + page * kv->page_size_bytes +
	       (layer % kv->layers_per_page) * kv->layer_stride_bytes +
	       (position - block * kv->block_tokens) * kv->token_stride_bytes;
}

/* All positions of all sequences as rows: row = sequence * length + pos. */
static struct rows scene_rows(const struct scene *scene, struct pool *pool)
{
	uint32_t count = scene->sequence_count * scene->length;
	uint32_t *position = pool_get(pool, count * sizeof(*position));
	uint32_t *sequence = pool_get(pool, count * sizeof(*sequence));
	struct rows rows = {
		.count = count,
		.position = position,
		.sequence = sequence,
	};

	for (uint32_t r = 0; r < count; r++) {
		position[r] = r % scene->length;
		sequence[r] = r / scene->length;
	}
	return rows;
}

/* Write `count` rows from `first` on of scene_rows(). */
static void scene_write(const struct scene *scene, struct ops *ops,
	const struct rows *rows, uint32_t first, uint32_t count)
{
	struct kv_write_args args = {
		.rows = {.count = count,
			.position = rows->position + first,
			.sequence = rows->sequence + first},
		.kv = scene->kv,
		.layer = scene->layer,
		.key_width = key_width(scene),
		.value_width = value_width(scene),
		.key = scene->key + (size_t)first * key_width(scene),
		.key_stride = key_width(scene),
		.value = scene->value + (size_t)first * value_width(scene),
		.value_stride = value_width(scene),
	};

	CU_ASSERT_EQUAL(ops->table->kv_write(ops, &args), 0);
}

static void scene_fill(const struct scene *scene, struct pool *pool)
{
	struct ops ops = case_ops(2);
	struct rows rows = scene_rows(scene, pool);

	scene_write(scene, &ops, &rows, 0, rows.count);
	ops.table->destroy(&ops);
}

/* The arguments of an attention over rows; q is random. */
static struct attention_args scene_attention(
	const struct scene *scene, struct pool *pool, struct rows rows)
{
	struct attention_args args = {
		.rows = rows,
		.kv = scene->kv,
		.layer = scene->layer,
		.head_count = scene->kv_heads * scene->group,
		.kv_head_count = scene->kv_heads,
		.key_dim = scene->key_dim,
		.value_dim = scene->value_dim,
		.scale = 1 / sqrtf((float)scene->key_dim),
	};

	args.q = pool_floats(
		pool, (size_t)rows.count * args.head_count * args.key_dim, 1);
	return args;
}

static size_t q_width(const struct attention_args *args)
{
	return (size_t)args->head_count * args->key_dim;
}

static size_t out_width(const struct attention_args *args)
{
	return (size_t)args->head_count * args->value_dim;
}

static float *run_attention_isa(struct pool *pool, enum cpu_isa isa,
	uint32_t thread_count, struct attention_args args)
{
	struct ops ops = case_ops_isa(isa, thread_count);

	args.out = pool_get(
		pool, args.rows.count * out_width(&args) * sizeof(float));
	CU_ASSERT_EQUAL(ops.table->attention(&ops, &args), 0);
	ops.table->destroy(&ops);
	return args.out;
}

static float *run_attention(
	struct pool *pool, uint32_t thread_count, struct attention_args args)
{
	return run_attention_isa(pool, case_isa(), thread_count, args);
}

/* The rows of args that `index` names. */
static struct attention_args pick_rows(struct pool *pool,
	const struct attention_args *args, const uint32_t *index,
	uint32_t count)
{
	struct attention_args part = *args;

	part.rows.count = count;
	part.rows.position =
		pool_pick(pool, args->rows.position, index, count, 1);
	part.rows.sequence =
		pool_pick(pool, args->rows.sequence, index, count, 1);
	part.q = pool_pick(pool, args->q, index, count, q_width(args));
	return part;
}

/* Some rows of every sequence, at and around the edges of chunks. */
static struct attention_args edge_rows(
	const struct scene *scene, struct pool *pool)
{
	static const uint32_t edges[] = {
		0, 1, 15, 16, 254, 255, 256, 257, 258, 300, 511, 512, 513, 530};
	struct attention_args all =
		scene_attention(scene, pool, scene_rows(scene, pool));
	uint32_t *index = pool_get(pool, all.rows.count * sizeof(*index));
	uint32_t count = 0;

	for (uint32_t s = 0; s < scene->sequence_count; s++)
		for (size_t e = 0; e < sizeof(edges) / sizeof(edges[0]); e++)
			if (edges[e] < scene->length)
				index[count++] = s * scene->length + edges[e];
	return pick_rows(pool, &all, index, count);
}

/* --- kv_write -------------------------------------------------------------- */

static void expect_tokens(const struct scene *scene, unsigned char *image,
	const struct rows *rows)
{
	uint32_t keys = key_width(scene), values = value_width(scene);

	for (uint32_t r = 0; r < rows->count; r++) {
		size_t at =
			(size_t)(scene_token(scene, scene->layer,
					 rows->sequence[r], rows->position[r]) -
				 (unsigned char *)scene->kv.window);

		for (uint32_t k = 0; k < keys; k++)
			dtype_store(image + at, scene->kv.type, k,
				scene->key[(size_t)r * keys + k]);
		at += scene->kv.value_offset_bytes;
		for (uint32_t k = 0; k < values; k++)
			dtype_store(image + at, scene->kv.type, k,
				scene->value[(size_t)r * values + k]);
	}
}

static void test_kv_write__places_every_element(void)
{
	static const uint32_t threads[] = CASE_THREAD_COUNTS;
	uint64_t seed = suite_seed(1);

	for (uint32_t i = 0; i < 24; i++) {
		struct pool pool;
		struct scene scene;
		struct ops ops = case_ops(threads[i % 4]);
		struct rows rows;
		unsigned char *image;

		pool_init(&pool, seed + i);
		scene = scene_create(
			&pool, i, 1 + suite_below(&pool.random, 300));
		rows = scene_rows(&scene, &pool);
		image = pool_get(&pool, scene.window_bytes);
		memset(image, 0xff, scene.window_bytes);
		expect_tokens(&scene, image, &rows);
		scene_write(&scene, &ops, &rows, 0, rows.count);
		CU_ASSERT_EQUAL(
			memcmp(image, scene.kv.window, scene.window_bytes), 0);
		ops.table->destroy(&ops);
		pool_release(&pool);
	}
}

/* --- attention against doubles --------------------------------------------- */

struct naive {
	double out;
	double magnitude;
};

/* Element `index` of a token after it went through the cache. */
static double stored(enum dtype type, const float *token, size_t index)
{
	uint32_t room = 0;

	dtype_store(&room, type, 0, token[index]);
	return (double)dtype_load(&room, type, 0);
}

/*
 * Scores of row r, head h into score[]; the first visible position is
 * returned and *size is the largest sum of absolute terms.
 */
static uint32_t naive_scores(const struct scene *scene,
	const struct attention_args *args, const uint32_t at[2], double *score,
	double *size)
{
	uint32_t position = args->rows.position[at[0]];
	uint32_t first = args->window && position >= args->window
				 ? position - args->window + 1
				 : 0;
	const float *q = args->q + ((size_t)at[0] * args->head_count + at[1]) *
					   args->key_dim;

	*size = 0;
	for (uint32_t t = first; t <= position; t++) {
		const float *key =
			scene->key +
			((size_t)args->rows.sequence[at[0]] * scene->length +
				t) *
				key_width(scene) +
			(size_t)(at[1] / scene->group) * args->key_dim;
		double terms = 0;

		score[t] = 0;
		for (uint32_t k = 0; k < args->key_dim; k++) {
			double term = (double)args->scale * q[k] *
				      stored(args->kv.type, key, k);

			score[t] += term;
			terms += fabs(term);
		}
		*size = fmax(*size, terms);
	}
	return first;
}

static double naive_value(const struct scene *scene,
	const struct attention_args *args, const uint32_t at[2], uint32_t t,
	uint32_t v)
{
	size_t token = (size_t)args->rows.sequence[at[0]] * scene->length + t;
	const float *value =
		scene->mla ? scene->key + token * key_width(scene)
			   : scene->value + token * value_width(scene) +
				     (size_t)(at[1] / scene->group) *
					     args->value_dim;

	return stored(args->kv.type, value, v);
}

static uint32_t count_wrong(const struct scene *scene,
	const struct attention_args *args, const uint32_t at[2],
	const float *out)
{
	double score[LENGTH_MAX];
	double size, max = -INFINITY, sum = 0;
	uint32_t position = args->rows.position[at[0]];
	uint32_t first, wrong = 0;

	first = naive_scores(scene, args, at, score, &size);
	for (uint32_t t = first; t <= position; t++)
		max = fmax(max, score[t]);
	for (uint32_t t = first; t <= position; t++)
		sum += exp(score[t] - max);
	for (uint32_t v = 0; v < args->value_dim; v++) {
		double want = 0, most = 0;

		for (uint32_t t = first; t <= position; t++) {
			double value = naive_value(scene, args, at, t, v);

			want += exp(score[t] - max) / sum * value;
			most = fmax(most, fabs(value));
		}
		wrong += !case_close(out[v], want, (1 + size) * most);
	}
	return wrong;
}

static uint32_t count_wrong_rows(const struct scene *scene,
	const struct attention_args *args, const float *out)
{
	uint32_t wrong = 0;

	for (uint32_t r = 0; r < args->rows.count; r++)
		for (uint32_t h = 0; h < args->head_count; h++) {
			uint32_t at[2] = {r, h};

			wrong += count_wrong(scene, args, at,
				out + r * out_width(args) +
					(size_t)h * args->value_dim);
		}
	return wrong;
}

static void test_attention__matches_doubles(void)
{
	uint64_t seed = suite_seed(2);

	for (uint32_t i = 0; i < 18; i++) {
		struct pool pool;
		struct scene scene;
		struct attention_args args;
		float *out;

		pool_init(&pool, seed + i);
		scene = scene_create(&pool, i, i % 4 ? LENGTH_MAX : 40);
		scene_fill(&scene, &pool);
		args = edge_rows(&scene, &pool);
		if (i % 5 == 1)
			args.window = 1 + suite_below(&pool.random, 400);
		if (i % 5 == 2)
			args.scale = 40; /* one key has nearly all weight */
		out = run_attention(&pool, 2, args);
		CU_ASSERT_EQUAL(count_wrong_rows(&scene, &args, out), 0);
		pool_release(&pool);
	}
}

static void test_attention__window_of_one_is_the_value(void)
{
	struct pool pool;
	struct scene scene;
	struct attention_args args;
	float *out;

	pool_init(&pool, suite_seed(3));
	scene = scene_create(&pool, 0, 520);
	scene_fill(&scene, &pool);
	args = edge_rows(&scene, &pool);
	args.window = 1;
	out = run_attention(&pool, 2, args);
	for (size_t i = 0; i < args.rows.count * out_width(&args); i++) {
		uint32_t at[2] = {(uint32_t)(i / out_width(&args)),
			(uint32_t)(i % out_width(&args)) / args.value_dim};

		CU_ASSERT_EQUAL((double)out[i],
			naive_value(&scene, &args, at,
				args.rows.position[at[0]],
				(uint32_t)(i % args.value_dim)));
	}
	pool_release(&pool);
}

/* --- attention in its one order -------------------------------------------- */

struct literal {
	volatile float m, l, o;
};

/* Chunk `base`, positions first .. end-1 of it: (m, l, o) of element v. */
static struct literal literal_chunk(const struct scene *scene,
	const struct attention_args *args, const uint32_t at[3],
	const uint32_t span[3])
{
	const struct kv_view *kv = &args->kv;
	uint32_t base = span[0], first = span[1], end = span[2];
	size_t g = at[1] / scene->group;
	const float *q = args->q + ((size_t)at[0] * args->head_count + at[1]) *
					   args->key_dim;
	struct literal part = {-INFINITY, 0, 0};
	const unsigned char *token[ATTENTION_CHUNK_TOKENS];
	float p[ATTENTION_CHUNK_TOKENS] = {0};

	for (uint32_t t = first; t < end; t++) {
		token[t - base] = scene_token(
			scene, args->layer, args->rows.sequence[at[0]], t);
		p[t - base] =
			args->scale * dot_ref(q,
					      row_ref(token[t - base], kv->type,
						      args->key_dim, g),
					      kv->type, args->key_dim);
		part.m = p[t - base] > part.m ? p[t - base] : part.m;
	}
	for (uint32_t t = first; t < end; t++) {
		volatile float term;

		p[t - base] = expf(p[t - base] - part.m);
		term = p[t - base] *
		       dtype_load(token[t - base] + kv->value_offset_bytes,
			       kv->type, g * args->value_dim + at[2]);
		part.o = part.o + term;
	}
	part.l = sum_ref(p, ATTENTION_CHUNK_TOKENS);
	return part;
}

/*
 * The order at the top of attention_ref.c in its plainest form: element at[2]
 * of row at[0] and head at[1], one step of one chunk after the other.
 */
static float literal_attention(const struct scene *scene,
	const struct attention_args *args, const uint32_t at[3])
{
	uint32_t end = args->rows.position[at[0]] + 1;
	uint32_t first =
		args->window && end > args->window ? end - args->window : 0;
	struct literal all = {0, 0, 0};
	bool begun = false;

	for (uint32_t base = 0; base < end; base += 256) {
		uint32_t span[3] = {base, first > base ? first : base,
			end < base + 256 ? end : base + 256};
		struct literal part;
		volatile float a, b;

		if (span[1] >= base + 256)
			continue;
		part = literal_chunk(scene, args, at, span);
		if (!begun) {
			all = part;
			begun = true;
			continue;
		}
		a = all.m > part.m ? 1 : expf(all.m - part.m);
		b = all.m > part.m ? expf(part.m - all.m) : 1;
		all.m = all.m > part.m ? all.m : part.m;
		all.l = all.l * a + part.l * b;
		all.o = all.o * a + part.o * b;
	}
	return all.o / all.l;
}

static void test_attention__order_is_literal(void)
{
	uint64_t seed = suite_seed(4);

	for (uint32_t i = 0; i < 9; i++) {
		struct pool pool;
		struct scene scene;
		struct attention_args args;
		float *out;
		uint32_t wrong = 0;

		pool_init(&pool, seed + i);
		scene = scene_create(&pool, i, LENGTH_MAX);
		scene_fill(&scene, &pool);
		args = edge_rows(&scene, &pool);
		if (i % 2)
			args.window = 1 + suite_below(&pool.random, 400);
		out = run_attention(&pool, 2, args);
		for (uint32_t r = 0; r < args.rows.count; r++)
			for (uint32_t h = 0; h < args.head_count; h++) {
				uint32_t at[3] = {r, h,
					suite_below(
						&pool.random, args.value_dim)};
				float want =
					literal_attention(&scene, &args, at);

				wrong += !case_same(&want,
					out + r * out_width(&args) +
						(size_t)h * args.value_dim +
						at[2],
					1);
			}
		CU_ASSERT_EQUAL(wrong, 0);
		pool_release(&pool);
	}
}

static void test_attention__batch_and_threads_change_no_bit(void)
{
	static const uint32_t threads[] = CASE_THREAD_COUNTS;
	uint64_t seed = suite_seed(5);

	for (uint32_t i = 0; i < 9; i++) {
		struct pool pool;
		struct scene scene;
		struct attention_args args, part;
		uint32_t *order;
		float *all;

		pool_init(&pool, seed + i);
		scene = scene_create(&pool, i, i % 2 ? LENGTH_MAX : 270);
		scene_fill(&scene, &pool);
		args = edge_rows(&scene, &pool);
		args.window = i % 4 == 3 ? 100 : 0;
		all = run_attention(&pool, 1, args);
		for (size_t t = 1; t < sizeof(threads) / sizeof(threads[0]);
			t++)
			CU_ASSERT(case_same(all,
				run_attention(&pool, threads[t], args),
				args.rows.count * out_width(&args)));
		order = pool_shuffle(&pool, args.rows.count);
		for (uint32_t n = args.rows.count; n > 0; n /= 3) {
			part = pick_rows(&pool, &args, order, n);
			CU_ASSERT(case_same(run_attention(&pool, 3, part),
				pool_pick(
					&pool, all, order, n, out_width(&args)),
				n * out_width(&args)));
		}
		pool_release(&pool);
	}
}

/* Write and attend `chunk` positions at a time, sequence by sequence. */
static float *run_in_chunks(struct pool *pool, const struct scene *scene,
	const struct attention_args *all, uint32_t chunk)
{
	struct ops ops = case_ops(2);
	float *out =
		pool_get(pool, all->rows.count * out_width(all) * sizeof(*out));

	memset(scene->kv.window, 0xff, scene->window_bytes);
	for (uint32_t r = 0; r < all->rows.count;) {
		uint32_t rest = scene->length - r % scene->length;
		struct attention_args args = *all;

		args.rows.count = rest < chunk ? rest : chunk;
		args.rows.position += r;
		args.rows.sequence += r;
		args.q += r * q_width(all);
		args.out = out + r * out_width(all);
		scene_write(scene, &ops, &all->rows, r, args.rows.count);
		CU_ASSERT_EQUAL(ops.table->attention(&ops, &args), 0);
		r += args.rows.count;
	}
	ops.table->destroy(&ops);
	return out;
}

static void test_attention__prefill_is_decode(void)
{
	uint64_t seed = suite_seed(6);

	for (uint32_t i = 0; i < 4; i++) {
		struct pool pool;
		struct scene scene;
		struct attention_args args;
		size_t count;
		float *decode;

		pool_init(&pool, seed + i);
		scene = scene_create(&pool, i, 522);
		args = scene_attention(
			&scene, &pool, scene_rows(&scene, &pool));
		args.window = i == 3 ? 70 : 0;
		count = args.rows.count * out_width(&args);
		decode = run_in_chunks(&pool, &scene, &args, 1);
		for (size_t j = 0; j < count; j++)
			if (isnan(decode[j]))
				CU_FAIL_FATAL("read what was not written");
		CU_ASSERT(case_same(decode,
			run_in_chunks(&pool, &scene, &args, 100), count));
		CU_ASSERT(case_same(decode,
			run_in_chunks(&pool, &scene, &args, 522), count));
		/* All sequences in one step, everything written before. */
		scene_fill(&scene, &pool);
		CU_ASSERT(case_same(
			decode, run_attention(&pool, 3, args), count));
		pool_release(&pool);
	}
}

static void test_attention__placement_changes_no_bit(void)
{
	uint64_t seed = suite_seed(7);

	for (uint32_t i = 0; i < 12; i++) {
		struct pool pool;
		struct scene scene;
		struct attention_args args;
		float *here, *there;

		pool_init(&pool, seed + i);
		scene = scene_create(&pool, i, LENGTH_MAX);
		scene_fill(&scene, &pool);
		args = edge_rows(&scene, &pool);
		here = run_attention(&pool, 2, args);
		scene_place(&scene, &pool, scene.kv.type);
		scene_fill(&scene, &pool);
		args.kv = scene.kv;
		args.layer = scene.layer;
		there = run_attention(&pool, 2, args);
		CU_ASSERT(case_same(
			here, there, args.rows.count * out_width(&args)));
		pool_release(&pool);
	}
}

/* --- what a row may not see ------------------------------------------------ */

static void poison_token(
	const struct scene *scene, uint32_t sequence, uint32_t position)
{
	memset(scene_token(scene, scene->layer, sequence, position), 0xff,
		scene->kv.token_stride_bytes);
}

static void test_attention__hidden_positions_have_no_effect(void)
{
	uint64_t seed = suite_seed(8);

	for (uint32_t i = 0; i < 12; i++) {
		struct pool pool;
		struct scene scene;
		struct attention_args all, args;
		uint32_t row, position;
		float *before;

		pool_init(&pool, seed + i);
		scene = scene_create(&pool, i, LENGTH_MAX);
		scene_fill(&scene, &pool);
		all = edge_rows(&scene, &pool);
		row = suite_below(&pool.random, all.rows.count);
		args = pick_rows(&pool, &all, &row, 1);
		args.window = 1 + suite_below(&pool.random, 300);
		position = args.rows.position[0];
		before = run_attention(&pool, 2, args);
		for (uint32_t t = 0; t < scene.length; t++)
			if (t > position || t + args.window <= position)
				poison_token(&scene, args.rows.sequence[0], t);
		CU_ASSERT(case_same(before, run_attention(&pool, 2, args),
			out_width(&args)));
		/* The last visible one does matter. */
		poison_token(&scene, args.rows.sequence[0], position);
		CU_ASSERT(isnan(run_attention(&pool, 2, args)[0]));
		pool_release(&pool);
	}
}

static void test_attention__poison_stays_in_its_row(void)
{
	uint64_t seed = suite_seed(9);

	for (uint32_t i = 0; i < 12; i++) {
		struct pool pool;
		struct scene scene;
		struct attention_args args;
		uint32_t bad_row, bad_sequence;
		float *before, *after, *q;
		size_t q_count;

		pool_init(&pool, seed + i);
		scene = scene_create(&pool, i, LENGTH_MAX);
		scene_fill(&scene, &pool);
		args = edge_rows(&scene, &pool);
		bad_row = suite_below(&pool.random, args.rows.count);
		bad_sequence = suite_below(&pool.random, scene.sequence_count);
		before = run_attention(&pool, 2, args);
		q_count = args.rows.count * q_width(&args);
		q = pool_copy(&pool, args.q, q_count);
		q[bad_row * q_width(&args)] = i % 4 < 2 ? NAN : INFINITY;
		args.q = q;
		poison_token(&scene, bad_sequence, 0);
		after = run_attention(&pool, 2, args);
		for (uint32_t r = 0; r < args.rows.count; r++) {
			size_t at = r * out_width(&args);
			bool bad = r == bad_row ||
				   args.rows.sequence[r] == bad_sequence;

			CU_ASSERT(bad ? isnan(after[at])
				      : case_same(before + at, after + at,
						out_width(&args)));
		}
		pool_release(&pool);
	}
}

/* --- shapes of models ------------------------------------------------------- */

#define MODEL_COUNT 8

static struct scene model_scene(struct pool *pool, uint32_t i, uint32_t length)
{
	static const struct scene models[MODEL_COUNT / 2] = {
		{.kv_heads = 1,
			.group = 5,
			.key_dim = 576,
			.value_dim = 512,
			.mla = true},
		{.kv_heads = 2, .group = 4, .key_dim = 128, .value_dim = 128},
		{.kv_heads = 1,
			.group = 60,
			.key_dim = 70,
			.value_dim = 33,
			.mla = true},
		{.kv_heads = 3, .group = 1, .key_dim = 80, .value_dim = 81},
	};
	struct scene scene = models[i / 2];

	scene.length = length;
	scene.sequence_count = 1 + i % 3 / 2;
	scene_make(&scene, pool, i % 2 ? DTYPE_BF16 : DTYPE_F32);
	return scene;
}

static void test_attention__models_match_doubles(void)
{
	uint64_t seed = suite_seed(10);

	for (uint32_t i = 0; i < MODEL_COUNT; i++) {
		struct pool pool;
		struct scene scene;
		struct attention_args args;
		float *out;

		pool_init(&pool, seed + i);
		scene = model_scene(&pool, i, 259);
		scene_fill(&scene, &pool);
		args = edge_rows(&scene, &pool);
		out = run_attention(&pool, 2, args);
		CU_ASSERT_EQUAL(count_wrong_rows(&scene, &args, out), 0);
		pool_release(&pool);
	}
}

static void test_attention__models_prefill_is_decode(void)
{
	uint64_t seed = suite_seed(11);

	for (uint32_t i = 0; i < MODEL_COUNT; i++) {
		struct pool pool;
		struct scene scene;
		struct attention_args args;
		size_t count;
		float *decode;

		pool_init(&pool, seed + i);
		scene = model_scene(&pool, i, i == 2 ? 264 : 40);
		args = scene_attention(
			&scene, &pool, scene_rows(&scene, &pool));
		args.window = i % 4 == 3 ? 17 : 0;
		count = args.rows.count * out_width(&args);
		decode = run_in_chunks(&pool, &scene, &args, 1);
		CU_ASSERT(case_same(
			decode, run_in_chunks(&pool, &scene, &args, 7), count));
		CU_ASSERT(case_same(decode,
			run_in_chunks(&pool, &scene, &args, scene.length),
			count));
		pool_release(&pool);
	}
}

/* The last rows of a long sequence, the first of another: uneven work. */
static void test_attention__long_rows_are_the_same_alone(void)
{
	static const uint32_t threads[] = CASE_THREAD_COUNTS;
	uint64_t seed = suite_seed(12);

	for (uint32_t i = 0; i < 6; i++) {
		struct pool pool;
		struct scene scene = {.kv_heads = 1 + i % 2,
			.group = 1 + 3 * (i % 3),
			.key_dim = 20,
			.value_dim = 18,
			.sequence_count = 2,
			.length = 2061};
		struct attention_args all, args;
		uint32_t index[12];
		float *out;

		pool_init(&pool, seed + i);
		scene_make(&scene, &pool, i % 2 ? DTYPE_BF16 : DTYPE_F32);
		scene_fill(&scene, &pool);
		all = scene_attention(&scene, &pool, scene_rows(&scene, &pool));
		for (uint32_t r = 0; r < 12; r++)
			index[r] = 2055 + r;
		args = pick_rows(&pool, &all, index, 12);
		args.window = i == 4 ? 1400 : 0;
		out = run_attention(&pool, 1, args);
		for (uint32_t t = 1; t < 4; t++)
			CU_ASSERT(case_same(out,
				run_attention(&pool, threads[t], args),
				12 * out_width(&args)));
		for (uint32_t r = 0; r < 12; r++) {
			all = pick_rows(&pool, &args, &r, 1);
			CU_ASSERT(case_same(out + r * out_width(&args),
				run_attention(&pool, threads[r % 4], all),
				out_width(&args)));
		}
		pool_release(&pool);
	}
}

static void test_attention__avx2_is_avx512(void)
{
	uint64_t seed = suite_seed(13);

	if (!cpu_isa_works(CPU_AVX512)) {
		suite_skip("no AVX-512 here to compare AVX2 with");
		return;
	}
	for (uint32_t i = 0; i < 12 + MODEL_COUNT; i++) {
		struct pool pool;
		struct scene scene;
		struct attention_args args;

		pool_init(&pool, seed + i);
		scene = i < 12 ? scene_create(&pool, i, LENGTH_MAX)
			       : model_scene(&pool, i - 12, 300);
		scene_fill(&scene, &pool);
		args = i % 3 ? edge_rows(&scene, &pool)
			     : scene_attention(&scene, &pool,
				       scene_rows(&scene, &pool));
		args.window = i % 5 == 1 ? 100 : 0;
		CU_ASSERT(case_same(run_attention_isa(&pool, CPU_AVX2, 2, args),
			run_attention_isa(&pool, CPU_AVX512, 3, args),
			args.rows.count * out_width(&args)));
		pool_release(&pool);
	}
}

static const struct suite_case once[] = {
	SUITE_CASE(attention__order_is_literal),
	SUITE_CASE(attention__avx2_is_avx512),
};

static const struct suite_case each[] = {
	SUITE_CASE(kv_write__places_every_element),
	SUITE_CASE(attention__matches_doubles),
	SUITE_CASE(attention__window_of_one_is_the_value),
	SUITE_CASE(attention__batch_and_threads_change_no_bit),
	SUITE_CASE(attention__prefill_is_decode),
	SUITE_CASE(attention__placement_changes_no_bit),
	SUITE_CASE(attention__hidden_positions_have_no_effect),
	SUITE_CASE(attention__poison_stays_in_its_row),
	SUITE_CASE(attention__models_match_doubles),
	SUITE_CASE(attention__models_prefill_is_decode),
	SUITE_CASE(attention__long_rows_are_the_same_alone),
};

int main(void)
{
	return case_run("attention", CASE_LIST(once), CASE_LIST(each));
}
