/* jinja_parse.c - the statements of a template (tokens -> tree) */
/* SPDX-License-Identifier: Apache-2.0 */
#include <assert.h>
#include <string.h>

#include "dataplane/jinja_tree.h"

/* A call that can be judged only when all assignments are known. */
struct jcheck {
	struct jcheck *next;
	const struct jnode *node;
};

static void parse_statement(struct jcompiler *c, struct jnodes *out);

/* --- plumbing ------------------------------------------------------------ */

struct jnode *jparse_node(
	struct jcompiler *c, enum jnode_kind kind, const struct jtoken *at)
{
	struct jnode *node = jcompile_take(c, sizeof(*node));

	if (!node) {
		c->dummy = (struct jnode){0};
		return &c->dummy;
	}
	node->kind = (uint8_t)kind;
	node->depth = 1;
	node->line = at->line;
	node->column = at->column;
	return node;
}

void jparse_adopt(
	struct jcompiler *c, struct jnode *parent, const struct jnode *child)
{
	if (c->rc || !child || child->depth < parent->depth)
		return;
	if (child->depth >= JINJA_TREE_DEPTH_MAX)
		jcompile_fail(c, child->line, child->column,
			"the expression is too long or too nested");
	parent->depth = (uint16_t)(child->depth + 1);
}

void jparse_add(struct jcompiler *c, struct jnodes *nodes, struct jnode *node)
{
	size_t capacity = nodes->capacity ? 2 * nodes->capacity : 4;
	struct jnode **larger;

	if (c->rc)
		return;
	if (nodes->count == nodes->capacity) {
		larger = jarena_grow(c->arena, nodes->items,
			nodes->count * sizeof(struct jnode *),
			capacity * sizeof(struct jnode *));
		if (!larger) {
			(void)jcompile_take(c, SIZE_MAX / 2);
			return;
		}
		nodes->items = larger;
		nodes->capacity = capacity;
	}
	nodes->items[nodes->count++] = node;
}

const struct jtoken *jparse_next(struct jcompiler *c)
{
	const struct jtoken *token = c->token;

	if (token->kind != JT_END)
		c->token++;
	return token;
}

bool jparse_is_op(const struct jcompiler *c, uint16_t op)
{
	return c->token->kind == JT_OPERATOR && c->token->op == op;
}

bool jparse_skip_op(struct jcompiler *c, uint16_t op)
{
	if (c->rc || !jparse_is_op(c, op))
		return false;
	jparse_next(c);
	return true;
}

bool jparse_is_word(const struct jtoken *token, const char *word)
{
	return token->kind == JT_NAME && token->name &&
	       jtext_is(&token->name->text, word);
}

bool jparse_skip_word(struct jcompiler *c, const char *word)
{
	if (c->rc || !jparse_is_word(c->token, word))
		return false;
	jparse_next(c);
	return true;
}

void jparse_unexpected(struct jcompiler *c, const char *wanted)
{
	const struct jtoken *token = c->token;
	char op[3] = {0};

	switch (token->kind) {
	case JT_NAME:
		jcompile_fail(c, token->line, token->column,
			"expected %s, found '%.*s'", wanted,
			jtext_shown(&token->name->text),
			token->name->text.bytes);
		break;
	case JT_OPERATOR:
		op[0] = (char)(token->op >> 8);
		op[1] = (char)(token->op & 0xff);
		jcompile_fail(c, token->line, token->column,
			"expected %s, found '%s'", wanted, op);
		break;
	case JT_END:
		jcompile_fail(c, token->line, token->column,
			"expected %s, found the end of the template", wanted);
		break;
	case JT_VARIABLE_END:
	case JT_BLOCK_END:
		jcompile_fail(c, token->line, token->column,
			"expected %s, found the end of the tag", wanted);
		break;
	default:
		jcompile_fail(
			c, token->line, token->column, "expected %s", wanted);
	}
}

void jparse_expect_op(struct jcompiler *c, uint16_t op)
{
	char wanted[5] = {'\'', (char)(op >> 8), '\'', '\0', '\0'};

	if (op & 0xff) {
		wanted[2] = (char)(op & 0xff);
		wanted[3] = '\'';
	}
	if (!c->rc && !jparse_skip_op(c, op))
		jparse_unexpected(c, wanted);
}

static void expect_word(struct jcompiler *c, const char *word)
{
	if (!c->rc && !jparse_skip_word(c, word))
		jparse_unexpected(c, word);
}

struct jname *jparse_expect_name(struct jcompiler *c)
{
	if (c->rc)
		return NULL;
	if (c->token->kind != JT_NAME) {
		jparse_unexpected(c, "a name");
		return NULL;
	}
	return jparse_next(c)->name;
}

bool jparse_enter(struct jcompiler *c)
{
	if (c->nesting == JINJA_NESTING_MAX)
		jcompile_fail(c, c->token->line, c->token->column,
			"nested deeper than %d levels", JINJA_NESTING_MAX);
	if (c->rc)
		return false;
	c->nesting++;
	return true;
}

void jparse_leave(struct jcompiler *c)
{
	assert(c->nesting > 0);
	c->nesting--;
}

static void expect_kind(
	struct jcompiler *c, enum jtoken_kind kind, const char *what)
{
	if (c->rc)
		return;
	if (c->token->kind != kind)
		jparse_unexpected(c, what);
	else
		jparse_next(c);
}

/* --- checks at the end --------------------------------------------------- */

void jparse_check_later(struct jcompiler *c, const struct jnode *node)
{
	struct jcheck *check = jcompile_take(c, sizeof(*check));

	if (!check)
		return;
	check->node = node;
	check->next = c->checks;
	c->checks = check;
}

static bool is_special(const struct jname *name)
{
	static const char *const words[] = {
		"caller", "loop", "varargs", "kwargs"};

	for (size_t i = 0; i < COUNT_OF(words); i++)
		if (jtext_is(&name->text, words[i]))
			return true;
	return false;
}

/*
 * A name that is called must be a global, or something that the template
 * assigns; a method must be one that some value has. The first in the
 * template is reported.
 */
static void check_calls(struct jcompiler *c)
{
	const struct jnode *bad = NULL;

	for (struct jcheck *check = c->checks; check; check = check->next) {
		const struct jnode *callee = check->node->call.callee;
		const struct jfunction *global;
		const struct jname *name;

		if (callee->kind == JN_NAME) {
			name = callee->name.name;
			global = jglobal_find(&name->text);
			if (!name->assigned && !is_special(name) &&
				(!global || !global->call))
				bad = callee;
		} else if (callee->kind == JN_ATTRIBUTE) {
			name = callee->attribute.name;
			if (!name->given && !jmethod_known(&name->text))
				bad = callee;
		}
	}
	if (bad && bad->kind == JN_NAME)
		jcompile_fail(c, bad->line, bad->column,
			"unknown or unsupported function '%.*s'",
			jtext_shown(&bad->name.name->text),
			bad->name.name->text.bytes);
	else if (bad)
		jcompile_fail(c, bad->line, bad->column,
			"unknown or unsupported method '%.*s'",
			jtext_shown(&bad->attribute.name->text),
			bad->attribute.name->text.bytes);
}

/* --- bodies and targets -------------------------------------------------- */

/*
 * Statements up to one of the words, whose index is returned; the current
 * token is the one behind it. Without words: up to the end of the template.
 */
static int parse_body(struct jcompiler *c, struct jnode *parent,
	const char *const *words, struct jbody *out)
{
	struct jnodes nodes = {0};
	int found = -1;

	if (words) {
		jparse_skip_op(c, JOP(':', 0));
		expect_kind(c, JT_BLOCK_END, "the end of the tag");
	}
	while (!c->rc && found < 0 && c->token->kind != JT_END) {
		const struct jtoken *token = jparse_next(c);
		struct jnode *node;

		if (token->kind == JT_DATA) {
			node = jparse_node(c, JN_DATA, token);
			node->value = (struct jvalue){.type = J_TEXT};
			node->value.text =
				jcompile_take(c, sizeof(token->text));
			if (node->value.text)
				*node->value.text = token->text;
			jparse_add(c, &nodes, node);
		} else if (token->kind == JT_VARIABLE_BEGIN) {
			struct jnodes printed = {0};

			node = jparse_node(c, JN_PRINT, token);
			jparse_add(c, &printed, jparse_tuple(c, 0, NULL));
			node->list.items = printed.items;
			node->list.count = printed.count;
			if (printed.count > 0)
				jparse_adopt(c, node, printed.items[0]);
			jparse_add(c, &nodes, node);
			expect_kind(c, JT_VARIABLE_END, "'}}'");
		} else {
			assert(token->kind == JT_BLOCK_BEGIN);
			for (int i = 0; words && words[i] && found < 0; i++)
				if (jparse_skip_word(c, words[i]))
					found = i;
			if (found < 0)
				parse_statement(c, &nodes);
		}
	}
	if (words && found < 0 && !c->rc)
		jparse_unexpected(c, words[0]);
	out->nodes = nodes.items;
	out->count = nodes.count;
	for (size_t i = 0; parent && i < nodes.count; i++)
		jparse_adopt(c, parent, nodes.items[i]);
	return found;
}

/* Make a parsed expression a target; `parameter`: it declares its names. */
static void mark_target(struct jcompiler *c, struct jnode *node, bool parameter)
{
	if (c->rc)
		return;
	switch (node->kind) {
	case JN_NAME:
		if (c->loops > 0 && jtext_is(&node->name.name->text, "loop"))
			jcompile_fail(c, node->line, node->column,
				"the loop variable cannot be assigned");
		node->name.store = true;
		node->name.parameter = parameter;
		node->name.name->assigned = true;
		break;
	case JN_NAMESPACE_REF:
		break;
	case JN_TUPLE:
		for (size_t i = 0; i < node->list.count; i++)
			mark_target(c, node->list.items[i], parameter);
		break;
	default:
		jcompile_fail(c, node->line, node->column,
			"this cannot be assigned to");
	}
}

static struct jnode *parse_target(
	struct jcompiler *c, bool with_namespace, const char *end_word)
{
	return jparse_tuple(c,
		JTUPLE_SIMPLE | (with_namespace ? JTUPLE_NAMESPACE : 0),
		end_word);
}

static struct jnode *parse_parameter(struct jcompiler *c)
{
	struct jnode *node = jparse_node(c, JN_NAME, c->token);

	node->name.name = jparse_expect_name(c);
	mark_target(c, node, true);
	return node;
}

static struct jnode *clone_target(struct jcompiler *c, const struct jnode *node)
{
	struct jtoken at = {.line = node->line, .column = node->column};
	struct jnode *copy = jparse_node(c, (enum jnode_kind)node->kind, &at);

	if (c->rc)
		return copy;
	*copy = *node;
	if (node->kind != JN_TUPLE)
		return copy;
	copy->list.items = jcompile_take(
		c, (node->list.count + 1) * sizeof(struct jnode *));
	for (size_t i = 0; !c->rc && i < node->list.count; i++)
		copy->list.items[i] = clone_target(c, node->list.items[i]);
	return copy;
}

/* --- statements ---------------------------------------------------------- */

static struct jnode *parse_for(struct jcompiler *c, const struct jtoken *at)
{
	static const char *const ends[] = {"endfor", "else", NULL};
	static const char *const last[] = {"endfor", NULL};
	struct jnode *node = jparse_node(c, JN_FOR, at);
	struct jnode_for *loop = jcompile_take(c, sizeof(*loop));
	uint32_t loops = c->loops;

	if (!loop)
		return node;
	node->loop = loop;
	loop->target = parse_target(c, false, "in");
	c->loops++;
	mark_target(c, loop->target, true);
	c->loops = loops;
	expect_word(c, "in");
	loop->iterable = jparse_tuple(c, JTUPLE_BARE, "recursive");
	jparse_adopt(c, node, loop->iterable);
	if (jparse_skip_word(c, "if")) {
		loop->test = jparse_expression(c);
		jparse_adopt(c, node, loop->test);
		if (!c->rc)
			loop->test_target = clone_target(c, loop->target);
	}
	loop->recursive = jparse_skip_word(c, "recursive");
	c->loops++;
	if (parse_body(c, node, ends, &loop->body) == 1) {
		c->loops = loop->recursive ? 0 : loops;
		parse_body(c, node, last, &loop->otherwise);
	}
	c->loops = loops;
	return node;
}

static struct jnode *parse_if(struct jcompiler *c, const struct jtoken *at)
{
	static const char *const ends[] = {"elif", "else", "endif", NULL};
	static const char *const last[] = {"endif", NULL};
	struct jnode *first = jparse_node(c, JN_IF, at), *node = first;
	struct jnodes elifs = {0};
	int end = 0;

	while (!c->rc && end == 0) {
		node->branch = jcompile_take(c, sizeof(*node->branch));
		if (!node->branch)
			return first;
		node->branch->test = jparse_tuple(c, JTUPLE_BARE, NULL);
		jparse_adopt(c, node, node->branch->test);
		end = parse_body(c, node, ends, &node->branch->body);
		if (end == 0) {
			node = jparse_node(c, JN_IF, c->token);
			jparse_add(c, &elifs, node);
		}
	}
	if (end == 1)
		parse_body(c, first, last, &first->branch->otherwise);
	if (c->rc)
		return first;
	first->branch->elifs = elifs.items;
	first->branch->elif_count = elifs.count;
	for (size_t i = 0; i < elifs.count; i++)
		jparse_adopt(c, first, elifs.items[i]);
	return first;
}

static struct jnode *parse_set(struct jcompiler *c, const struct jtoken *at)
{
	static const char *const ends[] = {"endset", NULL};
	struct jnode *node = jparse_node(c, JN_SET, at);
	struct jnode_set *set = jcompile_take(c, sizeof(*set));

	if (!set)
		return node;
	node->set = set;
	set->target = parse_target(c, true, NULL);
	mark_target(c, set->target, false);
	if (jparse_skip_op(c, JOP('=', 0))) {
		set->value = jparse_tuple(c, 0, NULL);
	} else {
		node->kind = JN_SET_BLOCK;
		set->value = jparse_filters(c, NULL, false);
		parse_body(c, node, ends, &set->body);
	}
	jparse_adopt(c, node, set->value);
	return node;
}

static struct jnode *parse_filter_block(
	struct jcompiler *c, const struct jtoken *at)
{
	static const char *const ends[] = {"endfilter", NULL};
	struct jnode *node = jparse_node(c, JN_FILTER_BLOCK, at);
	struct jnode_set *set = jcompile_take(c, sizeof(*set));

	if (!set)
		return node;
	node->set = set;
	set->value = jparse_filters(c, NULL, true);
	jparse_adopt(c, node, set->value);
	parse_body(c, node, ends, &set->body);
	return node;
}

static struct jnode *parse_with(struct jcompiler *c, const struct jtoken *at)
{
	static const char *const ends[] = {"endwith", NULL};
	struct jnode *node = jparse_node(c, JN_WITH, at);
	struct jnode_with *with = jcompile_take(c, sizeof(*with));
	struct jnodes targets = {0}, values = {0};

	if (!with)
		return node;
	node->with = with;
	while (!c->rc && c->token->kind != JT_BLOCK_END) {
		struct jnode *target;

		if (targets.count > 0)
			jparse_expect_op(c, JOP(',', 0));
		target = parse_target(c, false, NULL);
		mark_target(c, target, true);
		jparse_add(c, &targets, target);
		jparse_expect_op(c, JOP('=', 0));
		jparse_add(c, &values, jparse_expression(c));
		if (!c->rc)
			jparse_adopt(c, node, values.items[values.count - 1]);
	}
	with->targets = targets.items;
	with->values = values.items;
	with->count = values.count;
	parse_body(c, node, ends, &with->body);
	return node;
}

static void parse_signature(
	struct jcompiler *c, struct jnode *node, struct jnode_macro *macro)
{
	struct jnodes parameters = {0}, defaults = {0};

	jparse_expect_op(c, JOP('(', 0));
	while (!c->rc && !jparse_is_op(c, JOP(')', 0))) {
		struct jnode *parameter;

		if (parameters.count > 0)
			jparse_expect_op(c, JOP(',', 0));
		parameter = parse_parameter(c);
		for (size_t i = 0; !c->rc && i < parameters.count; i++)
			if (parameters.items[i]->name.name ==
				parameter->name.name)
				jparse_unexpected(
					c, "every parameter only once");
		if (!c->rc && jtext_is(&parameter->name.name->text, "caller"))
			macro->names_caller = true;
		jparse_add(c, &parameters, parameter);
		if (jparse_skip_op(c, JOP('=', 0))) {
			jparse_add(c, &defaults, jparse_expression(c));
			if (defaults.count > 0)
				jparse_adopt(c, node,
					defaults.items[defaults.count - 1]);
		} else if (defaults.count > 0) {
			jparse_unexpected(
				c, "a default value for this one too");
		}
	}
	jparse_expect_op(c, JOP(')', 0));
	macro->parameters = parameters.items;
	macro->parameter_count = parameters.count;
	macro->defaults = defaults.items;
	macro->default_count = defaults.count;
}

/* macro, call and generation: bodies that are functions. */
static struct jnode *parse_function(struct jcompiler *c,
	const struct jtoken *at, enum jnode_kind kind, const char *end)
{
	const char *const ends[] = {end, NULL};
	struct jnode *node = jparse_node(c, kind, at);
	struct jnode_macro *macro = jcompile_take(c, sizeof(*macro));
	uint32_t loops = c->loops;

	if (!macro)
		return node;
	node->macro = macro;
	if (kind == JN_MACRO) {
		macro->target = jparse_node(c, JN_NAME, c->token);
		macro->target->name.name = jparse_expect_name(c);
		mark_target(c, macro->target, false);
		macro->name = macro->target->name.name;
	}
	c->loops = 0;
	if (kind == JN_MACRO ||
		(kind == JN_CALL_BLOCK && jparse_is_op(c, JOP('(', 0))))
		parse_signature(c, node, macro);
	if (kind == JN_CALL_BLOCK) {
		c->loops = loops;
		macro->call = jparse_expression(c);
		if (!c->rc && macro->call->kind != JN_CALL)
			jparse_unexpected(c, "a call");
		jparse_adopt(c, node, macro->call);
		c->loops = 0;
	}
	parse_body(c, node, ends, &macro->body);
	c->loops = loops;
	return node;
}

static struct jnode *parse_print(struct jcompiler *c, const struct jtoken *at)
{
	struct jnode *node = jparse_node(c, JN_PRINT, at);
	struct jnodes items = {0};

	while (!c->rc && c->token->kind != JT_BLOCK_END) {
		if (items.count > 0)
			jparse_expect_op(c, JOP(',', 0));
		jparse_add(c, &items, jparse_expression(c));
		if (!c->rc)
			jparse_adopt(c, node, items.items[items.count - 1]);
	}
	node->list.items = items.items;
	node->list.count = items.count;
	return node;
}

static struct jnode *parse_jump(
	struct jcompiler *c, const struct jtoken *at, enum jnode_kind kind)
{
	if (c->loops == 0)
		jcompile_fail(c, at->line, at->column,
			"'%.*s' outside of a loop",
			jtext_shown(&at->name->text), at->name->text.bytes);
	return jparse_node(c, kind, at);
}

static struct jnode *parse_tag(struct jcompiler *c, const struct jtoken *at)
{
	if (jparse_is_word(at, "if"))
		return parse_if(c, at);
	if (jparse_is_word(at, "for"))
		return parse_for(c, at);
	if (jparse_is_word(at, "set"))
		return parse_set(c, at);
	if (jparse_is_word(at, "macro"))
		return parse_function(c, at, JN_MACRO, "endmacro");
	if (jparse_is_word(at, "call"))
		return parse_function(c, at, JN_CALL_BLOCK, "endcall");
	if (jparse_is_word(at, "generation"))
		return parse_function(c, at, JN_GENERATION, "endgeneration");
	if (jparse_is_word(at, "filter"))
		return parse_filter_block(c, at);
	if (jparse_is_word(at, "with"))
		return parse_with(c, at);
	if (jparse_is_word(at, "print"))
		return parse_print(c, at);
	if (jparse_is_word(at, "break"))
		return parse_jump(c, at, JN_BREAK);
	if (jparse_is_word(at, "continue"))
		return parse_jump(c, at, JN_CONTINUE);
	jcompile_fail(c, at->line, at->column,
		"unknown or unsupported statement '%.*s'",
		jtext_shown(&at->name->text), at->name->text.bytes);
	return &c->dummy;
}

static void parse_statement(struct jcompiler *c, struct jnodes *out)
{
	const struct jtoken *at = c->token;

	if (!jparse_expect_name(c) || !jparse_enter(c))
		return;
	jparse_add(c, out, parse_tag(c, at));
	jparse_leave(c);
	expect_kind(c, JT_BLOCK_END, "the end of the tag");
}

int jinja_parse(struct jcompiler *c, struct jbody *out)
{
	c->token = c->tokens;
	parse_body(c, NULL, NULL, out);
	if (!c->rc)
		check_calls(c);
	return c->rc;
}
