/* chat.h - a conversation as its model expects it (messages -> prompt) */
/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What:  takes a model's chat template out of its tokenizer_config.json or
 *        chat_template.jinja, compiles it once, and renders conversations as
 *        transformers' apply_chat_template(tokenize=False) does, byte for
 *        byte: the same variables, tools and documents as none where there
 *        are none, a message's reasoning under all the names that templates
 *        look for. jinja.h says what templates may contain.
 * Trust: the template, the special tokens and `kwargs` are the server's;
 *        messages, tools, documents and `client_kwargs` are the client's and
 *        count as untrusted whatever they contain. Keys that the client
 *        chooses cannot replace variables of the server. enum chat_trust
 *        says what a caller may ask for instead.
 * Ownership: a chat_template owns what it needs; a request borrows its JSON,
 *        which is not changed.
 * Threads: any number of threads may render one chat_template at once.
 * Limits: MODEL_JSON_BYTES_MAX of tokenizer_config.json,
 *        CHAT_TOKEN_COUNT_MAX special tokens; jinja.h has the others.
 */
#ifndef HEDDLE_DATAPLANE_CHAT_H
#define HEDDLE_DATAPLANE_CHAT_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <time.h>

#include "base/error.h"
#include "dataplane/jinja.h"

#define CHAT_TOKEN_COUNT_MAX 256

struct chat_template;

/* Which bytes of the client may become special tokens. */
enum chat_trust {
	CHAT_TRUST_TEMPLATE, /* none: the default */
	/*
	 * A message's role, where it is one of the usual words (system,
	 * developer, user, assistant, tool, function). For templates that
	 * build a token around it: '<|' + message.role + '|>'.
	 */
	CHAT_TRUST_ROLES,
	CHAT_TRUST_ALL /* all: prompts of the operator's own making */
};

/* A file's text; { NULL, 0 } = there is no such file. */
struct chat_source {
	const char *text;
	size_t length;
};

struct chat_request {
	json_t *messages; /* array of objects */
	json_t *tools; /* array of objects, or NULL */
	json_t *documents; /* array of objects, or NULL */
	json_t *kwargs; /* object of the server's variables, or NULL */
	json_t *client_kwargs; /* object of the client's, or NULL */
	bool add_generation_prompt;
	enum chat_trust trust;
	const struct tm *now; /* for strftime_now(); normalised */
};

/*
 * config: tokenizer_config.json; jinja: chat_template.jinja, which wins
 * where both have a template. `name` is the model's directory and stands in
 * errors ("NAME/chat_template.jinja:LINE:COLUMN: ..."), cut where it is long.
 * -EINVAL: a file or a template is wrong, with the place; -ENOENT: neither
 * file has a template; -ENOMEM.
 */
int chat_template_load(struct chat_source config, struct chat_source jinja,
	const char *name, struct chat_template **out, struct error *err);

/* NULL is allowed. */
void chat_template_free(struct chat_template *chat);

/*
 * Render. -EINVAL, -EBADMSG and the limits' errors as jinja_render() has
 * them; on failure *out is { 0 }. The caller releases *out.
 */
int chat_render(const struct chat_template *chat,
	const struct chat_request *request, const struct jinja_limits *limits,
	struct jinja_output *out, struct error *err);

#endif
