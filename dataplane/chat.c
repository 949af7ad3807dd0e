/* chat.c - a conversation as its model expects it (messages -> prompt) */
/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/limits.h"
#include "dataplane/chat.h"

#define NAME_BYTES 256
#define CONFIG_FILE "tokenizer_config.json"
#define JINJA_FILE "chat_template.jinja"

struct token {
	char *name; /* owns */
	char *text; /* owns */
};

struct chat_template {
	struct jinja_template *usual; /* owns; NULL: only one for tools */
	struct jinja_template *tools; /* owns; NULL: the usual one */
	struct token *tokens; /* owns */
	size_t token_count;
};

static const char *const usual_roles[] = {
	"system", "developer", "user", "assistant", "tool", "function", NULL};

/* --- loading ------------------------------------------------------------- */

/* "</s>", or an object with the text under "content"; NULL: neither. */
static const char *token_text(const json_t *value)
{
	if (json_is_object(value))
		value = json_object_get(value, "content");
	return json_string_value(value);
}

static int add_token(
	struct chat_template *chat, const char *name, const json_t *value)
{
	const char *text = token_text(value);
	struct token *token;

	if (!text)
		return 0;
	if (chat->token_count == CHAT_TOKEN_COUNT_MAX)
		return -E2BIG;
	token = &chat->tokens[chat->token_count];
	token->name = strdup(name);
	token->text = strdup(text);
	if (!token->name || !token->text) {
		free(token->name);
		free(token->text);
		return -ENOMEM;
	}
	chat->token_count++;
	return 0;
}

static int load_tokens(struct chat_template *chat, json_t *config)
{
	static const char *const names[] = {"bos_token", "eos_token",
		"unk_token", "sep_token", "pad_token", "cls_token",
		"mask_token"};
	json_t *extra = json_object_get(config, "extra_special_tokens");
	int rc = 0;

	chat->tokens = calloc(CHAT_TOKEN_COUNT_MAX, sizeof(*chat->tokens));
	if (!chat->tokens)
		return -ENOMEM;
	for (size_t i = 0; !rc && i < sizeof(names) / sizeof(names[0]); i++)
		rc = add_token(
			chat, names[i], json_object_get(config, names[i]));
	for (void *at = json_object_iter(extra); !rc && at;
		at = json_object_iter_next(extra, at))
		rc = add_token(chat, json_object_iter_key(at),
			json_object_iter_value(at));
	return rc;
}

static int compile(const json_t *source, const char *file, const char *which,
	struct jinja_template **out, struct error *err)
{
	char name[NAME_BYTES + 16];

	if (*out)
		return error_set(err, EINVAL, "%s: two chat templates '%s'",
			file, which);
	if (!json_is_string(source))
		return error_set(err, EINVAL,
			"%s: the chat template '%s' is not a text", file,
			which);
	snprintf(name, sizeof(name), "%s(%s)", file, which);
	return jinja_compile(json_string_value(source),
		json_string_length(source), name, out, err);
}

/* [{"name": "default", "template": "..."}, {"name": "tool_use", ...}] */
static int load_list(struct chat_template *chat, const json_t *list,
	const char *file, struct error *err)
{
	const json_t *entry;
	size_t i;
	int rc = 0;

	json_array_foreach(list, i, entry)
	{
		const char *name =
			json_string_value(json_object_get(entry, "name"));
		const json_t *source = json_object_get(entry, "template");

		if (!name)
			return error_set(err, EINVAL,
				"%s: a chat template without a name", file);
		if (strcmp(name, "default") == 0)
			rc = compile(source, file, name, &chat->usual, err);
		else if (strcmp(name, "tool_use") == 0)
			rc = compile(source, file, name, &chat->tools, err);
		if (rc)
			return rc;
	}
	return 0;
}

static int load_config(struct chat_template *chat, json_t *config,
	bool with_template, const char *name, struct error *err)
{
	const json_t *source = json_object_get(config, "chat_template");
	int rc;

	if (!json_is_object(config))
		return error_set(err, EINVAL, "%s: not an object", name);
	rc = load_tokens(chat, config);
	if (rc)
		return error_set(err, -rc, "%s: the special tokens: %s", name,
			rc == -ENOMEM ? "out of memory" : "too many");
	if (!with_template || !source || json_is_null(source))
		return 0;
	if (json_is_array(source))
		return load_list(chat, source, name, err);
	return compile(source, name, "default", &chat->usual, err);
}

static int parse_config(struct chat_template *chat, struct chat_source config,
	bool with_template, const char *name, struct error *err)
{
	json_error_t where;
	json_t *root;
	int rc;

	if (config.length > (size_t)MODEL_JSON_BYTES_MAX)
		return error_set(err, EINVAL, "%s: %zu bytes, too many", name,
			config.length);
	/* Some of its integers exceed 64 bits; none is of interest. */
	root = json_loadb(
		config.text, config.length, JSON_DECODE_INT_AS_REAL, &where);
	if (!root)
		return error_set(err, EINVAL, "%s:%d:%d: %s", name, where.line,
			where.column, where.text);
	rc = load_config(chat, root, with_template, name, err);
	json_decref(root);
	return rc;
}

static int load(struct chat_template *chat, struct chat_source config,
	struct chat_source jinja, const char *name, struct error *err)
{
	char file[NAME_BYTES];
	int rc;

	if (config.text) {
		snprintf(file, sizeof(file), "%.*s/" CONFIG_FILE,
			NAME_BYTES / 2, name);
		rc = parse_config(chat, config, !jinja.text, file, err);
		if (rc)
			return rc;
	}
	if (jinja.text) {
		snprintf(file, sizeof(file), "%.*s/" JINJA_FILE, NAME_BYTES / 2,
			name);
		return jinja_compile(
			jinja.text, jinja.length, file, &chat->usual, err);
	}
	if (!chat->usual && !chat->tools)
		return error_set(err, ENOENT,
			"%s: has no chat template: no " JINJA_FILE
			" and no \"chat_template\" in " CONFIG_FILE,
			name);
	return 0;
}

int chat_template_load(struct chat_source config, struct chat_source jinja,
	const char *name, struct chat_template **out, struct error *err)
{
	struct chat_template *chat = calloc(1, sizeof(*chat));
	int rc;

	*out = NULL;
	if (!chat)
		return error_set(err, ENOMEM, "%s: out of memory", name);
	rc = load(chat, config, jinja, name, err);
	if (rc) {
		chat_template_free(chat);
		return rc;
	}
	*out = chat;
	return 0;
}

void chat_template_free(struct chat_template *chat)
{
	if (!chat)
		return;
	for (size_t i = 0; i < chat->token_count; i++) {
		free(chat->tokens[i].name);
		free(chat->tokens[i].text);
	}
	free(chat->tokens);
	jinja_free(chat->usual);
	jinja_free(chat->tools);
	free(chat);
}

/* --- rendering ----------------------------------------------------------- */

static int out_of_memory(struct error *err)
{
	return error_set(err, ENOMEM, "out of memory for the conversation");
}

static bool is_given(const json_t *value)
{
	return value && !json_is_null(value);
}

static int check_objects(
	const json_t *list, const char *what, struct error *err)
{
	const json_t *entry;
	size_t i;

	if (!json_is_array(list))
		return error_set(err, EINVAL, "%s is not a list", what);
	json_array_foreach(list, i,
		entry) if (!json_is_object(entry)) return error_set(err, EINVAL,
		"%s[%zu] is not an object", what, i);
	return 0;
}

/* The reasoning that a message carries, under the first name it has. */
static json_t *reasoning_of(const json_t *message)
{
	static const char *const names[] = {
		"reasoning_content", "thinking", "reasoning"};

	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		json_t *value = json_object_get(message, names[i]);

		if (is_given(value))
			return value;
	}
	return NULL;
}

/*
 * {"thinking": r, ...message, "reasoning_content": r}, as transformers has
 * it: a name that the message has keeps its place, and only
 * reasoning_content is written over. A new reference.
 */
static json_t *with_reasoning(json_t *message)
{
	json_t *reasoning = reasoning_of(message), *copy;
	int bad;

	if (!reasoning)
		return json_incref(message);
	copy = json_object();
	if (!copy)
		return NULL;
	bad = json_object_set(copy, "thinking", reasoning);
	bad |= json_object_update(copy, message);
	bad |= json_object_set(copy, "reasoning_content", reasoning);
	if (!bad)
		return copy;
	json_decref(copy);
	return NULL;
}

static json_t *with_all_reasoning(const json_t *messages)
{
	json_t *copy = json_array(), *message;
	size_t i;

	json_array_foreach(messages, i,
		message) if (!copy || json_array_append_new(copy,
					      with_reasoning(message)))
	{
		json_decref(copy);
		return NULL;
	}
	return copy;
}

static int set_or_null(json_t *object, const char *key, json_t *value)
{
	return is_given(value) ? json_object_set(object, key, value)
			       : json_object_set_new(object, key, json_null());
}

/* The client's variables; NULL = no memory. */
static json_t *client_variables(const struct chat_request *request)
{
	json_t *all = json_object();
	int bad = !all;

	if (!bad && is_given(request->client_kwargs))
		bad = json_object_update(all, request->client_kwargs);
	if (!bad)
		bad = json_object_set_new(
			all, "messages", with_all_reasoning(request->messages));
	if (!bad)
		bad = set_or_null(all, "tools", request->tools) |
		      set_or_null(all, "documents", request->documents);
	if (!bad)
		return all;
	json_decref(all);
	return NULL;
}

static json_t *server_variables(
	const struct chat_template *chat, const struct chat_request *request)
{
	json_t *all = json_object();
	int bad = !all;

	for (size_t i = 0; !bad && i < chat->token_count; i++)
		bad = json_object_set_new(all, chat->tokens[i].name,
			json_string(chat->tokens[i].text));
	if (!bad && is_given(request->kwargs))
		bad = json_object_update(all, request->kwargs);
	if (!bad)
		bad = json_object_set_new(all, "add_generation_prompt",
			json_boolean(request->add_generation_prompt));
	if (!bad)
		return all;
	json_decref(all);
	return NULL;
}

/* With tools the template made for them, where the model has one. */
static const struct jinja_template *choose(
	const struct chat_template *chat, const struct chat_request *request)
{
	if (chat->tools && (is_given(request->tools) || !chat->usual))
		return chat->tools;
	return chat->usual;
}

static int check_request(const struct chat_request *request, struct error *err)
{
	int rc = check_objects(request->messages, "messages", err);

	if (!rc && is_given(request->tools))
		rc = check_objects(request->tools, "tools", err);
	if (!rc && is_given(request->documents))
		rc = check_objects(request->documents, "documents", err);
	if (!rc && is_given(request->kwargs) &&
		!json_is_object(request->kwargs))
		rc = error_set(err, EINVAL, "kwargs is not an object");
	if (!rc && is_given(request->client_kwargs) &&
		!json_is_object(request->client_kwargs))
		rc = error_set(
			err, EINVAL, "chat_template_kwargs is not an object");
	return rc;
}

int chat_render(const struct chat_template *chat,
	const struct chat_request *request, const struct jinja_limits *limits,
	struct jinja_output *out, struct error *err)
{
	struct jinja_input input = {.now = request->now};
	int rc = check_request(request, err);

	*out = (struct jinja_output){0};
	if (rc)
		return rc;
	input.untrusted = client_variables(request);
	input.trusted = server_variables(chat, request);
	if (!input.untrusted || !input.trusted) {
		rc = out_of_memory(err);
		goto out;
	}
	if (request->trust == CHAT_TRUST_ROLES) {
		input.closed_key = "role";
		input.closed_words = usual_roles;
	}
	if (request->trust == CHAT_TRUST_ALL) {
		/* The server's win, as they do otherwise. */
		if (json_object_update(input.untrusted, input.trusted)) {
			rc = out_of_memory(err);
			goto out;
		}
		json_decref(input.trusted);
		input.trusted = input.untrusted;
		input.untrusted = NULL;
	}
	rc = jinja_render(choose(chat, request), &input, limits, out, err);
out:
	json_decref(input.untrusted);
	json_decref(input.trusted);
	return rc;
}
