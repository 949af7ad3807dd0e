/* eval_text.c - text for heddle-eval (tokenizer.json <-> token ids) */
/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "control/eval_text.h"
#include "control/model_dir.h"
#include "dataplane/detokenizer.h"

#define LINE_BYTES_MAX (UINT64_C(64) << 20)
#define ADDED_IDS_MAX (2 * (size_t)TOKENIZER_TEMPLATE_IDS_MAX)

static int load_tokenizer(
	const struct model_file *file, struct eval_text *out, struct error *err)
{
	size_t length;
	char *json;
	int rc;

	if (file->fd < 0)
		return error_set(err, ENOENT,
			"holds no tokenizer.json: text needs one, ids do not");
	rc = model_file_text(file, &json, &length, err);
	if (rc)
		return rc;
	rc = tokenizer_create(
		json, length, "tokenizer.json", &out->tokenizer, err);
	free(json);
	if (rc)
		return rc;
	if (tokenizer_scratch_create(
		    out->tokenizer, TOKENIZER_TEXT_BYTES_MAX, &out->scratch))
		return error_set(
			err, ENOMEM, "no memory to tokenize text with");
	return 0;
}

int eval_text_open(const char *model, struct eval_text *out, struct error *err)
{
	struct text_files files;
	int rc;

	*out = (struct eval_text){0};
	rc = text_files_open(model, &files, err);
	if (rc)
		return rc;
	rc = load_tokenizer(&files.tokenizer, out, err);
	if (rc) {
		error_prefix(err, "%s", model);
		eval_text_close(out);
	}
	text_files_close(&files);
	return rc;
}

void eval_text_close(struct eval_text *text)
{
	if (text->scratch)
		tokenizer_scratch_destroy(text->scratch);
	if (text->tokenizer)
		tokenizer_destroy(text->tokenizer);
	*text = (struct eval_text){0};
}

int eval_text_encode(struct eval_text *text, const struct eval_prompt *prompt,
	const char *where, struct token_list *out, struct error *err)
{
	struct text_span span = {prompt->length, false};
	struct tokenizer_input input = {
		.text = prompt->text,
		.length = prompt->length,
		.spans = prompt->spans ? prompt->spans : &span,
		.span_count = prompt->spans ? prompt->span_count
					    : (prompt->length > 0),
		.add_special = prompt->add_special,
	};
	/* No token is shorter than a byte. Normalisation may lengthen. */
	size_t room = 4 * prompt->length + ADDED_IDS_MAX, count;
	uint32_t *ids = calloc(room, sizeof(*ids));
	int rc;

	if (!ids)
		return error_set(
			err, ENOMEM, "%s: no memory for its tokens", where);
	rc = tokenizer_encode(text->scratch, &input, ids, room, &count);
	if (rc == 0 && count > UINT32_MAX)
		rc = -E2BIG;
	if (rc) {
		free(ids);
		return error_set(err, -rc, "%s: cannot be tokenized: %s", where,
			strerror(-rc));
	}
	*out = (struct token_list){ids, (uint32_t)count};
	return 0;
}

int eval_source_encode(struct eval_source *source, const char *text,
	size_t length, const char *where, struct token_list *out,
	struct error *err)
{
	struct text_span all = {length, true};
	struct eval_prompt prompt = {
		.text = text,
		.length = length,
		.add_special = !source->options->no_special,
	};
	int rc = 0;

	if (source->options->parse_special && length > 0) {
		prompt.spans = &all;
		prompt.span_count = 1;
	}
	if (!source->text.tokenizer)
		rc = eval_text_open(source->options->model, &source->text, err);
	if (rc == 0)
		rc = eval_text_encode(&source->text, &prompt, where, out, err);
	return rc;
}

int eval_source_text(struct eval_source *source, const char *text,
	size_t length, const char *where, struct token_list *out,
	struct error *err)
{
	int rc = eval_source_encode(source, text, length, where, out, err);

	if (rc)
		return rc;
	for (uint32_t i = 0; rc == 0 && i < out->count; i++)
		if (out->ids[i] >= source->vocab)
			rc = error_set(err, EINVAL,
				"%s: becomes token %u, but the model's "
				"vocabulary has %u: is this its "
				"tokenizer.json?",
				where, out->ids[i], source->vocab);
	if (rc == 0 && out->count == 0)
		rc = error_set(err, EINVAL, "%s: becomes no token", where);
	if (rc)
		free(out->ids);
	return rc;
}

int eval_source_line(struct eval_source *source, const char *line,
	size_t length, const char *where, struct token_list *out,
	struct error *err)
{
	json_t *root = json_loadb(
		line, length, JSON_REJECT_DUPLICATES | JSON_ALLOW_NUL, NULL);
	const json_t *text = json_object_get(root, "text");
	const json_t *ids = json_object_get(root, "ids");
	int rc;

	if (json_is_object(root) && !text == !ids)
		rc = error_set(err, EINVAL, "%s: has %s: one of them is needed",
			where,
			text ? "both \"ids\" and \"text\""
			     : "no \"ids\" and no \"text\"");
	else if (text && !json_is_string(text))
		rc = error_set(err, EINVAL, "%s: \"text\" is no string", where);
	else if (text)
		rc = eval_source_text(source, json_string_value(text),
			json_string_length(text), where, out, err);
	else
		rc = eval_parse_ids(
			line, length, where, source->vocab, out, err);
	json_decref(root);
	return rc;
}

void eval_source_close(struct eval_source *source)
{
	eval_text_close(&source->text);
}

static void append(FILE *to, struct detokenizer_text piece)
{
	fwrite(piece.text, 1, piece.length, to);
}

int eval_text_decode(const struct eval_text *text,
	const struct eval_decoding *decoding, char **out, size_t *out_length,
	struct error *err)
{
	const struct token_list *tokens = &decoding->tokens;
	struct detokenizer *d = malloc(sizeof(*d));
	FILE *to = open_memstream(out, out_length);

	if (!d || !to) {
		free(d);
		if (to)
			fclose(to);
		return error_set(err, ENOMEM, "no memory for decoded text");
	}
	detokenizer_init(d, text->tokenizer, NULL, decoding->skip_special);
	for (uint32_t i = 0; i < tokens->count; i++) {
		struct detokenizer_text piece =
			detokenizer_push(d, tokens->ids[i]);

		if (i >= decoding->context_count)
			append(to, piece);
	}
	append(to, detokenizer_finish(d));
	free(d);
	if (fclose(to))
		return error_set(err, ENOMEM, "no memory for decoded text");
	return 0;
}

void eval_print_string(const char *text, size_t length)
{
	json_t *string = json_stringn(text, length);

	if (string)
		json_dumpf(string, stdout, JSON_ENCODE_ANY);
	else
		fputs("null", stdout);
	json_decref(string);
}

static int open_lines(const char *path, FILE **out, struct error *err)
{
	*out = strcmp(path, "-") == 0 ? stdin : fopen(path, "re");
	if (!*out)
		return error_set(err, errno, "%s: %s", path, strerror(errno));
	return 0;
}

int eval_each_line(const char *path,
	int (*take)(void *arg, const char *line, size_t length,
		const char *where, struct error *err),
	void *arg, struct error *err)
{
	const char *name = strcmp(path, "-") ? path : "standard input";
	char *line = NULL, where[300];
	size_t room = 0, number = 0, taken = 0;
	ssize_t length;
	FILE *file;
	int rc;

	rc = open_lines(path, &file, err);
	if (rc)
		return rc;
	while (rc == 0 && (length = getline(&line, &room, file)) >= 0) {
		snprintf(where, sizeof(where), "%.255s:%zu", name, ++number);
		/* A column that an error names is one of this line. */
		if (length > 0 && line[length - 1] == '\n')
			line[--length] = '\0';
		if (strspn(line, " \t\r\n") >= (size_t)length)
			continue;
		taken++;
		if ((uint64_t)length > LINE_BYTES_MAX)
			rc = error_set(err, EINVAL,
				"%s: longer than %llu bytes", where,
				(unsigned long long)LINE_BYTES_MAX);
		else
			rc = take(arg, line, (size_t)length, where, err);
	}
	if (rc == 0 && ferror(file))
		rc = error_set(err, EIO, "%s: reading failed", name);
	if (rc == 0 && taken == 0)
		rc = error_set(err, EINVAL, "%s: holds no line", name);
	free(line);
	if (file != stdin)
		fclose(file);
	return rc;
}
