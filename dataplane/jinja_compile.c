/* jinja_compile.c - a template made ready to render (source -> template) */
/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "dataplane/jinja_tree.h"

/*
 * A copy with \n for every kind of line end, and without the last one of
 * the template, as Jinja2 reads it. NUL-terminated.
 */
static char *normalize(
	struct jcompiler *c, const char *source, size_t length, size_t *out)
{
	char *copy = jcompile_take(c, length + 1);
	size_t count = 0;

	for (size_t i = 0; copy && i < length; i++) {
		if (source[i] == '\r') {
			copy[count++] = '\n';
			i += i + 1 < length && source[i + 1] == '\n';
		} else {
			copy[count++] = source[i];
		}
	}
	if (count > 0 && copy[count - 1] == '\n')
		count--;
	if (copy)
		copy[count] = '\0';
	*out = count;
	return copy;
}

static int check_source(
	const char *source, size_t length, const char *name, struct error *err)
{
	size_t bad_at;

	if (length > JINJA_SOURCE_BYTES_MAX)
		return error_set(err, EINVAL,
			"%s: %zu bytes of template, more than %zu", name,
			length, JINJA_SOURCE_BYTES_MAX);
	if (!jutf8_valid(source, length, &bad_at))
		return error_set(err, EINVAL,
			"%s: the template is not UTF-8 at byte %zu", name,
			bad_at);
	return 0;
}

static int compile(struct jcompiler *c, struct jinja_template *template,
	const char *source, size_t length)
{
	size_t name_length = strlen(c->template_name);
	char *name = jcompile_take(c, name_length + 1);

	if (!name)
		return c->rc;
	memcpy(name, c->template_name, name_length + 1);
	template->name = name;
	c->source = normalize(c, source, length, &c->length);
	if (c->rc)
		return c->rc;
	if (jinja_lex(c) || jinja_parse(c, &template->body))
		return c->rc;
	return jinja_scope(c, template);
}

int jinja_compile(const char *source, size_t length, const char *name,
	struct jinja_template **out, struct error *err)
{
	struct jinja_template *template;
	struct jcompiler *c;
	int rc = check_source(source, length, name, err);

	*out = NULL;
	if (rc)
		return rc;
	template = calloc(1, sizeof(*template));
	c = calloc(1, sizeof(*c));
	if (!template || !c) {
		free(template);
		free(c);
		return error_set(err, ENOMEM,
			"%s: out of memory while the template is read", name);
	}
	jarena_init(&template->arena, JINJA_COMPILE_BYTES_MAX);
	c->arena = &template->arena;
	c->err = err;
	c->template_name = name;
	rc = compile(c, template, source, length);
	free(c);
	if (rc) {
		jinja_free(template);
		return rc;
	}
	*out = template;
	return 0;
}

void jinja_free(struct jinja_template *template)
{
	if (!template)
		return;
	jarena_release(&template->arena);
	free(template);
}
