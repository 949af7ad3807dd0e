/* fast_sample.c - choosing the next token (logits, parameters -> token) */
/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The definition is sample_ref.c's; what differs is the way there:
 *   log softmax  per segment of SEGMENT_TOKENS logits: m = the largest, s =
 *                sum of vec_exp(x - m) in sixteen lanes, chunks of FAST_CHUNK,
 *                the chunks added in double; segments ascending, in double.
 *   peaks        the largest of each lane in each chunk: 1/16 of the logits.
 *                They tell where tokens above a threshold can be, so that the
 *                few that a filter keeps are found without sorting all.
 *   top-p        S is a sum of vec_exp() over all tokens (with top-k: of
 *                exp() over the kept ones), so the edge may differ from the
 *                reference's where a token's sum hits top_p * S within 1e-6.
 *   draw         a token whose uniform number is so small that no rounding
 *                could let it win is passed over; the others are compared by
 *                the reference's own double arithmetic. So the choice among
 *                the same kept tokens is the same token.
 */
#include <assert.h>
#include <math.h>
#include <stdbool.h>
#include <string.h>

#include "gpu/cpu/backend_fast.h"
#include "gpu/cpu/sample_rule.h"

#define TOKEN_NONE UINT32_MAX

#define SEGMENT_TOKENS 8192

/* Bins of a histogram of ordered keys: sign, exponent, 3 bits. */
#define BIN_SHIFT 20
#define BIN_COUNT 4096

struct segment {
	float max;
	double sum; /* of exp(x - max); NaN: the logits are no distribution */
};

/* One row's choice on its way. */
struct draw {
	const struct sample_params *params;
	uint32_t vocab;
	const float *logit; /* [vocab] after the changes; -inf = out */
	float *own; /* [vocab] room for changed logits */
	float *peak; /* [chunk][16] */
	struct token_heap heap; /* of the candidates, room for [vocab] */
	uint32_t best; /* the first in order */
};

struct sample_job {
	struct fast_backend *fast;
	const struct sample_args *args;
	uint32_t segment_count; /* of a row */
	struct segment *segments; /* [row][segment_count] */
};

static uint32_t segments_of(uint32_t vocab)
{
	return (vocab + SEGMENT_TOKENS - 1) / SEGMENT_TOKENS;
}

static size_t chunks_of(size_t vocab)
{
	return (vocab + FAST_CHUNK - 1) / FAST_CHUNK;
}

struct fast_need FAST(fast_sample_need)(const struct ops_limits *limits)
{
	size_t vocab = limits->vocab;
	struct fast_need need = {
		.shared = fast_room(0, limits->sample_count,
			segments_of(limits->vocab) * sizeof(struct segment)),
		.scratch = fast_room(0, vocab, sizeof(float)),
	};

	need.scratch = fast_room(need.scratch, vocab, sizeof(uint32_t));
	need.scratch = fast_room(
		need.scratch, chunks_of(vocab), VEC_LANES * sizeof(float));
	return need;
}

/* Sixteen logits; lanes from `rest` on are -inf. */
static struct vec load_logits(const float *from, size_t rest)
{
	float padded[VEC_LANES];

	if (rest >= VEC_LANES)
		return vec_load(from);
	for (size_t j = 0; j < VEC_LANES; j++)
		padded[j] = j < rest ? from[j] : -INFINITY;
	return vec_load(padded);
}

static float largest_of(struct vec lanes)
{
	float lane[VEC_LANES], largest = -INFINITY;

	vec_store(lane, lanes);
	for (int j = 0; j < VEC_LANES; j++)
		largest = lane[j] > largest ? lane[j] : largest;
	return largest;
}

/* --- log softmax ----------------------------------------------------------- */

static float segment_max(const float *x, size_t count)
{
	struct vec high = vec_set(-INFINITY);

	/* In this order of arguments a NaN is no maximum. */
	for (size_t i = 0; i < count; i += VEC_LANES)
		high = vec_max(load_logits(x + i, count - i), high);
	return largest_of(high);
}

/* Sum of exp((x - shift) / divisor). */
static double sum_exp(
	const float *x, size_t count, struct vec shift, struct vec divisor)
{
	double sum = 0;

	for (size_t k = 0; k < count; k += FAST_CHUNK) {
		size_t n = count - k < FAST_CHUNK ? count - k : FAST_CHUNK;
		struct vec lanes = vec_set(0);

		for (size_t i = 0; i < n; i += VEC_LANES) {
			struct vec z =
				vec_sub(load_logits(x + k + i, n - i), shift);

			lanes = vec_add(lanes, vec_exp(vec_div(z, divisor)));
		}
		sum += (double)vec_sum(lanes);
	}
	return sum;
}

static struct segment segment_of(const float *x, size_t count)
{
	struct segment segment = {segment_max(x, count), 0};

	if (segment.max != -INFINITY) {
		/* A NaN stays one, and so does inf - inf. */
		segment.sum =
			sum_exp(x, count, vec_set(segment.max), vec_set(1));
		return segment;
	}
	for (size_t i = 0; i < count; i++)
		if (isnan(x[i]))
			segment.sum = NAN;
	return segment;
}

static void sample_segments(
	const void *arg, size_t first, size_t end, uint32_t worker)
{
	const struct sample_job *job = arg;
	size_t vocab = job->args->vocab;

	(void)worker;
	for (size_t i = first; i < end; i++) {
		size_t row = i / job->segment_count;
		size_t at = i % job->segment_count * SEGMENT_TOKENS;
		size_t rest = vocab - at;

		job->segments[i] =
			segment_of(job->args->logits + row * vocab + at,
				rest < SEGMENT_TOKENS ? rest : SEGMENT_TOKENS);
	}
}

/* log of the sum of exp(logits), NaN where they are no distribution. */
static double log_sum(
	const struct segment *segments, uint32_t count, float *max)
{
	double sum = 0;

	*max = -INFINITY;
	for (uint32_t i = 0; i < count; i++)
		if (segments[i].max > *max)
			*max = segments[i].max;
	for (uint32_t i = 0; i < count; i++) {
		double shift = (double)segments[i].max - (double)*max;

		if (isnan(segments[i].sum))
			return NAN;
		if (segments[i].max != -INFINITY)
			sum += segments[i].sum * exp(shift);
	}
	return sum > 0 ? (double)*max + log(sum) : (double)NAN;
}

/* The first token with the largest logit. */
static uint32_t first_of(const struct segment *segments, float max,
	const float *logits, uint32_t vocab)
{
	uint32_t v = 0;

	while (v < vocab && segments[v / SEGMENT_TOKENS].max != max)
		v += SEGMENT_TOKENS;
	while (v < vocab && logits[v] != max)
		v++;
	assert(v < vocab);
	return v;
}

/* --- changes --------------------------------------------------------------- */

static void apply_mask(struct draw *draw, const uint32_t *mask)
{
	for (uint32_t v = 0; v < draw->vocab; v += 32) {
		uint32_t word = mask[v / 32];

		if (word == UINT32_MAX)
			continue;
		for (uint32_t i = 0; i < 32 && v + i < draw->vocab; i++)
			if (!(word >> i & 1u))
				draw->own[v + i] = -INFINITY;
	}
}

static bool has_changes(const struct sample_params *params)
{
	return params->bias_count > 0 || params->mask || params->use_count > 0;
}

static void change_logits(struct draw *draw, const float *logits)
{
	const struct sample_params *params = draw->params;

	draw->logit = logits;
	if (!has_changes(params))
		return;
	draw->logit = draw->own;
	memcpy(draw->own, logits, draw->vocab * sizeof(*logits));
	for (uint32_t i = 0; i < params->bias_count; i++) {
		assert(params->biases[i].token < draw->vocab);
		draw->own[params->biases[i].token] += params->biases[i].bias;
	}
	if (params->mask)
		apply_mask(draw, params->mask);
	for (uint32_t i = 0; i < params->use_count; i++) {
		const struct token_use *use = &params->uses[i];

		assert(use->token < draw->vocab);
		sample_penalise(params, use, &draw->own[use->token]);
	}
}

/* --- peaks ----------------------------------------------------------------- */

/*
 * The largest logit of each lane of each chunk. False: one is NaN or +inf,
 * which alone are not 0 less themselves once -inf is a finite number.
 */
static bool find_peaks(const float *logit, size_t vocab, float *peak)
{
	struct vec lowest = vec_set(-3.40282347e38f), wrong = vec_set(0);

	for (size_t k = 0; k < vocab; k += FAST_CHUNK) {
		size_t n = vocab - k < FAST_CHUNK ? vocab - k : FAST_CHUNK;
		struct vec high = vec_set(-INFINITY);

		for (size_t i = 0; i < n; i += VEC_LANES) {
			struct vec x = load_logits(logit + k + i, n - i);
			struct vec y = vec_max(lowest, x);

			high = vec_max(x, high);
			wrong = vec_add(wrong, vec_sub(y, y));
		}
		vec_store(peak + k / VEC_LANES, high);
	}
	return vec_sum(wrong) == 0;
}

/* The first token in order, TOKEN_NONE: all are out. */
static uint32_t find_best(const struct draw *draw)
{
	size_t count = chunks_of(draw->vocab) * VEC_LANES;
	float max = -INFINITY;
	size_t at = 0;
	uint32_t v;

	for (size_t i = 0; i < count; i++)
		if (draw->peak[i] > max) {
			max = draw->peak[i];
			at = i;
		}
	if (max == -INFINITY)
		return TOKEN_NONE;
	v = (uint32_t)(at / VEC_LANES * FAST_CHUNK);
	while (draw->logit[v] != max)
		v++;
	return v;
}

/* Put `token` into the list of the best `count`, if it belongs there. */
static void list_insert(const float *logits, uint32_t token, uint32_t count,
	struct sample_result *out)
{
	uint32_t *top = out->top_token;
	uint32_t at = out->top_count;

	if (at == count && !token_before(logits, token, top[at - 1]))
		return;
	if (at < count)
		out->top_count++;
	else
		at--;
	for (; at > 0 && token_before(logits, token, top[at - 1]); at--)
		top[at] = top[at - 1];
	top[at] = token;
}

/* The best `count` of logits, whose peaks are peak. */
static void list_top(const float *logits, uint32_t vocab, const float *peak,
	uint32_t count, struct sample_result *out)
{
	size_t peak_count = count > 0 ? chunks_of(vocab) * VEC_LANES : 0;

	for (size_t i = 0; i < peak_count; i++) {
		size_t begin = i / VEC_LANES * FAST_CHUNK;
		size_t end =
			begin + FAST_CHUNK < vocab ? begin + FAST_CHUNK : vocab;

		if (peak[i] == -INFINITY ||
			(out->top_count == count &&
				peak[i] < logits[out->top_token[count - 1]]))
			continue;
		for (size_t v = begin + i % VEC_LANES; v < end; v += VEC_LANES)
			if (logits[v] != -INFINITY)
				list_insert(logits, (uint32_t)v, count, out);
	}
}

/* --- filters --------------------------------------------------------------- */

static double scaled(const struct draw *draw, uint32_t token)
{
	double best = (double)draw->logit[draw->best];

	return ((double)draw->logit[token] - best) /
	       (double)draw->params->temperature;
}

/* Candidates: the tokens with a logit of `least` or more, above -inf. */
static void collect(struct draw *draw, float least)
{
	size_t peak_count = chunks_of(draw->vocab) * VEC_LANES;

	draw->heap.logit = draw->logit;
	draw->heap.count = 0;
	for (size_t i = 0; i < peak_count; i++) {
		size_t begin = i / VEC_LANES * FAST_CHUNK;
		size_t end = begin + FAST_CHUNK < draw->vocab
				     ? begin + FAST_CHUNK
				     : draw->vocab;

		if (draw->peak[i] < least || draw->peak[i] == -INFINITY)
			continue;
		for (size_t v = begin + i % VEC_LANES; v < end; v += VEC_LANES)
			if (draw->logit[v] >= least &&
				draw->logit[v] != -INFINITY)
				draw->heap.tokens[draw->heap.count++] =
					(uint32_t)v;
	}
	token_heap_build(&draw->heap);
}

/* Bits that order like the numbers do; -0 is 0. */
static uint32_t key_of(float x)
{
	float canonical = x + 0.0f;
	uint32_t bits;

	memcpy(&bits, &canonical, sizeof(bits));
	return bits >> 31 ? ~bits : bits | 0x80000000u;
}

/* A logit that at least `count` tokens reach; -inf: there are fewer peaks. */
static float peak_threshold(const struct draw *draw, uint32_t count)
{
	uint32_t bins[BIN_COUNT] = {0}, bin = BIN_COUNT, bits, seen = 0;
	size_t peak_count = chunks_of(draw->vocab) * VEC_LANES;
	float least;

	for (size_t i = 0; i < peak_count; i++)
		if (draw->peak[i] != -INFINITY)
			bins[key_of(draw->peak[i]) >> BIN_SHIFT]++;
	while (bin > 0 && seen < count)
		seen += bins[--bin];
	if (seen < count)
		return -INFINITY;
	bits = bin << BIN_SHIFT;
	bits = bits >> 31 ? bits & 0x7fffffffu : ~bits;
	memcpy(&least, &bits, sizeof(least));
	return least;
}

/* Of the first `keep` candidates, those that reach top_p * total; 0: none. */
static uint32_t cut_top_p(struct draw *draw, uint32_t keep, double total)
{
	double sum = 0;

	for (uint32_t rank = 0; rank < keep; rank++) {
		sum += exp(scaled(draw, token_heap_ranked(&draw->heap, rank)));
		if (sum >= (double)draw->params->top_p * total)
			return rank + 1;
	}
	return 0;
}

/* Number of tokens that top-k, and then top-p, keep. */
static uint32_t keep_top_k(struct draw *draw)
{
	uint32_t keep = draw->params->top_k, cut;
	double total = 0;

	collect(draw, peak_threshold(draw, keep));
	keep = keep < draw->heap.count ? keep : draw->heap.count;
	if (draw->params->top_p >= 1)
		return keep;
	for (uint32_t rank = 0; rank < keep; rank++)
		total +=
			exp(scaled(draw, token_heap_ranked(&draw->heap, rank)));
	cut = cut_top_p(draw, keep, total);
	return cut > 0 ? cut : keep;
}

/*
 * Number of tokens that top-p alone keeps. All tokens of e < tau together
 * have less than half of what may be left out, so the edge is above tau; the
 * sum of all is precise to about 1e-6, which is where all of them are looked
 * at.
 */
static uint32_t keep_top_p(struct draw *draw)
{
	const struct sample_params *params = draw->params;
	float best = draw->logit[draw->best];
	double left = 1 - (double)params->top_p;
	double total = sum_exp(draw->logit, draw->vocab, vec_set(best),
		vec_set(params->temperature));
	double tau = left * total / 2 / (double)draw->vocab;
	double least =
		(double)best + (double)params->temperature * (log(tau) - 1e-3);
	uint32_t keep;

	collect(draw, nextafterf((float)least, -INFINITY));
	keep = cut_top_p(draw, draw->heap.count, total);
	if (keep > 0)
		return keep;
	collect(draw, -INFINITY);
	keep = cut_top_p(draw, draw->heap.count, total);
	return keep > 0 ? keep : draw->heap.count;
}

/* --- the draw -------------------------------------------------------------- */

struct winner {
	uint32_t token;
	double value;
};

/* Let a kept token try; its value is the reference's, bit by bit. */
static void try_token(const struct draw *draw, uint32_t token, uint64_t random,
	struct winner *winner)
{
	double z = scaled(draw, token), value;

	if (draw->params->min_p > 0 && exp(z) < (double)draw->params->min_p)
		return;
	value = z - log(-log(philox_uniform(random)));
	if (value > winner->value ||
		(value == winner->value && token < winner->token)) {
		winner->value = value;
		winner->token = token;
	}
}

/* Among the first `keep` candidates, which are in order. */
static uint32_t draw_ranked(struct draw *draw, uint32_t keep)
{
	struct winner winner = {TOKEN_NONE, -INFINITY};

	for (uint32_t rank = 0; rank < keep; rank++) {
		uint32_t token = token_heap_ranked(&draw->heap, rank);

		if (scaled(draw, token) + GUMBEL_MAX < winner.value)
			break;
		try_token(draw, token, sample_random(draw->params, token),
			&winner);
	}
	return winner.token;
}

/* Word 1 of sample_random(), for the sixteen tokens from `first` on. */
static struct vec_int random_words(
	const struct sample_params *params, uint32_t first)
{
	uint32_t key0 = (uint32_t)params->seed;
	uint32_t key1 = (uint32_t)(params->seed >> 32);
	struct vec_int c0 = vec_int_from(first);
	struct vec_int c1 = vec_int_set(params->position);
	struct vec_int c2 = vec_int_set(params->choice);
	struct vec_int c3 = vec_int_set(SAMPLE_STREAM);

	for (int round = 0; round < PHILOX_ROUNDS; round++) {
		struct vec_int a_low, a_high, b_low, b_high;

		vec_int_mul(c0, PHILOX_MULTIPLIER_0, &a_low, &a_high);
		vec_int_mul(c2, PHILOX_MULTIPLIER_1, &b_low, &b_high);
		c0 = vec_int_xor(vec_int_xor(b_high, c1), vec_int_set(key0));
		c2 = vec_int_xor(vec_int_xor(a_high, c3), vec_int_set(key1));
		c1 = b_low;
		c3 = a_low;
		key0 += PHILOX_WEYL_0;
		key1 += PHILOX_WEYL_1;
	}
	return c1;
}

/*
 * Bit j: token first + j, if it is one of `count`, may beat winner. It needs
 * g > d = winner - z, that is -log u < e^-d; and -log u >= 1 - u. So it has no
 * chance if 1 - u > e^-d, nor if even the largest g is below d. Compared in
 * units of 2^-24, with a part in 1000 for the rounding.
 */
static uint32_t find_rivals(
	const struct draw *draw, size_t first, size_t count, double winner)
{
	struct vec x = load_logits(draw->logit + first, count);
	struct vec z = vec_div(vec_sub(x, vec_set(draw->logit[draw->best])),
		vec_set(draw->params->temperature));
	struct vec limit = vec_exp(vec_sub(z, vec_set((float)winner)));
	uint32_t rivals = vec_not_above(vec_set(1e-16f), limit);
	struct vec_int below;

	if (rivals == 0)
		return 0;
	below = vec_int_xor(random_words(draw->params, (uint32_t)first),
		vec_int_set(UINT32_MAX));
	limit = vec_mul(limit, vec_set(0x1p24f * 1.001f));
	return rivals & vec_not_above(vec_int_upper(below), limit);
}

/* Among all tokens that are not out. */
static uint32_t draw_all(const struct draw *draw)
{
	const struct sample_params *params = draw->params;
	struct winner winner = {TOKEN_NONE, -INFINITY};

	try_token(draw, draw->best, sample_random(params, draw->best), &winner);
	for (size_t v = 0; v < draw->vocab; v += VEC_LANES) {
		uint32_t rivals =
			find_rivals(draw, v, draw->vocab - v, winner.value);

		for (; rivals; rivals &= rivals - 1) {
			uint32_t token =
				(uint32_t)v + (uint32_t)__builtin_ctz(rivals);

			try_token(draw, token, sample_random(params, token),
				&winner);
		}
	}
	return winner.token;
}

/* --- a row ----------------------------------------------------------------- */

static uint32_t choose(struct draw *draw)
{
	const struct sample_params *params = draw->params;

	if (params->temperature == 0)
		return draw->best;
	if (params->top_k > 0 && params->top_k < draw->vocab)
		return draw_ranked(draw, keep_top_k(draw));
	if (params->top_p < 1)
		return draw_ranked(draw, keep_top_p(draw));
	return draw_all(draw);
}

/* The greedy choice among unchanged logits needs only their maxima. */
static bool is_plain(const struct sample_params *params)
{
	return params->temperature == 0 && params->top_count == 0 &&
	       !has_changes(params);
}

static void sample_row(struct draw *draw, const float *logits,
	const struct segment *segments, struct sample_result *out)
{
	const struct sample_params *params = draw->params;
	float max;
	double total = log_sum(segments, segments_of(draw->vocab), &max);

	sample_check(params);
	memset(out, 0, sizeof(*out));
	out->token = TOKEN_NONE;
	if (isnan(total))
		return;
	if (is_plain(params)) {
		out->token = first_of(segments, max, logits, draw->vocab);
		out->logprob = (float)((double)logits[out->token] - total);
		return;
	}
	change_logits(draw, logits);
	if (!find_peaks(draw->logit, draw->vocab, draw->peak))
		return;
	draw->best = find_best(draw);
	if (draw->best == TOKEN_NONE)
		return;
	out->token = choose(draw);
	out->logprob = (float)((double)logits[out->token] - total);
	if (params->top_count > 0 && draw->logit != logits)
		find_peaks(logits, draw->vocab, draw->peak);
	list_top(logits, draw->vocab, draw->peak, params->top_count, out);
	for (uint32_t i = 0; i < out->top_count; i++)
		out->top_logprob[i] =
			(float)((double)logits[out->top_token[i]] - total);
}

static void sample_rows(
	const void *arg, size_t first, size_t end, uint32_t worker)
{
	const struct sample_job *job = arg;
	const struct sample_args *args = job->args;
	size_t vocab = args->vocab;
	size_t heap_at = fast_room(0, vocab, sizeof(float));
	size_t peak_at = fast_room(heap_at, vocab, sizeof(uint32_t));
	size_t bytes =
		fast_room(peak_at, chunks_of(vocab), VEC_LANES * sizeof(float));
	unsigned char *scratch = fast_scratch(job->fast, worker, bytes);
	struct draw draw = {
		.vocab = args->vocab,
		.own = (void *)scratch,
		.heap.tokens = (void *)(scratch + heap_at),
		.peak = (void *)(scratch + peak_at),
	};

	for (size_t row = first; row < end; row++) {
		draw.params = &args->params[row];
		sample_row(&draw, args->logits + row * vocab,
			job->segments + row * job->segment_count,
			&args->out[row]);
	}
}

int FAST(fast_sample)(struct ops *ops, const struct sample_args *args)
{
	struct sample_job job = {fast_of(ops), args, 0, NULL};
	uint64_t cost_ns = 0;
	size_t count;

	assert(args->vocab > 0);
	job.segment_count = segments_of(args->vocab);
	count = (size_t)args->count * job.segment_count;
	job.segments = fast_shared(job.fast, count * sizeof(*job.segments));
	workers_run_cost(job.fast->workers, count,
		(uint64_t)args->count * args->vocab, sample_segments, &job);
	for (uint32_t i = 0; i < args->count; i++)
		cost_ns += is_plain(&args->params[i]) ? 1000 : 4 * args->vocab;
	workers_run_cost(
		job.fast->workers, args->count, cost_ns, sample_rows, &job);
	return 0;
}
