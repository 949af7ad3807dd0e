/* jinja_parse_expr.c - the expressions of a template (tokens -> tree) */
/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One function per level of precedence, in Jinja2's order: inline if, or,
 * and, not, comparisons, + -, ~, * / // %, **, signs, then what is written
 * behind a value: attributes, subscripts, calls, filters and tests.
 */
#include <string.h>

#include "dataplane/jinja_tree.h"

static struct jnode *parse_unary(struct jcompiler *c, bool with_filter);
static struct jnode *parse_primary(struct jcompiler *c, bool with_namespace);

static struct jnode *binary(struct jcompiler *c, enum jnode_kind kind,
	const struct jtoken *at, struct jnode *left, struct jnode *right)
{
	struct jnode *node = jparse_node(c, kind, at);

	node->binary.left = left;
	node->binary.right = right;
	jparse_adopt(c, node, left);
	jparse_adopt(c, node, right);
	return node;
}

static struct jnode *list_node(struct jcompiler *c, enum jnode_kind kind,
	const struct jtoken *at, const struct jnodes *nodes)
{
	struct jnode *node = jparse_node(c, kind, at);

	node->list.items = nodes->items;
	node->list.count = nodes->count;
	for (size_t i = 0; i < nodes->count; i++)
		jparse_adopt(c, node, nodes->items[i]);
	return node;
}

struct level {
	uint16_t op;
	enum jnode_kind kind;
};

static const struct level *find_level(
	const struct jcompiler *c, const struct level *levels, size_t count)
{
	for (size_t i = 0; i < count; i++)
		if (jparse_is_op(c, levels[i].op))
			return &levels[i];
	return NULL;
}

static struct jnode *parse_power(struct jcompiler *c)
{
	const struct jtoken *at = c->token;
	struct jnode *left = parse_unary(c, true);

	while (!c->rc && jparse_skip_op(c, JOP('*', '*')))
		left = binary(c, JN_POWER, at, left, parse_unary(c, true));
	return left;
}

static struct jnode *parse_product(struct jcompiler *c)
{
	static const struct level levels[] = {{JOP('*', 0), JN_MULTIPLY},
		{JOP('/', 0), JN_DIVIDE}, {JOP('/', '/'), JN_FLOOR_DIVIDE},
		{JOP('%', 0), JN_MODULO}};
	struct jnode *left = parse_power(c);
	const struct level *level;

	while (!c->rc && (level = find_level(c, levels, COUNT_OF(levels)))) {
		const struct jtoken *at = jparse_next(c);

		left = binary(c, level->kind, at, left, parse_power(c));
	}
	return left;
}

static struct jnode *parse_concat(struct jcompiler *c)
{
	const struct jtoken *at = c->token;
	struct jnode *first = parse_product(c);
	struct jnodes parts = {0};

	if (!jparse_is_op(c, JOP('~', 0)))
		return first;
	jparse_add(c, &parts, first);
	while (!c->rc && jparse_skip_op(c, JOP('~', 0)))
		jparse_add(c, &parts, parse_product(c));
	return list_node(c, JN_CONCAT, at, &parts);
}

static struct jnode *parse_sum(struct jcompiler *c)
{
	static const struct level levels[] = {
		{JOP('+', 0), JN_ADD}, {JOP('-', 0), JN_SUBTRACT}};
	struct jnode *left = parse_concat(c);
	const struct level *level;

	while (!c->rc && (level = find_level(c, levels, COUNT_OF(levels)))) {
		const struct jtoken *at = jparse_next(c);

		left = binary(c, level->kind, at, left, parse_concat(c));
	}
	return left;
}

/* The comparison that begins at the current token, -1 = none; skips it. */
static int skip_comparison(struct jcompiler *c)
{
	static const struct {
		uint16_t op;
		enum jcompare compare;
	} table[] = {{JOP('=', '='), JC_EQUAL}, {JOP('!', '='), JC_UNEQUAL},
		{JOP('<', 0), JC_LESS}, {JOP('<', '='), JC_LESS_EQUAL},
		{JOP('>', 0), JC_GREATER}, {JOP('>', '='), JC_GREATER_EQUAL}};

	for (size_t i = 0; i < COUNT_OF(table); i++)
		if (jparse_skip_op(c, table[i].op))
			return (int)table[i].compare;
	if (jparse_skip_word(c, "in"))
		return JC_IN;
	if (jparse_is_word(c->token, "not") &&
		jparse_is_word(c->token + 1, "in")) {
		jparse_next(c);
		jparse_next(c);
		return JC_NOT_IN;
	}
	return -1;
}

static struct jnode *parse_comparison(struct jcompiler *c)
{
	const struct jtoken *at = c->token;
	struct jnode *first = parse_sum(c), *node;
	struct jnodes operands = {0};
	uint8_t operators[JINJA_NESTING_MAX], *copy;
	int op;

	while (!c->rc && (op = skip_comparison(c)) >= 0) {
		if (operands.count == COUNT_OF(operators)) {
			jparse_unexpected(c, "fewer comparisons in one chain");
			break;
		}
		operators[operands.count] = (uint8_t)op;
		jparse_add(c, &operands, parse_sum(c));
	}
	if (c->rc || operands.count == 0)
		return first;
	copy = jcompile_take(c, operands.count);
	node = jparse_node(c, JN_COMPARE, at);
	if (!copy)
		return node;
	memcpy(copy, operators, operands.count);
	node->compare = (struct jnode_compare){
		first, operands.items, copy, operands.count};
	jparse_adopt(c, node, first);
	for (size_t i = 0; i < operands.count; i++)
		jparse_adopt(c, node, operands.items[i]);
	return node;
}

static struct jnode *parse_not(struct jcompiler *c)
{
	const struct jtoken *at = c->token;
	struct jnode *node;

	if (!jparse_is_word(at, "not") || !jparse_enter(c))
		return parse_comparison(c);
	jparse_next(c);
	node = binary(c, JN_NOT, at, parse_not(c), NULL);
	jparse_leave(c);
	return node;
}

static struct jnode *parse_and(struct jcompiler *c)
{
	const struct jtoken *at = c->token;
	struct jnode *left = parse_not(c);

	while (!c->rc && jparse_skip_word(c, "and"))
		left = binary(c, JN_AND, at, left, parse_not(c));
	return left;
}

static struct jnode *parse_or(struct jcompiler *c)
{
	const struct jtoken *at = c->token;
	struct jnode *left = parse_and(c);

	while (!c->rc && jparse_skip_word(c, "or"))
		left = binary(c, JN_OR, at, left, parse_and(c));
	return left;
}

struct jnode *jparse_expression(struct jcompiler *c)
{
	const struct jtoken *at = c->token;
	struct jnode *value, *node;

	if (!jparse_enter(c))
		return &c->dummy;
	value = parse_or(c);
	while (!c->rc && jparse_skip_word(c, "if")) {
		node = jparse_node(c, JN_CONDITION, at);
		node->triple.parts[0] = parse_or(c);
		node->triple.parts[1] = value;
		node->triple.parts[2] = jparse_skip_word(c, "else")
						? jparse_expression(c)
						: NULL;
		for (int i = 0; i < 3; i++)
			jparse_adopt(c, node, node->triple.parts[i]);
		value = node;
	}
	jparse_leave(c);
	return value;
}

static bool is_tuple_end(const struct jcompiler *c, const char *end_word)
{
	return c->token->kind == JT_VARIABLE_END ||
	       c->token->kind == JT_BLOCK_END || jparse_is_op(c, JOP(')', 0)) ||
	       (end_word && jparse_is_word(c->token, end_word));
}

struct jnode *jparse_tuple(
	struct jcompiler *c, unsigned flags, const char *end_word)
{
	const struct jtoken *at = c->token;
	struct jnodes items = {0};
	bool is_tuple = false;

	while (!c->rc) {
		if (items.count > 0)
			jparse_expect_op(c, JOP(',', 0));
		if (c->rc || is_tuple_end(c, end_word))
			break;
		jparse_add(c, &items,
			flags & JTUPLE_SIMPLE
				? parse_primary(c, flags & JTUPLE_NAMESPACE)
			: flags & JTUPLE_BARE ? parse_or(c)
					      : jparse_expression(c));
		if (!jparse_is_op(c, JOP(',', 0)))
			break;
		is_tuple = true;
	}
	if (c->rc)
		return &c->dummy;
	if (!is_tuple && items.count > 0)
		return items.items[0];
	if (!is_tuple && !(flags & JTUPLE_PARENTHESES)) {
		jparse_unexpected(c, "an expression");
		return &c->dummy;
	}
	return list_node(c, JN_TUPLE, at, &items);
}

/* --- values -------------------------------------------------------------- */

static struct jnode *constant(
	struct jcompiler *c, const struct jtoken *at, struct jvalue value)
{
	struct jnode *node = jparse_node(c, JN_CONST, at);

	node->value = value;
	node->value.trusted = true;
	return node;
}

/* One string literal, or several in a row that Jinja2 joins. */
static struct jnode *parse_string(struct jcompiler *c)
{
	const struct jtoken *first = c->token;
	struct jtext *text = jcompile_take(c, sizeof(*text));
	size_t length = 0, points = 0;
	char *joined;

	while (c->token->kind == JT_TEXT) {
		length += c->token->text.length;
		points += c->token->text.points;
		jparse_next(c);
	}
	if (!text)
		return &c->dummy;
	*text = first->text;
	if (c->token - first > 1) {
		joined = jcompile_take(c, length + 1);
		if (!joined)
			return &c->dummy;
		*text = (struct jtext){
			.bytes = joined, .length = length, .trusted = true};
		text->points = points;
		for (const struct jtoken *t = first; t < c->token; t++) {
			memcpy(joined, t->text.bytes, t->text.length);
			joined += t->text.length;
		}
	}
	return constant(
		c, first, (struct jvalue){.type = J_TEXT, .text = text});
}

static bool constant_name(const struct jtoken *token, struct jvalue *out)
{
	static const struct {
		const char *word;
		uint8_t type;
		bool boolean;
	} words[] = {{"true", J_BOOL, true}, {"True", J_BOOL, true},
		{"false", J_BOOL, false}, {"False", J_BOOL, false},
		{"none", J_NONE, false}, {"None", J_NONE, false}};

	for (size_t i = 0; i < COUNT_OF(words); i++)
		if (jparse_is_word(token, words[i].word)) {
			*out = (struct jvalue){.type = words[i].type,
				.boolean = words[i].boolean};
			return true;
		}
	return false;
}

static struct jnode *parse_name(struct jcompiler *c, bool with_namespace)
{
	const struct jtoken *at = jparse_next(c);
	struct jvalue value;
	struct jnode *node;
	struct jname *attribute;

	if (constant_name(at, &value))
		return constant(c, at, value);
	node = jparse_node(c, JN_NAME, at);
	node->name.name = at->name;
	if (with_namespace && jparse_skip_op(c, JOP('.', 0))) {
		attribute = jparse_expect_name(c);
		if (c->rc)
			return &c->dummy;
		attribute->given = true;
		node->kind = JN_NAMESPACE_REF;
		node->name.attribute = &attribute->text;
	}
	return node;
}

static struct jnode *parse_list(struct jcompiler *c)
{
	const struct jtoken *at = jparse_next(c);
	struct jnodes items = {0};

	while (!c->rc && !jparse_is_op(c, JOP(']', 0))) {
		if (items.count > 0)
			jparse_expect_op(c, JOP(',', 0));
		if (c->rc || jparse_is_op(c, JOP(']', 0)))
			break;
		jparse_add(c, &items, jparse_expression(c));
	}
	jparse_expect_op(c, JOP(']', 0));
	return list_node(c, JN_LIST, at, &items);
}

/* A text key of a dict, or a keyword, may be called as a method later. */
static void note_given(struct jcompiler *c, const struct jnode *key)
{
	struct jname *name;

	if (c->rc || key->kind != JN_CONST || key->value.type != J_TEXT)
		return;
	name = jcompile_name(
		c, key->value.text->bytes, key->value.text->length);
	if (name)
		name->given = true;
}

static struct jnode *parse_dict(struct jcompiler *c)
{
	const struct jtoken *at = jparse_next(c);
	struct jnodes items = {0};

	while (!c->rc && !jparse_is_op(c, JOP('}', 0))) {
		struct jnode *key;

		if (items.count > 0)
			jparse_expect_op(c, JOP(',', 0));
		if (c->rc || jparse_is_op(c, JOP('}', 0)))
			break;
		key = jparse_expression(c);
		note_given(c, key);
		jparse_add(c, &items, key);
		jparse_expect_op(c, JOP(':', 0));
		jparse_add(c, &items, jparse_expression(c));
	}
	jparse_expect_op(c, JOP('}', 0));
	return list_node(c, JN_DICT, at, &items);
}

static struct jnode *parse_primary(struct jcompiler *c, bool with_namespace)
{
	const struct jtoken *at = c->token;
	struct jnode *node;

	switch (at->kind) {
	case JT_NAME:
		return parse_name(c, with_namespace);
	case JT_TEXT:
		return parse_string(c);
	case JT_INT:
		jparse_next(c);
		return constant(c, at,
			(struct jvalue){.type = J_INT, .integer = at->integer});
	case JT_FLOAT:
		jparse_next(c);
		return constant(c, at,
			(struct jvalue){.type = J_FLOAT, .real = at->real});
	default:
		break;
	}
	if (jparse_skip_op(c, JOP('(', 0))) {
		node = jparse_tuple(c, JTUPLE_PARENTHESES, NULL);
		jparse_expect_op(c, JOP(')', 0));
		return node;
	}
	if (jparse_is_op(c, JOP('[', 0)))
		return parse_list(c);
	if (jparse_is_op(c, JOP('{', 0)))
		return parse_dict(c);
	jparse_unexpected(c, "an expression");
	return &c->dummy;
}

/* --- what stands behind a value ------------------------------------------ */

static void keyword(
	struct jcompiler *c, struct jnodes *values, struct jnodes *names)
{
	struct jname *name = jparse_next(c)->name;
	struct jnode *holder = jparse_node(c, JN_NAME, c->token);

	jparse_expect_op(c, JOP('=', 0));
	holder->name.name = name;
	for (size_t i = 0; !c->rc && i < names->count; i++)
		if (names->items[i]->name.name == name)
			jparse_unexpected(c, "every keyword only once");
	if (name)
		name->given = true;
	jparse_add(c, names, holder);
	jparse_add(c, values, jparse_expression(c));
}

static void one_argument(struct jcompiler *c, struct jcall_args *args,
	struct jnodes *items, struct jnodes *values, struct jnodes *names)
{
	bool stars = args->star || args->star_star;

	if (jparse_is_op(c, JOP('*', 0)) && !stars) {
		jparse_next(c);
		args->star = jparse_expression(c);
	} else if (jparse_is_op(c, JOP('*', '*')) && !args->star_star) {
		jparse_next(c);
		args->star_star = jparse_expression(c);
	} else if (c->token->kind == JT_NAME &&
		   c->token[1].kind == JT_OPERATOR &&
		   c->token[1].op == JOP('=', 0) && !args->star_star) {
		keyword(c, values, names);
	} else if (!stars && values->count == 0) {
		jparse_add(c, items, jparse_expression(c));
	} else {
		jparse_unexpected(c, "arguments in their order");
	}
}

static void parse_call_args(
	struct jcompiler *c, struct jnode *node, struct jcall_args *args)
{
	struct jnodes items = {0}, values = {0}, names = {0};

	*args = (struct jcall_args){0};
	jparse_expect_op(c, JOP('(', 0));
	while (!c->rc && !jparse_is_op(c, JOP(')', 0))) {
		if (items.count + values.count > 0 || args->star ||
			args->star_star)
			jparse_expect_op(c, JOP(',', 0));
		if (c->rc || jparse_is_op(c, JOP(')', 0)))
			break;
		one_argument(c, args, &items, &values, &names);
	}
	jparse_expect_op(c, JOP(')', 0));
	if (c->rc)
		return;
	args->items = items.items;
	args->count = items.count;
	args->values = values.items;
	args->keyword_count = values.count;
	args->names =
		jcompile_take(c, (values.count + 1) * sizeof(struct jname *));
	for (size_t i = 0; args->names && i < values.count; i++)
		args->names[i] = names.items[i]->name.name;
	for (size_t i = 0; i < items.count; i++)
		jparse_adopt(c, node, items.items[i]);
	for (size_t i = 0; i < values.count; i++)
		jparse_adopt(c, node, values.items[i]);
	jparse_adopt(c, node, args->star);
	jparse_adopt(c, node, args->star_star);
}

static struct jnode *parse_call(struct jcompiler *c, struct jnode *callee)
{
	struct jnode *node = jparse_node(c, JN_CALL, c->token);

	node->call.callee = callee;
	node->line = callee->line;
	node->column = callee->column;
	jparse_adopt(c, node, callee);
	parse_call_args(c, node, &node->call.args);
	jparse_check_later(c, node);
	return node;
}

/* One of the subscripts between brackets: an expression or a slice. */
static struct jnode *parse_subscript(struct jcompiler *c)
{
	const struct jtoken *at = c->token;
	struct jnode *start = NULL, *node;

	if (!jparse_is_op(c, JOP(':', 0)))
		start = jparse_expression(c);
	if (c->rc || !jparse_skip_op(c, JOP(':', 0)))
		return start ? start : &c->dummy;
	node = jparse_node(c, JN_SLICE, at);
	node->triple.parts[0] = start;
	for (int i = 1; i < 3; i++) {
		if (i == 2 && !jparse_skip_op(c, JOP(':', 0)))
			break;
		if (!jparse_is_op(c, JOP(':', 0)) &&
			!jparse_is_op(c, JOP(']', 0)) &&
			!jparse_is_op(c, JOP(',', 0)))
			node->triple.parts[i] = jparse_expression(c);
	}
	for (int i = 0; i < 3; i++)
		jparse_adopt(c, node, node->triple.parts[i]);
	return node;
}

static struct jnode *parse_brackets(struct jcompiler *c, struct jnode *object)
{
	const struct jtoken *at = jparse_next(c);
	struct jnodes items = {0};

	while (!c->rc && !jparse_is_op(c, JOP(']', 0))) {
		if (items.count > 0)
			jparse_expect_op(c, JOP(',', 0));
		jparse_add(c, &items, parse_subscript(c));
	}
	jparse_expect_op(c, JOP(']', 0));
	if (c->rc)
		return &c->dummy;
	if (items.count == 1)
		return binary(c, JN_ITEM, at, object, items.items[0]);
	for (size_t i = 0; i < items.count; i++)
		if (items.items[i]->kind == JN_SLICE)
			jparse_unexpected(c, "a slice alone in its brackets");
	return binary(
		c, JN_ITEM, at, object, list_node(c, JN_TUPLE, at, &items));
}

static struct jnode *parse_dot(struct jcompiler *c, struct jnode *object)
{
	const struct jtoken *at = jparse_next(c), *what = c->token;
	struct jnode *node;

	if (what->kind == JT_NAME) {
		jparse_next(c);
		node = jparse_node(c, JN_ATTRIBUTE, what);
		node->attribute.object = object;
		node->attribute.name = what->name;
		jparse_adopt(c, node, object);
		return node;
	}
	if (what->kind == JT_INT) {
		jparse_next(c);
		return binary(c, JN_ITEM, at, object,
			constant(c, what,
				(struct jvalue){.type = J_INT,
					.integer = what->integer}));
	}
	jparse_unexpected(c, "a name or a number behind the dot");
	return &c->dummy;
}

static struct jnode *parse_postfix(struct jcompiler *c, struct jnode *node)
{
	while (!c->rc) {
		if (jparse_is_op(c, JOP('.', 0)))
			node = parse_dot(c, node);
		else if (jparse_is_op(c, JOP('[', 0)))
			node = parse_brackets(c, node);
		else if (jparse_is_op(c, JOP('(', 0)))
			node = parse_call(c, node);
		else
			break;
	}
	return node;
}

static const struct jtext *constant_text(
	const struct jcall_args *args, size_t index)
{
	const struct jnode *item =
		index < args->count ? args->items[index] : NULL;

	return item && item->kind == JN_CONST && item->value.type == J_TEXT
		       ? item->value.text
		       : NULL;
}

/* map("name"), select("test") and their kin name filters and tests too. */
static void check_named(struct jcompiler *c, const struct jnode *node)
{
	static const struct {
		const char *filter;
		size_t argument;
		bool is_filter;
	} table[] = {{"map", 0, true}, {"select", 0, false},
		{"reject", 0, false}, {"selectattr", 1, false},
		{"rejectattr", 1, false}};

	for (size_t i = 0; !c->rc && i < COUNT_OF(table); i++) {
		const struct jtext *name =
			constant_text(&node->filter.args, table[i].argument);
		const struct jfilter *filter;

		if (!name || !node->filter.filter ||
			strcmp(node->filter.filter->name, table[i].filter) != 0)
			continue;
		filter = table[i].is_filter ? jfilter_find(name) : NULL;
		if (table[i].is_filter ? !filter || !filter->apply
				       : !jtest_find(name))
			jcompile_fail(c, node->line, node->column,
				"unknown or unsupported %s '%.*s'",
				table[i].is_filter ? "filter" : "test",
				jtext_shown(name), name->bytes);
	}
}

struct jnode *jparse_filters(
	struct jcompiler *c, struct jnode *subject, bool inline_name)
{
	while (!c->rc && (inline_name || jparse_is_op(c, JOP('|', 0)))) {
		const struct jtoken *at;
		struct jname *name;
		struct jnode *node;

		if (!inline_name)
			jparse_next(c);
		inline_name = false;
		at = c->token;
		name = jparse_expect_name(c);
		node = jparse_node(c, JN_FILTER, at);
		node->filter.subject = subject;
		jparse_adopt(c, node, subject);
		node->filter.filter = name ? jfilter_find(&name->text) : NULL;
		if (name &&
			(!node->filter.filter || !node->filter.filter->apply ||
				jparse_is_op(c, JOP('.', 0))))
			jcompile_fail(c, at->line, at->column,
				"unknown or unsupported filter '%.*s'",
				jtext_shown(&name->text), name->text.bytes);
		if (!c->rc && jparse_is_op(c, JOP('(', 0)))
			parse_call_args(c, node, &node->filter.args);
		if (!c->rc)
			check_named(c, node);
		subject = node;
	}
	return subject;
}

static bool begins_argument(const struct jcompiler *c)
{
	const struct jtoken *token = c->token;

	if (token->kind == JT_NAME)
		return !jparse_is_word(token, "else") &&
		       !jparse_is_word(token, "or") &&
		       !jparse_is_word(token, "and");
	return token->kind == JT_TEXT || token->kind == JT_INT ||
	       token->kind == JT_FLOAT || jparse_is_op(c, JOP('[', 0)) ||
	       jparse_is_op(c, JOP('{', 0));
}

static struct jnode *parse_test(struct jcompiler *c, struct jnode *subject)
{
	const struct jtoken *is = jparse_next(c), *at;
	bool negated = jparse_skip_word(c, "not");
	struct jnode *node;
	struct jname *name;
	struct jnodes items = {0};

	at = c->token;
	name = jparse_expect_name(c);
	node = jparse_node(c, JN_TEST, at);
	node->filter.subject = subject;
	jparse_adopt(c, node, subject);
	node->filter.test = name ? jtest_find(&name->text) : NULL;
	if (name && (!node->filter.test || jparse_is_op(c, JOP('.', 0))))
		jcompile_fail(c, at->line, at->column,
			"unknown or unsupported test '%.*s'",
			jtext_shown(&name->text), name->text.bytes);
	if (c->rc)
		return &c->dummy;
	if (jparse_is_op(c, JOP('(', 0))) {
		parse_call_args(c, node, &node->filter.args);
	} else if (begins_argument(c)) {
		if (jparse_is_word(c->token, "is"))
			jparse_unexpected(c, "no second test");
		jparse_add(
			c, &items, parse_postfix(c, parse_primary(c, false)));
		node->filter.args.items = items.items;
		node->filter.args.count = items.count;
		if (!c->rc)
			jparse_adopt(c, node, items.items[0]);
	}
	return negated ? binary(c, JN_NOT, is, node, NULL) : node;
}

static struct jnode *parse_unary(struct jcompiler *c, bool with_filter)
{
	const struct jtoken *at = c->token;
	struct jnode *node;
	enum jnode_kind kind =
		jparse_is_op(c, JOP('-', 0)) ? JN_NEGATE : JN_PLUS;

	if (!jparse_enter(c))
		return &c->dummy;
	if (jparse_is_op(c, JOP('-', 0)) || jparse_is_op(c, JOP('+', 0))) {
		jparse_next(c);
		node = binary(c, kind, at, parse_unary(c, false), NULL);
	} else {
		node = parse_primary(c, false);
	}
	node = parse_postfix(c, node);
	while (with_filter && !c->rc) {
		if (jparse_is_op(c, JOP('|', 0)))
			node = jparse_filters(c, node, false);
		else if (jparse_is_word(c->token, "is"))
			node = parse_test(c, node);
		else if (jparse_is_op(c, JOP('(', 0)))
			node = parse_call(c, node);
		else
			break;
	}
	jparse_leave(c);
	return node;
}
