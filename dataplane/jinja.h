/* jinja.h - chat templates: text around the messages (JSON -> prompt) */
/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What:  compiles a chat template (Jinja as Hugging Face models use it) once
 *        and renders it for every request. The result is, byte for byte,
 *        what Jinja2 gives in the environment of transformers'
 *        apply_chat_template: an immutable sandbox, trim_blocks and
 *        lstrip_blocks on, autoescape off, one newline at the template's end
 *        dropped, the loop controls, {% generation %} as a plain block, the
 *        filter tojson = json.dumps(ensure_ascii=False), the globals range,
 *        dict, namespace, raise_exception and strftime_now.
 * Why:   a wrong newline before an assistant's turn makes a model worse and
 *        nothing complains; so whatever is not implemented is refused by
 *        name, with line and column, when the template is loaded.
 *
 * Refused at load: include, import, from, extends, block, autoescape and
 *        unknown statements; filters, tests, methods and global functions
 *        that are not known; filters random, xmlattr, urlize, striptags,
 *        pprint, filesizeformat, wordwrap; functions lipsum, cycler, joiner;
 *        \N{...} and lone surrogates in literals; integers beyond 64 bits.
 * Refused at run time: arithmetic beyond 64 bits, what Jinja2 refuses too
 *        (from_json and fromjson among it, which some published templates
 *        name in branches for other engines), and methods of Python values
 *        that templates have no use for.
 *
 * Trust: each byte of the output is trusted (it came from the template or
 *        from `trusted` variables) or not (it came from the `untrusted`
 *        ones: messages, tools, documents). Slices, replacements, joins,
 *        changes of case and tojson keep each byte's origin; a number that
 *        was computed from untrusted data is untrusted, and so are the
 *        quotes and braces that tojson adds. See text_span.h.
 *
 * Bounds: struct jinja_limits for a render, the JINJA_ constants for a load.
 *        No recursion goes deeper than they allow; the C stack needs up to
 *        1 KiB per level of `depth`. The time is looked at every few
 *        thousand steps, and a step is never long.
 * Errors: "NAME:LINE:COLUMN: text". -EINVAL: the template, or what it does
 *        with these messages, is wrong. -EBADMSG: the template itself
 *        refused the messages by raise_exception(), the text is its own.
 *        -ETIMEDOUT, -E2BIG (steps), -ELOOP (depth), -EFBIG (output),
 *        -ENOMEM (arena_bytes reached, or no memory).
 * Ownership: a template owns all that it needs. A render borrows its input
 *        until it returns and owns nothing afterwards.
 * Threads: a template never changes; any number of threads may render it at
 *        once. LC_NUMERIC and LC_TIME must be those of the C locale.
 */
#ifndef HEDDLE_DATAPLANE_JINJA_H
#define HEDDLE_DATAPLANE_JINJA_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <time.h>

#include "base/clock.h"
#include "base/error.h"
#include "dataplane/text_span.h"

/* Limits of a load. */
#define JINJA_SOURCE_BYTES_MAX ((size_t)512 * 1024)
#define JINJA_COMPILE_BYTES_MAX ((size_t)64 * 1024 * 1024) /* arena */
#define JINJA_NESTING_MAX 200 /* parentheses, blocks */
#define JINJA_TREE_DEPTH_MAX 500 /* also a + b + c + ... */
#define JINJA_NAME_COUNT_MAX 1024 /* different variables */

/* Limits of a render that suit a request; a caller may set others. */
#define JINJA_ARENA_BYTES_DEFAULT ((size_t)256 * 1024 * 1024)
#define JINJA_OUTPUT_BYTES_DEFAULT ((size_t)16 * 1024 * 1024)
#define JINJA_STEP_COUNT_DEFAULT UINT64_C(20000000)
#define JINJA_DEPTH_DEFAULT 1000

struct jinja_template;

struct jinja_limits {
	size_t arena_bytes; /* values and intermediate texts */
	size_t output_bytes;
	uint64_t step_count; /* nodes, items, 64 bytes, 4 characters */
	uint32_t depth; /* nested evaluations, macro calls, values */
	struct mono deadline; /* 0 = none */
};

/* All of the above, no deadline. */
struct jinja_limits jinja_limits_default(void);

struct jinja_input {
	json_t *trusted; /* object: the server's variables; may be NULL */
	json_t *untrusted; /* object: the client's; trusted ones win; may be
			      NULL */
	/*
	 * A text of the untrusted input that stands under this key of an
	 * object and equals one of these words counts as trusted: a choice
	 * from a closed list, such as a role. NULL: there is no such key.
	 */
	const char *closed_key;
	const char *const *closed_words; /* ends with NULL */
	const struct tm *now; /* for strftime_now(); NULL: it is an error */
};

/* A rendered text. { 0 } is the empty one. */
struct jinja_output {
	char *text; /* owned; length bytes and a NUL; NULL when failed */
	size_t length;
	struct text_span *spans; /* owned */
	size_t span_count;
};

/*
 * Compile length bytes of UTF-8. `name` stands in errors and is copied.
 * -EINVAL with the place; -ENOMEM.
 */
int jinja_compile(const char *source, size_t length, const char *name,
	struct jinja_template **out, struct error *err);

/* NULL is allowed. */
void jinja_free(struct jinja_template *template);

/*
 * Render. On failure *out is { 0 }. The caller releases *out with
 * jinja_output_release().
 */
int jinja_render(const struct jinja_template *template,
	const struct jinja_input *input, const struct jinja_limits *limits,
	struct jinja_output *out, struct error *err);

void jinja_output_release(struct jinja_output *output);

#endif
