/* rope.c - rotary frequencies (rope_scaling or rope_parameters -> inv_freq) */
/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Plain: inv_freq[i] = theta^(-2i / dim) (RoFormer, arXiv 2104.09864).
 * YaRN (arXiv 2309.00071) keeps the pairs that turn often within the
 * positions that the model was trained on, slows the others down by
 * `factor`, and blends between. What it multiplies attention by differs:
 * DeepSeek puts a ratio of two gains on cos and sin and the square of one of
 * them into the softmax scale; the other families have one gain on both.
 */
#include <assert.h>
#include <math.h>
#include <string.h>

#include "engine/config_parts.h"

#define FACTOR_MAX 1e6
#define THETA_MAX 1e15
#define GAIN_MAX 1e3

struct yarn {
	double factor;
	double beta_fast, beta_slow; /* turns within original_count */
	double mscale, mscale_all_dim;
	double attention_factor; /* 0 = not given */
	double original_count; /* positions of the training */
	bool truncate; /* the ends of the ramp to whole pairs */
};

/* 0.1 m ln(factor) + 1 (YaRN, equation 22, with DeepSeek's multiplier). */
static double gain(double factor, double m)
{
	return factor <= 1 ? 1 : 0.1 * m * log(factor) + 1;
}

/* The pair, as a real number, that turns `turns` times in `count` tokens. */
static double turning_pair(double turns, double dim, double theta, double count)
{
	return dim * log(count / (turns * 2 * M_PI)) / (2 * log(theta));
}

static void set_frequencies(
	struct model_rope *rope, double theta, const struct yarn *yarn)
{
	double dim = rope->dim, low = 0, high = 0;

	if (yarn) {
		low = turning_pair(
			yarn->beta_fast, dim, theta, yarn->original_count);
		high = turning_pair(
			yarn->beta_slow, dim, theta, yarn->original_count);
		if (yarn->truncate) {
			low = floor(low);
			high = ceil(high);
		}
		low = fmax(low, 0);
		high = fmin(high, dim - 1);
		if (low == high)
			high += 0.001; /* the reference's own guard */
	}
	for (uint32_t i = 0; i < rope->dim / 2; i++) {
		double freq = pow(theta, -2.0 * i / dim), ramp;

		if (yarn) {
			ramp = fmin(fmax((i - low) / (high - low), 0), 1);
			freq = freq / yarn->factor * ramp + freq * (1 - ramp);
		}
		rope->inv_freq[i] = (float)freq;
	}
}

static void read_yarn(struct fields *fields, const struct model_config *config,
	struct yarn *yarn)
{
	bool deepseek = family_is_deepseek(config->family);
	const char *original = "original_max_position_embeddings";

	*yarn = (struct yarn){
		.factor = fields_number_or(fields, "factor", 1, FACTOR_MAX, 1),
		.beta_fast = fields_number_or(
			fields, "beta_fast", 1e-3, FACTOR_MAX, 32),
		.beta_slow = fields_number_or(
			fields, "beta_slow", 1e-3, FACTOR_MAX, 1),
		.mscale = fields_number_or(
			fields, "mscale", 0, GAIN_MAX, deepseek ? 1 : 0),
		.mscale_all_dim = fields_number_or(
			fields, "mscale_all_dim", 0, GAIN_MAX, 0),
		.attention_factor = fields_number_or(
			fields, "attention_factor", 1e-3, GAIN_MAX, 0),
		.original_count = fields_u32_or(fields, original, 1,
			MODEL_POSITION_COUNT_MAX, config->position_count),
		.truncate = fields_bool_or(fields, "truncate", true),
	};
	if (!fields_has(fields, "factor"))
		fields_refuse(fields, "factor", "is missing");
	/* Here DeepSeek's own code and the library have different defaults. */
	if (deepseek && !fields_has(fields, original))
		fields_refuse(fields, original, "is missing");
	if (deepseek && yarn->attention_factor != 0)
		fields_refuse(fields, "attention_factor",
			"is not used by this family");
	if (deepseek && !yarn->truncate)
		fields_refuse(fields, "truncate",
			"is false, which is not used by this family");
}

static void apply_yarn(const struct yarn *yarn, struct model_config *config)
{
	double over = gain(yarn->factor, yarn->mscale);
	double under = gain(yarn->factor, yarn->mscale_all_dim);
	double cos_scale = over / under;

	if (family_is_deepseek(config->family)) {
		config->attention_scale =
			(float)(config->attention_scale * under * under);
	} else if (yarn->attention_factor != 0) {
		cos_scale = yarn->attention_factor;
	} else if (yarn->mscale == 0 || yarn->mscale_all_dim == 0) {
		cos_scale = gain(yarn->factor, 1);
	}
	config->rope.scale = (float)cos_scale;
}

/*
 * The object that describes the scaling: rope_parameters is what transformers
 * 5 writes for rope_scaling and rope_theta together. NULL = neither.
 */
static json_t *scaling_object(struct fields *fields, const char **out_key)
{
	json_t *old = fields_object(fields, "rope_scaling");
	json_t *new = fields_object(fields, "rope_parameters");

	if (old && new)
		fields_refuse(fields, "rope_scaling",
			"and rope_parameters are both given");
	*out_key = new ? "rope_parameters." : "rope_scaling.";
	return new ? new : old;
}

/* "default" or "yarn"; everything else is refused by name. */
static bool is_yarn(struct fields *scaling)
{
	const char *old = fields_text_or(scaling, "type", NULL);
	const char *type = fields_text_or(scaling, "rope_type", old);

	if (old && strcmp(old, type) != 0)
		fields_refuse(scaling, "type",
			"is \"%.40s\", rope_type is \"%.40s\"", old, type);
	if (!type || !strcmp(type, "default"))
		return false;
	if (!strcmp(type, "yarn"))
		return true;
	fields_refuse(scaling, old ? "type" : "rope_type",
		"is \"%.40s\", which is not supported", type);
	return false;
}

/* Fields that change the frequencies in a way that is not done here. */
static void refuse_unsupported(struct fields *scaling)
{
	const char *key;
	json_t *value;

	if (fields_number_or(scaling, "partial_rotary_factor", 0, 1, 1) < 1)
		fields_refuse(scaling, "partial_rotary_factor",
			"is not 1, which is not supported");
	json_object_foreach(scaling->object, key, value)
	{
		if (json_is_object(value) || json_is_array(value))
			fields_refuse(scaling, key,
				"is nested, which is not supported");
	}
}

static double read_theta(struct fields *fields, struct fields *scaling,
	const struct model_config *config)
{
	double absent = config->family == FAMILY_MIXTRAL ? 1e6 : 1e4;
	double outer =
		fields_number_or(fields, "rope_theta", 1.5, THETA_MAX, absent);
	double inner;

	if (!scaling)
		return outer;
	inner = fields_number_or(scaling, "rope_theta", 1.5, THETA_MAX, outer);
	if (fields_has(fields, "rope_theta") && inner != outer)
		fields_refuse(scaling, "rope_theta", "is %g, rope_theta is %g",
			inner, outer);
	return inner;
}

static bool read_interleaved(
	struct fields *fields, const struct model_config *config)
{
	bool usual = family_is_deepseek(config->family);
	bool value = fields_bool_or(fields, "rope_interleave", usual);

	if (value != usual && config->family != FAMILY_DEEPSEEK_V3)
		fields_refuse(fields, "rope_interleave",
			"is %s, which is not used by this family",
			value ? "true" : "false");
	return value;
}

void rope_read(struct fields *fields, struct model_config *config)
{
	const char *path;
	json_t *object = scaling_object(fields, &path);
	struct fields scaling;
	struct yarn yarn;
	bool has_yarn = false;
	double theta;

	config->rope.dim = config->attention == ATTENTION_MLA
				   ? config->rope_dim
				   : config->head_dim;
	config->rope.interleaved = read_interleaved(fields, config);
	config->rope.scale = 1;
	if (object) {
		fields_init(&scaling, object, path, fields->err);
		has_yarn = is_yarn(&scaling);
		refuse_unsupported(&scaling);
	}
	theta = read_theta(fields, object ? &scaling : NULL, config);
	if (has_yarn)
		read_yarn(&scaling, config, &yarn);
	if (object && scaling.rc)
		fields->rc = scaling.rc;
	if (config->rope.dim % 2)
		fields_refuse(fields,
			config->attention == ATTENTION_MLA ? "qk_rope_head_dim"
							   : "head_dim",
			"is %u, rotary embedding needs an even number",
			config->rope.dim);
	if (fields->rc)
		return;
	assert(config->rope.dim / 2 <= MODEL_HEAD_DIM_MAX / 2);
	set_frequencies(&config->rope, theta, has_yarn ? &yarn : NULL);
	if (has_yarn)
		apply_yarn(&yarn, config);
}
