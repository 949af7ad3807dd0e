/* eval_convert.c - tokenize, detokenize, chat (JSON lines -> JSON lines) */
/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "control/eval_text.h"
#include "control/model_dir.h"
#include "dataplane/chat.h"

#define COUNT_OF(array) (sizeof(array) / sizeof((array)[0]))

struct converting {
	const struct eval_options *options;
	struct eval_source source;
	struct chat_template *chat;
	struct tm now;
};

static int parse_object(const char *line, size_t length, const char *where,
	json_t **out, struct error *err)
{
	json_error_t at;
	json_t *root = json_loadb(
		line, length, JSON_REJECT_DUPLICATES | JSON_ALLOW_NUL, &at);

	if (!root)
		return error_set(err, EINVAL, "%s: column %d: %s", where,
			at.column, at.text);
	if (!json_is_object(root)) {
		json_decref(root);
		return error_set(err, EINVAL, "%s: is no JSON object", where);
	}
	*out = root;
	return 0;
}

static void print_ids(const struct token_list *tokens)
{
	fputs("\"ids\":[", stdout);
	for (uint32_t i = 0; i < tokens->count; i++)
		printf("%s%u", i ? "," : "", tokens->ids[i]);
	putchar(']');
}

static int tokenize_text(struct converting *c, const json_t *value,
	const char *where, struct error *err)
{
	struct token_list tokens = {0};
	int rc;

	if (!json_is_string(value))
		return error_set(err, EINVAL, "%s: %s", where,
			value ? "\"text\" is no string" : "has no \"text\"");
	rc = eval_source_encode(&c->source, json_string_value(value),
		json_string_length(value), where, &tokens, err);
	if (rc)
		return rc;
	putchar('{');
	print_ids(&tokens);
	fputs("}\n", stdout);
	free(tokens.ids);
	return 0;
}

static int tokenize_line(void *arg, const char *line, size_t length,
	const char *where, struct error *err)
{
	json_t *root = NULL;
	int rc = parse_object(line, length, where, &root, err);

	if (rc)
		return rc;
	rc = tokenize_text(arg, json_object_get(root, "text"), where, err);
	json_decref(root);
	return rc;
}

static int detokenize_ids(const struct converting *c,
	const struct token_list *tokens, struct error *err)
{
	struct eval_decoding decoding = {
		.tokens = *tokens,
		.skip_special = !c->options->keep_special,
	};
	size_t length;
	char *text;
	int rc = eval_text_decode(
		&c->source.text, &decoding, &text, &length, err);

	if (rc)
		return rc;
	fputs("{\"text\":", stdout);
	eval_print_string(text, length);
	fputs("}\n", stdout);
	free(text);
	return 0;
}

/* What tokenize makes of "" comes back as "". */
static bool is_no_token(const json_t *ids)
{
	return json_is_array(ids) && json_array_size(ids) == 0;
}

static int detokenize_line(void *arg, const char *line, size_t length,
	const char *where, struct error *err)
{
	const struct converting *c = arg;
	struct token_list tokens = {0};
	json_t *root = NULL;
	int rc = parse_object(line, length, where, &root, err);

	if (rc)
		return rc;
	if (!is_no_token(json_object_get(root, "ids")))
		rc = eval_parse_ids(line, length, where,
			tokenizer_vocab_size(c->source.text.tokenizer), &tokens,
			err);
	if (rc == 0)
		rc = detokenize_ids(c, &tokens, err);
	free(tokens.ids);
	json_decref(root);
	return rc;
}

static int print_chat(struct converting *c, const struct jinja_output *output,
	const char *where, struct error *err)
{
	struct eval_prompt prompt = {
		.text = output->text,
		.length = output->length,
		.spans = output->spans,
		.span_count = output->span_count,
	};
	struct token_list tokens = {0};
	int rc =
		eval_text_encode(&c->source.text, &prompt, where, &tokens, err);

	if (rc)
		return rc;
	fputs("{\"text\":", stdout);
	eval_print_string(output->text, output->length);
	putchar(',');
	print_ids(&tokens);
	fputs("}\n", stdout);
	free(tokens.ids);
	return 0;
}

/* A misspelt key would change the prompt and say nothing. */
static int check_keys(json_t *root, const char *where, struct error *err)
{
	static const char *const known[] = {"messages", "tools", "documents",
		"add_generation_prompt", "chat_template_kwargs"};
	const json_t *prompt = json_object_get(root, "add_generation_prompt");

	for (void *at = json_object_iter(root); at;
		at = json_object_iter_next(root, at)) {
		const char *key = json_object_iter_key(at);
		size_t i = 0;

		while (i < COUNT_OF(known) && strcmp(key, known[i]) != 0)
			i++;
		if (i == COUNT_OF(known))
			return error_set(err, EINVAL,
				"%s: \"%.64s\" is not known; a template's own "
				"variables go into \"chat_template_kwargs\"",
				where, key);
	}
	if (!json_is_array(json_object_get(root, "messages")))
		return error_set(
			err, EINVAL, "%s: \"messages\" is no list", where);
	if (prompt && !json_is_boolean(prompt))
		return error_set(err, EINVAL,
			"%s: \"add_generation_prompt\" is neither true nor "
			"false",
			where);
	return 0;
}

static int render_chat(struct converting *c, json_t *root, const char *where,
	struct error *err)
{
	struct jinja_limits limits = jinja_limits_default();
	struct chat_request request = {
		.messages = json_object_get(root, "messages"),
		.tools = json_object_get(root, "tools"),
		.documents = json_object_get(root, "documents"),
		.client_kwargs = json_object_get(root, "chat_template_kwargs"),
		.add_generation_prompt = !json_is_false(
			json_object_get(root, "add_generation_prompt")),
		.trust = c->options->parse_special ? CHAT_TRUST_ALL
						   : CHAT_TRUST_TEMPLATE,
		.now = &c->now,
	};
	struct jinja_output output = {0};
	int rc = check_keys(root, where, err);

	if (rc)
		return rc;
	rc = chat_render(c->chat, &request, &limits, &output, err);
	if (rc) {
		error_prefix(err, "%s", where);
		return rc;
	}
	rc = print_chat(c, &output, where, err);
	jinja_output_release(&output);
	return rc;
}

static int chat_line(void *arg, const char *line, size_t length,
	const char *where, struct error *err)
{
	json_t *root = NULL;
	int rc = parse_object(line, length, where, &root, err);

	if (rc)
		return rc;
	rc = render_chat(arg, root, where, err);
	json_decref(root);
	return rc;
}

static int read_source(const struct model_file *file, char **owned,
	struct chat_source *out, struct error *err)
{
	*owned = NULL;
	*out = (struct chat_source){0};
	if (file->fd < 0)
		return 0;
	if (model_file_text(file, owned, &out->length, err))
		return err->code;
	out->text = *owned;
	return 0;
}

static int load_chat(const char *model, struct converting *c, struct error *err)
{
	struct chat_source config = {0}, jinja = {0};
	char *config_text = NULL, *jinja_text = NULL;
	struct text_files files;
	int rc = text_files_open(model, &files, err);

	if (rc)
		return rc;
	rc = read_source(&files.tokenizer_config, &config_text, &config, err);
	if (rc == 0)
		rc = read_source(
			&files.chat_template, &jinja_text, &jinja, err);
	if (rc)
		error_prefix(err, "%s", model);
	else
		rc = chat_template_load(config, jinja, model, &c->chat, err);
	free(jinja_text);
	free(config_text);
	text_files_close(&files);
	return rc;
}

static int convert(const struct eval_options *options, bool with_chat,
	int (*take)(void *arg, const char *line, size_t length,
		const char *where, struct error *err),
	struct error *err)
{
	struct converting c = {
		.options = options,
		.source = {.options = options, .vocab = UINT32_MAX},
	};
	time_t now = time(NULL);
	int rc;

	if (!options->input)
		return error_set(err, EINVAL, "--input FILE.jsonl is missing");
	localtime_r(&now, &c.now);
	rc = eval_text_open(options->model, &c.source.text, err);
	if (rc == 0 && with_chat)
		rc = load_chat(options->model, &c, err);
	if (rc == 0)
		rc = eval_each_line(options->input, take, &c, err);
	chat_template_free(c.chat);
	eval_source_close(&c.source);
	return rc;
}

int eval_tokenize(const struct eval_options *options, struct error *err)
{
	return convert(options, false, tokenize_line, err);
}

int eval_detokenize(const struct eval_options *options, struct error *err)
{
	return convert(options, false, detokenize_line, err);
}

int eval_chat(const struct eval_options *options, struct error *err)
{
	return convert(options, true, chat_line, err);
}
