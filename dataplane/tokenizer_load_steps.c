/* tokenizer_load_steps.c - what runs before the model (JSON -> small structs) */
/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <string.h>

#include "dataplane/tokenizer_private.h"

/* What ByteLevel splits by unless told not to (openai/gpt-2, encoder.py). */
static const char gpt2_regex[] = "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+|"
				 " ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+";

/* --- normalizers ------------------------------------------------------------- */

static int keep_text(struct tokenizer *tok, struct text_view text,
	uint32_t *offset, uint32_t *size, struct error *err)
{
	int rc;

	if (text.length > TOKENIZER_TOKEN_BYTES_MAX)
		return error_set(err, E2BIG, "a text of %zu bytes in a step",
			text.length);
	rc = blob_add(&tok->blob, text.text, text.length, offset);
	*size = (uint32_t)text.length;
	return rc ? error_set(err, -rc, "a step's text: no memory") : 0;
}

/* {"pattern": {"String": from}, "content": to} */
int load_replace(struct tokenizer *tok, const json_t *node,
	struct normalize_step *step, struct error *err)
{
	static const char *const known[] = {"type", "pattern", "content", NULL};
	const json_t *pattern = json_object_get(node, "pattern");
	struct text_view from = {0};
	struct text_view to = {0};
	int rc = part_only(node, "Replace", known, err);

	if (rc == 0 && json_object_get(pattern, "Regex"))
		rc = error_set(err, ENOTSUP,
			"Replace: a Regex pattern is not supported");
	if (rc == 0)
		rc = part_text(pattern, "String", &from, err);
	if (rc == 0)
		rc = part_text(node, "content", &to, err);
	if (rc)
		return rc;
	if (from.length == 0)
		return error_set(err, ENOTSUP, "Replace: an empty pattern");
	step->kind = NORMALIZE_REPLACE;
	rc = keep_text(tok, from, &step->from, &step->from_bytes, err);
	if (rc == 0)
		rc = keep_text(tok, to, &step->to, &step->to_bytes, err);
	return rc;
}

static int load_prepend(struct tokenizer *tok, const json_t *node,
	struct normalize_step *step, struct error *err)
{
	static const char *const known[] = {"type", "prepend", NULL};
	struct text_view text = {0};
	int rc = part_only(node, "Prepend", known, err);

	if (rc == 0)
		rc = part_text(node, "prepend", &text, err);
	if (rc)
		return rc;
	step->kind = NORMALIZE_PREPEND;
	return keep_text(tok, text, &step->to, &step->to_bytes, err);
}

static int load_normalize_step(
	struct tokenizer *tok, const json_t *node, struct error *err)
{
	static const char *const forms[FORM_COUNT] = {
		"NFC", "NFD", "NFKC", "NFKD"};
	static const char *const known[] = {"type", NULL};
	struct normalize_step *step = &tok->normalize[tok->normalize_count];
	int rc = -1;

	if (tok->normalize_count == TOKENIZER_STEP_COUNT_MAX)
		return error_set(err, E2BIG, "normalizer: too many steps");
	for (uint32_t form = 0; form < FORM_COUNT; form++)
		if (part_is_type(node, forms[form])) {
			step->kind = NORMALIZE_FORM;
			step->form = (enum normal_form)form;
			rc = part_only(node, forms[form], known, err);
			if (rc == 0 && normalize_prepare(tok, step->form))
				rc = error_set(
					err, ENOMEM, "normalizer: no memory");
		}
	if (part_is_type(node, "Replace"))
		rc = load_replace(tok, node, step, err);
	if (part_is_type(node, "Prepend"))
		rc = load_prepend(tok, node, step, err);
	if (rc == -1)
		return part_unsupported("normalizer", node, err);
	if (rc == 0)
		tok->normalize_count++;
	return rc;
}

int load_normalizer(
	struct tokenizer *tok, const json_t *node, struct error *err)
{
	if (!node || json_is_null(node))
		return 0;
	return part_each_step(
		tok, node, "normalizers", load_normalize_step, 0, err);
}

/* --- pre-tokenizers ---------------------------------------------------------- */

static int add_split(struct tokenizer *tok, struct text_view source,
	bool literal, enum split_behavior behavior, bool invert,
	struct error *err)
{
	struct split_step *split = &tok->splits[tok->split_count];
	int rc;

	if (tok->split_count == TOKENIZER_STEP_COUNT_MAX)
		return error_set(err, E2BIG, "pre_tokenizer: too many steps");
	rc = pattern_create(
		source.text, source.length, literal, &split->pattern, err);
	if (rc)
		return rc;
	split->behavior = behavior;
	split->invert = invert;
	tok->split_count++;
	return 0;
}

static int add_regex(struct tokenizer *tok, const char *regex,
	enum split_behavior behavior, struct error *err)
{
	return add_split(tok, (struct text_view){regex, NULL, strlen(regex)},
		false, behavior, false, err);
}

static int load_split(
	struct tokenizer *tok, const json_t *node, struct error *err)
{
	static const char *const known[] = {
		"type", "pattern", "behavior", "invert", NULL};
	static const char *const behaviors[] = {"Isolated", "Removed",
		"Contiguous", "MergedWithPrevious", "MergedWithNext"};
	const json_t *pattern = json_object_get(node, "pattern");
	bool literal = json_object_get(pattern, "Regex") == NULL;
	struct text_view source = {0};
	struct text_view behavior = {0};
	bool invert = false;
	int rc = part_only(node, "Split", known, err);

	if (rc == 0)
		rc = part_text(
			pattern, literal ? "String" : "Regex", &source, err);
	if (rc == 0)
		rc = part_text(node, "behavior", &behavior, err);
	if (rc == 0)
		rc = part_flag(node, "invert", false, &invert, err);
	if (rc)
		return rc;
	for (uint32_t i = 0; i < sizeof(behaviors) / sizeof(*behaviors); i++)
		if (strcmp(behavior.text, behaviors[i]) == 0)
			return add_split(tok, source, literal,
				(enum split_behavior)i, invert, err);
	return error_set(err, ENOTSUP, "Split: behavior %s is not supported",
		behavior.text);
}

static int load_digits(
	struct tokenizer *tok, const json_t *node, struct error *err)
{
	static const char *const known[] = {"type", "individual_digits", NULL};
	bool individual = false;
	int rc = part_only(node, "Digits", known, err);

	if (rc == 0)
		rc = part_flag(
			node, "individual_digits", false, &individual, err);
	if (rc)
		return rc;
	/* char::is_numeric is the general category N. */
	return add_regex(tok, "\\p{N}",
		individual ? SPLIT_ISOLATED : SPLIT_CONTIGUOUS, err);
}

static bool is_first_step(const struct tokenizer *tok)
{
	return tok->split_count == 0 && tok->prefix.prefix_bytes == 0;
}

static int load_byte_level(
	struct tokenizer *tok, const json_t *node, struct error *err)
{
	static const char *const known[] = {
		"type", "add_prefix_space", "trim_offsets", "use_regex", NULL};
	bool add_space = false;
	bool use_regex = false;
	int rc = part_only(node, "ByteLevel", known, err);

	if (rc == 0)
		rc = part_flag(node, "add_prefix_space", true, &add_space, err);
	if (rc == 0)
		rc = part_flag(node, "use_regex", true, &use_regex, err);
	if (rc)
		return rc;
	if (add_space && !is_first_step(tok))
		return error_set(err, ENOTSUP,
			"pre_tokenizer: ByteLevel with add_prefix_space behind "
			"another step is not supported");
	if (add_space) {
		tok->prefix.scheme = PREPEND_ALWAYS;
		tok->prefix.prefix[0] = ' ';
		tok->prefix.prefix_bytes = 1;
	}
	tok->byte_level = true;
	return use_regex ? add_regex(tok, gpt2_regex, SPLIT_ISOLATED, err) : 0;
}

int load_prepend_scheme(
	const json_t *node, enum prepend_scheme *scheme, struct error *err)
{
	static const char *const names[] = {"never", "always", "first"};
	const json_t *value = json_object_get(node, "prepend_scheme");
	bool add_prefix_space = false;
	int rc = part_flag(
		node, "add_prefix_space", true, &add_prefix_space, err);

	if (rc)
		return rc;
	*scheme = add_prefix_space ? PREPEND_ALWAYS : PREPEND_NEVER;
	if (!value)
		return 0;
	for (uint32_t i = 0; i < 3; i++)
		if (json_is_string(value) &&
			strcmp(json_string_value(value), names[i]) == 0) {
			*scheme = (enum prepend_scheme)i;
			if (!add_prefix_space && *scheme != PREPEND_NEVER)
				break;
			return 0;
		}
	return error_set(err, EINVAL, "Metaspace: prepend_scheme");
}

static int load_metaspace(
	struct tokenizer *tok, const json_t *node, struct error *err)
{
	static const char *const known[] = {"type", "replacement", "str_rep",
		"add_prefix_space", "prepend_scheme", "split", NULL};
	struct prefix_step *prefix = &tok->prefix;
	bool split = false;
	int rc = part_only(node, "Metaspace", known, err);

	if (rc == 0 && !is_first_step(tok))
		rc = error_set(err, ENOTSUP,
			"pre_tokenizer: Metaspace behind another step is not "
			"supported");
	if (rc == 0)
		rc = part_char(node, "replacement", prefix->prefix,
			&prefix->prefix_bytes, err);
	if (rc == 0)
		rc = load_prepend_scheme(node, &prefix->scheme, err);
	if (rc == 0)
		rc = part_flag(node, "split", true, &split, err);
	if (rc)
		return rc;
	prefix->replace_spaces = true;
	if (!split)
		return 0;
	return add_split(tok,
		(struct text_view){prefix->prefix, NULL, prefix->prefix_bytes},
		true, SPLIT_MERGED_WITH_NEXT, false, err);
}

static int load_pre_step(
	struct tokenizer *tok, const json_t *node, struct error *err)
{
	if (tok->byte_level)
		return error_set(err, ENOTSUP,
			"pre_tokenizer: %s behind ByteLevel is not supported",
			part_type(node));
	if (part_is_type(node, "Split"))
		return load_split(tok, node, err);
	if (part_is_type(node, "Digits"))
		return load_digits(tok, node, err);
	if (part_is_type(node, "ByteLevel"))
		return load_byte_level(tok, node, err);
	if (part_is_type(node, "Metaspace"))
		return load_metaspace(tok, node, err);
	return part_unsupported("pre_tokenizer", node, err);
}

int load_pre_tokenizer(
	struct tokenizer *tok, const json_t *node, struct error *err)
{
	if (!node || json_is_null(node))
		return 0;
	return part_each_step(
		tok, node, "pretokenizers", load_pre_step, 0, err);
}
