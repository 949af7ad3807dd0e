/* ops.h - the operations of a forward pass, one table for every back end */
/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Why:   the engine is written once, against this table. The plain C version
 *        (gpu/cpu, files *_ref.c) is the specification; fast CPU versions and CUDA
 *        have the same signatures and pass the same tests.
 *
 * Shapes: R rows in a step (tokens of any mix of sequences), H hidden, V
 *        vocabulary, E experts, K experts per token, I expert width. All
 *        activations are float, row major; a *_stride counts elements from
 *        one row to the next. Weights are [out][in], row major, in the type
 *        that they were stored in.
 *
 * One arithmetic per output element, whatever the batch: an output element
 *        depends only on its own row, its weights and its cache, and is
 *        computed by the same instructions in the same order for every R,
 *        every chunking and every number of threads. For the reference:
 *        - a dot product runs over k ascending in chunks of 256; in a chunk 16
 *          lanes, lane j adds the k with k % 16 == j in ascending order;
 *          lanes are then added in halves (j with j+8, +4, +2, +1) and
 *          the chunk's sum is added to the running sum. No fused
 *          multiply-add.
 *        - attention takes keys in chunks of ATTENTION_CHUNK_TOKENS at
 *          absolute positions; each chunk yields (max, sum, weighted values);
 *          chunks are merged in ascending order, for prefill and decode
 *          alike.
 *        - a row's experts are added in top-k rank order. Ties in any choice
 *          go to the lower logical expert id or token id.
 *        - randomness is a function of (seed, choice, position, token).
 *
 * Adapters: every row carries the adapter instance it runs under. The router
 *        maps logical experts to slots through that instance's row of the
 *        expert map (memmgr/experts.h); low-rank updates are found through
 *        the same index. A row without an adapter computes the same bits
 *        whether or not others have one.
 *
 * Memory: all pointers are addresses of the back end's device; arrays stay
 *        valid until the step's fence. Outputs may alias inputs only where
 *        said. Nothing is allocated by an operation: the back end sizes its
 *        scratch in ops_create() from struct ops_limits.
 * Errors: 0, or -EIO when the device failed. Arguments are the engine's:
 *        wrong ones are our bug and assert.
 * Threads: one caller per back end instance; the CPU back ends fan out to
 *        their own workers and return when the work is done, CUDA returns
 *        when it is queued.
 */
#ifndef HEDDLE_GPU_OPS_H
#define HEDDLE_GPU_OPS_H

#include <stdbool.h>
#include <stdint.h>

#include "base/dtype.h"
#include "base/weight_format.h"

#ifdef __cplusplus
extern "C" {
#endif

#define LORA_NONE UINT32_MAX

/* A matrix [rows][cols]. */
struct weight {
	const void *data; /* NULL = the model has none */
	enum dtype type;
	enum weight_layout layout; /* one that the back end reads */
	uint32_t rows; /* outputs */
	uint32_t cols; /* inputs */
};

/*
 * Low-rank update of one linear for one adapter: y += scale * B (A x)
 * (LoRA, arXiv 2106.09685). rank 0: this adapter has none here.
 */
struct lora_pair {
	const void *a; /* [rank][in] */
	const void *b; /* [out][rank] */
	enum dtype type;
	uint32_t rank;
	float scale;
};

/* Who is in the step; arrays [R] on the device, filled from struct step. */
struct rows {
	uint32_t count; /* R */
	const uint32_t *token; /* [R] token id */
	const uint32_t *position; /* [R] absolute position in its sequence */
	const uint32_t *sequence; /* [R] row of the block table */
	const uint32_t *instance; /* [R] row of the expert map, 0 = base */
	const uint32_t *lora; /* [R] row of every lora_pair array, LORA_NONE =
				 no update; NULL = nobody has one */
};

/* The KV cache of a step (memmgr/kv.h has the layout). */
struct kv_view {
	void *window; /* page p is at window + p * page_size_bytes */
	uint64_t page_size_bytes;
	uint64_t layer_stride_bytes;
	uint64_t token_stride_bytes;
	uint64_t value_offset_bytes; /* of V in a token; 0 when V is the
					beginning of K (MLA) */
	uint32_t block_tokens;
	uint32_t pages_per_block;
	uint32_t layers_per_page;
	enum dtype type; /* f32 or bf16 */
	const uint32_t *block_table; /* [sequence][table_stride] pages */
	uint32_t table_stride;
};

/* out[r][:] = table[token[r]][:] * scale. */
struct embed_args {
	struct rows rows;
	struct weight table; /* [V][H]; token ids were checked against V */
	float scale;
	float *out; /* [R][H] */
};

/*
 * out[r][i] = clamp(x[r][i] / sqrt(mean_i(x[r]^2) + epsilon) * weight[i])
 * (RMSNorm, arXiv 1910.07467), where clamp limits to [-clip, clip] when clip
 * > 0 (OLMoE clips its queries and keys after the norm). out may be x when
 * the strides are equal.
 */
struct rms_norm_args {
	uint32_t row_count;
	uint32_t width;
	const float *x;
	uint32_t x_stride;
	const float *weight; /* [width] */
	float epsilon;
	float clip; /* 0 = none */
	float *out;
	uint32_t out_stride;
};

/*
 * out[r][n] = clamp((x[r] . weight[n] + bias[n]) * scale + lora), where clamp
 * limits to [-clip, clip] when clip > 0. out must not overlap x.
 */
struct linear_args {
	struct rows rows; /* count and lora are used */
	const float *x;
	uint32_t x_stride;
	struct weight weight; /* [N][K] */
	const float *bias; /* [N] or NULL */
	float scale; /* 1 = none */
	float clip; /* 0 = none */
	const struct lora_pair *lora; /* [lora row] or NULL */
	float *out;
	uint32_t out_stride;
};

/*
 * out[r][i] = silu(gate[i] . x[r]) * (up[i] . x[r]), each product with its
 * low-rank update as in linear_args, silu(g) = g / (1 + exp(-g)). gate and up
 * have the same shape; out must not overlap x.
 */
struct gate_up_args {
	struct rows rows; /* count and lora are used */
	const float *x;
	uint32_t x_stride;
	struct weight gate, up; /* [N][K] */
	const struct lora_pair *gate_lora, *up_lora; /* [lora row] or NULL */
	float *out;
	uint32_t out_stride;
};

/*
 * Per-head products with the two halves of MLA's kv_b_proj
 * [head][nope + value][latent] (DeepSeek-V2, arXiv 2405.04434, section
 * 2.1.2: absorbed form).
 *   absorb: out[r][h][l] = sum_n x[r][h][n] * w[h][n][l],        n < nope
 *           and out[r][h][latent + t] = x[r][h][nope + t],       t < tail
 *           (the rotary part of the query, which meets the rotary key)
 *   expand: out[r][h][v] = sum_l x[r][h][l] * w[h][nope + v][l], v < value
 * LoRA on kv_b_proj is applied in the same form:
 *   absorb adds scale * (x[r][h] B[h, :nope]) A, expand adds
 *   scale * B[h, nope:] (A x[r][h]).
 */
struct mla_args {
	struct rows rows;
	uint32_t head_count, nope, value, latent;
	uint32_t tail; /* absorb only; 0 = nothing is carried over */
	struct weight kv_b; /* [head_count * (nope + value)][latent] */
	const struct lora_pair *lora; /* [lora row] or NULL */
	const float *x; /* row r at x + r * x_stride, head h at + h *
			   x_head_stride */
	uint32_t x_stride, x_head_stride;
	float *out;
	uint32_t out_stride, out_head_stride;
};

/*
 * Rotary embedding in place (RoFormer, arXiv 2104.09864) on `rotary` elements
 * of each head, pair (a, b) -> (a cos - b sin, b cos + a sin), angle =
 * position * inv_freq[i], cos and sin multiplied by `scale` (YaRN's mscale
 * ratio; 1 = none). Pair i is (2i, 2i + 1) when interleaved, else
 * (i, i + rotary / 2).
 */
struct rope_args {
	struct rows rows;
	uint32_t head_count;
	uint32_t rotary; /* even */
	bool interleaved;
	const float *inv_freq; /* [rotary / 2] */
	float scale;
	float *x; /* row r, head h: x + r * stride + h * head_stride */
	uint32_t stride, head_stride;
};

/* Write each row's key and value at its position of its sequence. */
struct kv_write_args {
	struct rows rows;
	struct kv_view kv;
	uint32_t layer;
	uint32_t key_width, value_width; /* value_width 0: keys only (MLA) */
	const float *key; /* [R][key_stride] */
	uint32_t key_stride;
	const float *value; /* [R][value_stride] */
	uint32_t value_stride;
};

/*
 * out[r][h] = sum_t softmax_t(scale * q[r][h] . K[t][g(h)]) V[t][g(h)] over
 * the positions t <= position[r], and t > position[r] - window when window >
 * 0, of the row's sequence; g(h) = h / (head_count / kv_head_count). Keys of
 * the step's own rows have been written before. MLA is the case
 * kv_head_count = 1, key_dim = latent + rope, value_dim = latent, with V the
 * beginning of K.
 */
struct attention_args {
	struct rows rows;
	struct kv_view kv;
	uint32_t layer;
	uint32_t head_count, kv_head_count;
	uint32_t key_dim, value_dim;
	uint32_t window; /* 0 = all */
	float scale;
	const float *q; /* [R][head_count][key_dim] */
	float *out; /* [R][head_count][value_dim] */
};

enum router_score {
	ROUTER_SOFTMAX, /* softmax over all experts, then choose */
	ROUTER_SIGMOID, /* sigmoid of each logit (DeepSeek-V3) */
	ROUTER_TOPK_SOFTMAX /* choose by logit, softmax over the chosen
			       (Granite-MoE) */
};

enum router_group {
	ROUTER_GROUP_NONE,
	ROUTER_GROUP_MAX, /* a group's score is its best expert's
			     (DeepSeek-V2 group_limited_greedy) */
	ROUTER_GROUP_TOP2 /* the sum of its two best (DeepSeek-V3 noaux_tc) */
};

struct router_params {
	enum router_score score;
	enum router_group group;
	uint32_t expert_count, topk;
	uint32_t group_count, group_topk; /* used unless ROUTER_GROUP_NONE */
	bool normalise; /* divide the chosen weights by their sum */
	float normalise_epsilon; /* added to the sum */
	float scale; /* multiplies the weights at the end */
};

/*
 * Choose each row's experts and map them to slots in the same pass.
 *   logits = gate x; score = params.score(logits)
 *   choice = score + bias (bias only chooses, it never weighs); experts of
 *     groups that lost are out of the choice (as -inf, never as 0)
 *   experts = top-k of choice, best first, ties to the lower id
 *   weight = score of each chosen expert, normalised and scaled
 *   slot = map[instance[r] * instance_stride + expert], without a map the
 *     expert itself
 */
struct router_args {
	struct rows rows;
	struct router_params params;
	const float *x; /* [R][H] */
	struct weight gate; /* [E][H] */
	const float *bias; /* [E] or NULL */
	const uint16_t *map; /* this layer's part of the expert map, or NULL */
	uint32_t instance_stride;
	uint16_t *slot; /* [R][K] */
	uint16_t *expert; /* [R][K] logical ids */
	float *weight; /* [R][K] */
};

/*
 * out[r][k] = down(silu(gate x[r]) * (up x[r])) of the expert in slot[r][k];
 * each touched expert is read once per step. Slot s begins at tensor +
 * slot_offset[s]; its layout is memmgr/experts.h's.
 */
struct moe_args {
	struct rows rows;
	uint32_t topk, hidden, inter;
	const float *x; /* [R][H] */
	const uint16_t *slot; /* [R][K] */
	const uint16_t *expert; /* [R][K], for lora */
	const void *tensor;
	const uint64_t *slot_offset;
	uint64_t up_offset_bytes, down_offset_bytes;
	enum dtype type;
	enum weight_layout layout; /* of each of the three matrices */
	const struct lora_pair *lora; /* [lora row][expert][gate, up, down] or
					 NULL */
	uint32_t lora_stride; /* pairs from one lora row to the next */
	float *out; /* [R][K][H] */
};

/*
 * x[r] += scale * (sum_k weight[r][k] * expert_out[r][k] + shared[r]), k
 * ascending (top-k rank order), shared last.
 */
struct combine_args {
	uint32_t row_count, topk, hidden;
	const float *expert_out; /* [R][K][H] */
	const float *weight; /* [R][K] */
	const float *shared; /* [R][H] or NULL */
	float scale;
	float *x; /* [R][H] */
};

/* x[r][i] += scale * y[r][i]. */
struct add_args {
	uint32_t row_count, width;
	const float *y;
	float scale;
	float *x;
};

/* x[r][:] *= sigmoid(gate[r]) (the shared expert of Qwen2-MoE). */
struct sigmoid_gate_args {
	uint32_t row_count, width;
	const float *gate; /* [R] */
	float *x; /* [R][width] */
};

/* An operation that goes row by row: a link of a chain. */
enum row_op_kind {
	ROW_RMS_NORM,
	ROW_ROPE,
	ROW_KV_WRITE,
	ROW_COMBINE,
	ROW_ADD,
	ROW_SIGMOID_GATE,
	ROW_OP_KIND_COUNT
};

struct row_op {
	enum row_op_kind kind;
	uint32_t group; /* its rows for each row of the chain: the heads of a
			   norm over heads, else 1 */
	union {
		struct rms_norm_args rms_norm;
		struct rope_args rope;
		struct kv_write_args kv_write;
		struct combine_args combine;
		struct add_args add;
		struct sigmoid_gate_args sigmoid_gate;
	} args;
};

#define OPS_CHAIN_COUNT_MAX 8

/*
 * Operations one after the other, the same bits as by themselves. What one
 * reads of another's output is of the same row of the chain (rows r * group ..
 * of its own), so a row may go through all of them before the next row does.
 */
struct chain_args {
	uint32_t row_count;
	uint32_t count; /* 1 .. OPS_CHAIN_COUNT_MAX */
	const struct row_op *list; /* [count], each of row_count * group rows */
};

/* out[i][:] = x[index[i]][:]. */
struct gather_args {
	uint32_t count, width;
	const uint32_t *index; /* [count] rows of x */
	const float *x;
	float *out;
};

/* A token that the sequence already holds, for the penalties. */
struct token_use {
	uint32_t token;
	uint32_t output_count; /* times in the output */
	uint32_t prompt_count; /* times in the prompt */
};

struct logit_bias {
	uint32_t token;
	float bias;
};

/*
 * How one row is sampled. Order: bias, mask, repetition, presence and
 * frequency penalty, temperature, top-k, top-p, min-p, draw. Defaults that
 * change nothing are in brackets.
 */
struct sample_params {
	float temperature; /* 0 = greedy, also when the draw is impossible */
	uint32_t top_k; /* [0] keep the k best; ties at the edge go to the
			   lower token id */
	float top_p; /* [1] keep the smallest set, best first, whose
			probability reaches this (arXiv 1904.09751) */
	float min_p; /* [0] keep p >= min_p * max p (arXiv 2407.01082) */
	float repetition_penalty; /* [1] over prompt and output: logit / p if
				     positive, logit * p if not (CTRL, arXiv
				     1909.05858) */
	float presence_penalty; /* [0] subtracted if in the output */
	float frequency_penalty; /* [0] times the count in the output */
	uint64_t seed;
	uint32_t choice; /* index of the choice (n), part of the counter */
	uint32_t position; /* of the token being drawn */
	uint32_t top_count; /* alternatives to report, <= LOGPROB_TOP_MAX */
	const struct token_use *uses; /* distinct tokens */
	uint32_t use_count;
	const struct logit_bias *biases; /* distinct tokens */
	uint32_t bias_count;
	const uint32_t *mask; /* bit v % 32 of word v / 32: token v is allowed;
				 NULL = all */
};

/*
 * logprobs are those of the model itself: log softmax of the logits before
 * any of the changes above.
 */
struct sample_result {
	uint32_t token; /* UINT32_MAX: nothing was allowed, or the logits
			   hold a NaN: the request fails by name */
	float logprob;
	uint32_t top_count;
	uint32_t top_token[20]; /* LOGPROB_TOP_MAX, best first */
	float top_logprob[20];
};

struct sample_args {
	uint32_t count, vocab;
	const float *logits; /* [count][V], left unchanged */
	const struct sample_params *params; /* [count] */
	struct sample_result *out; /* [count] */
};

/* Upper bounds of what the operations will be called with. */
struct ops_limits {
	uint32_t row_count, sample_count;
	uint32_t hidden, vocab;
	uint32_t expert_count, topk, inter;
	uint32_t head_count, key_dim, value_dim;
	uint32_t lora_rank; /* 0 = no adapters with LoRA */
};

#define OPS_LINEAR_COUNT_MAX 4

struct ops {
	const struct ops_table *table;
	void *context; /* the back end's */
};

struct ops_table {
	const char *name; /* "reference", ... as heddlectl info shows it */
	void (*destroy)(struct ops *ops);
	int (*embed)(struct ops *ops, const struct embed_args *args);
	int (*rms_norm)(struct ops *ops, const struct rms_norm_args *args);
	/*
	 * `count` linears that do not depend on each other, in one pass over
	 * the threads: count 1 .. OPS_LINEAR_COUNT_MAX, the same rows in all.
	 */
	int (*linear)(struct ops *ops, const struct linear_args *args,
		uint32_t count);
	int (*gate_up)(struct ops *ops, const struct gate_up_args *args);
	int (*mla_absorb)(struct ops *ops, const struct mla_args *args);
	int (*mla_expand)(struct ops *ops, const struct mla_args *args);
	int (*rope)(struct ops *ops, const struct rope_args *args);
	int (*kv_write)(struct ops *ops, const struct kv_write_args *args);
	int (*attention)(struct ops *ops, const struct attention_args *args);
	int (*router)(struct ops *ops, const struct router_args *args);
	int (*moe)(struct ops *ops, const struct moe_args *args);
	int (*combine)(struct ops *ops, const struct combine_args *args);
	int (*add)(struct ops *ops, const struct add_args *args);
	int (*sigmoid_gate)(
		struct ops *ops, const struct sigmoid_gate_args *args);
	/* May be NULL. */
	int (*chain)(struct ops *ops, const struct chain_args *args);
	int (*gather)(struct ops *ops, const struct gather_args *args);
	int (*sample)(struct ops *ops, const struct sample_args *args);
	int (*fence)(struct ops *ops); /* all queued work has ended */
};

#ifdef __cplusplus
}
#endif
#endif
