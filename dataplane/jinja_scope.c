/* jinja_scope.c - every name of a template bound to a slot (tree -> tree) */
/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Jinja2 compiles a template to Python functions, and what a name means
 * follows from that: a scope knows all names that are loaded or stored
 * anywhere in it before it runs; a name that is stored in an inner scope
 * starts there as a copy of the outer value; a name that a scope stores
 * before it ever loads it starts as undefined even if the input has it. This
 * file does the same analysis (Jinja2's idtracking), so that the results
 * agree in the corners too.
 *
 * A *function* (the template, a macro, a call block, a recursive loop, the
 * filter of a loop) has an array of slots; a *scope* (also the body of a
 * loop, a with, a filter or set block) has names, each with a slot of the
 * function that it is in.
 */
#include <assert.h>
#include <string.h>

#include "dataplane/jinja_tree.h"

struct slot_name {
	struct slot_name *next;
	const struct jname *name;
	uint32_t slot;
};

/* What the copies of one scope's symbols share. */
struct scope_base {
	struct slot_name *slots;
	uint32_t *slot_count; /* of the function */
	uint32_t function; /* nesting of functions, 0 = the template */
};

struct symbol {
	const struct jname *name;
	uint32_t slot;
	enum jload_kind load;
	uint32_t from_function, from_slot; /* JLOAD_ALIAS */
	bool stored;
	bool was_stored; /* before the branches of an if */
};

struct symbols {
	struct symbols *parent;
	struct scope_base *base;
	struct symbol *items;
	size_t count, capacity;
};

struct binder {
	struct jcompiler *c;
	struct symbols *symbols;
};

typedef bool child_visitor(void *context, struct jnode *child);

/* --- children, in the order of Jinja2's fields --------------------------- */

static bool visit_nodes(
	struct jnode **nodes, size_t count, child_visitor *visit, void *context)
{
	for (size_t i = 0; i < count; i++)
		if (nodes[i] && !visit(context, nodes[i]))
			return false;
	return true;
}

static bool visit_one(struct jnode *node, child_visitor *visit, void *context)
{
	return !node || visit(context, node);
}

static bool visit_args(
	const struct jcall_args *args, child_visitor *visit, void *context)
{
	return visit_nodes(args->items, args->count, visit, context) &&
	       visit_nodes(args->values, args->keyword_count, visit, context) &&
	       visit_one(args->star, visit, context) &&
	       visit_one(args->star_star, visit, context);
}

static bool visit_body(
	const struct jbody *body, child_visitor *visit, void *context)
{
	return visit_nodes(body->nodes, body->count, visit, context);
}

static bool visit_macro(
	const struct jnode_macro *macro, child_visitor *visit, void *context)
{
	return visit_nodes(macro->parameters, macro->parameter_count, visit,
		       context) &&
	       visit_nodes(
		       macro->defaults, macro->default_count, visit, context) &&
	       visit_body(&macro->body, visit, context);
}

static bool visit_expression(
	struct jnode *node, child_visitor *visit, void *context)
{
	switch ((enum jnode_kind)node->kind) {
	case JN_LIST:
	case JN_TUPLE:
	case JN_DICT:
	case JN_CONCAT:
	case JN_PRINT:
		return visit_nodes(
			node->list.items, node->list.count, visit, context);
	case JN_ATTRIBUTE:
		return visit_one(node->attribute.object, visit, context);
	case JN_SLICE:
	case JN_CONDITION:
		return visit_nodes(node->triple.parts, 3, visit, context);
	case JN_CALL:
		return visit_one(node->call.callee, visit, context) &&
		       visit_args(&node->call.args, visit, context);
	case JN_FILTER:
	case JN_TEST:
		return visit_one(node->filter.subject, visit, context) &&
		       visit_args(&node->filter.args, visit, context);
	case JN_COMPARE:
		return visit_one(node->compare.first, visit, context) &&
		       visit_nodes(node->compare.operands, node->compare.count,
			       visit, context);
	case JN_CONST:
	case JN_NAME:
	case JN_NAMESPACE_REF:
	case JN_DATA:
	case JN_BREAK:
	case JN_CONTINUE:
		return true;
	default:
		return visit_one(node->binary.left, visit, context) &&
		       visit_one(node->binary.right, visit, context);
	}
}

static bool visit_children(
	struct jnode *node, child_visitor *visit, void *context)
{
	switch ((enum jnode_kind)node->kind) {
	case JN_FOR:
		return visit_one(node->loop->target, visit, context) &&
		       visit_one(node->loop->iterable, visit, context) &&
		       visit_body(&node->loop->body, visit, context) &&
		       visit_body(&node->loop->otherwise, visit, context) &&
		       visit_one(node->loop->test, visit, context);
	case JN_IF:
		return visit_one(node->branch->test, visit, context) &&
		       visit_body(&node->branch->body, visit, context) &&
		       visit_nodes(node->branch->elifs,
			       node->branch->elif_count, visit, context) &&
		       visit_body(&node->branch->otherwise, visit, context);
	case JN_SET:
	case JN_SET_BLOCK:
		return visit_one(node->set->target, visit, context) &&
		       visit_one(node->set->value, visit, context) &&
		       visit_body(&node->set->body, visit, context);
	case JN_FILTER_BLOCK:
		return visit_body(&node->set->body, visit, context) &&
		       visit_one(node->set->value, visit, context);
	case JN_MACRO:
	case JN_CALL_BLOCK:
	case JN_GENERATION:
		return visit_one(node->macro->call, visit, context) &&
		       visit_macro(node->macro, visit, context);
	case JN_WITH:
		return visit_nodes(node->with->targets, node->with->count,
			       visit, context) &&
		       visit_nodes(node->with->values, node->with->count, visit,
			       context) &&
		       visit_body(&node->with->body, visit, context);
	default:
		return visit_expression(node, visit, context);
	}
}

struct seeker {
	const char *word;
	bool found;
};

/* Stops at the first use of the word, whichever it is. */
static bool seek(void *context, struct jnode *node)
{
	struct seeker *seeker = context;

	if (node->kind == JN_NAME &&
		jtext_is(&node->name.name->text, seeker->word)) {
		seeker->found = !node->name.store;
		return false;
	}
	return visit_children(node, seek, context);
}

/* Is the word loaded in the body before anything in it declares it? */
static bool is_undeclared(const struct jbody *body, const char *word)
{
	struct seeker seeker = {.word = word};

	visit_body(body, seek, &seeker);
	return seeker.found;
}

/* --- symbols ------------------------------------------------------------- */

static struct symbol *find_own(
	const struct symbols *s, const struct jname *name)
{
	for (size_t i = 0; i < s->count; i++)
		if (s->items[i].name == name)
			return &s->items[i];
	return NULL;
}

/* In this scope or one around it; *function is the one that has the slot. */
static const struct symbol *find_ref(
	const struct symbols *s, const struct jname *name, uint32_t *function)
{
	for (; s; s = s->parent) {
		const struct symbol *symbol = find_own(s, name);

		if (symbol) {
			*function = s->base->function;
			return symbol;
		}
	}
	return NULL;
}

static uint32_t slot_of(
	struct jcompiler *c, struct scope_base *base, const struct jname *name)
{
	struct slot_name *slot;

	for (slot = base->slots; slot; slot = slot->next)
		if (slot->name == name)
			return slot->slot;
	slot = jcompile_take(c, sizeof(*slot));
	if (!slot)
		return 0;
	*slot = (struct slot_name){base->slots, name, (*base->slot_count)++};
	base->slots = slot;
	return slot->slot;
}

static struct symbol *symbol_add(
	struct jcompiler *c, struct symbols *s, const struct jname *name)
{
	struct symbol *symbol = find_own(s, name), *larger;
	size_t capacity = s->capacity ? 2 * s->capacity : 8;

	if (symbol)
		return symbol;
	if (s->count == s->capacity) {
		larger = c->rc ? NULL
			       : jarena_grow(c->arena, s->items,
					 s->count * sizeof(*larger),
					 capacity * sizeof(*larger));
		if (!larger) {
			(void)jcompile_take(c, SIZE_MAX / 2);
			return NULL;
		}
		s->items = larger;
		s->capacity = capacity;
	}
	symbol = &s->items[s->count++];
	*symbol = (struct symbol){.name = name};
	symbol->slot = slot_of(c, s->base, name);
	return symbol;
}

/* The load of a stored name: a copy of the outer value where there is one. */
static void load_outer(const struct symbols *s, struct symbol *symbol,
	enum jload_kind otherwise)
{
	uint32_t function = 0;
	const struct symbol *outer =
		find_ref(s->parent, symbol->name, &function);

	symbol->load = outer ? JLOAD_ALIAS : otherwise;
	symbol->from_function = function;
	symbol->from_slot = outer ? outer->slot : 0;
}

static void symbol_load(
	struct jcompiler *c, struct symbols *s, const struct jname *name)
{
	uint32_t function;
	struct symbol *symbol;

	if (find_ref(s, name, &function))
		return;
	symbol = symbol_add(c, s, name);
	if (symbol)
		symbol->load = JLOAD_RESOLVE;
}

static void symbol_store(
	struct jcompiler *c, struct symbols *s, const struct jname *name)
{
	bool is_new = !find_own(s, name);
	struct symbol *symbol = symbol_add(c, s, name);

	if (!symbol)
		return;
	if (is_new)
		load_outer(s, symbol, JLOAD_UNDEFINED);
	symbol->stored = true;
}

static void symbol_declare(
	struct jcompiler *c, struct symbols *s, const struct jname *name)
{
	struct symbol *symbol = symbol_add(c, s, name);

	if (symbol) {
		symbol->load = JLOAD_PARAMETER;
		symbol->stored = true;
	}
}

static struct symbols symbols_copy(struct jcompiler *c, const struct symbols *s)
{
	struct symbols copy = *s;

	if (s->count == 0)
		return copy;
	copy.capacity = s->count;
	copy.items = jcompile_take(c, s->count * sizeof(*copy.items));
	if (copy.items)
		memcpy(copy.items, s->items, s->count * sizeof(*copy.items));
	else
		copy.count = copy.capacity = 0;
	return copy;
}

/* After an if: what its branches know, and stores of some branch only. */
static void symbols_join(struct jcompiler *c, struct symbols *s,
	const struct symbols branches[3])
{
	for (size_t i = 0; i < s->count; i++)
		s->items[i].was_stored = s->items[i].stored;
	for (int b = 0; b < 3; b++)
		for (size_t i = 0; i < branches[b].count; i++) {
			const struct symbol *from = &branches[b].items[i];
			struct symbol *to = symbol_add(c, s, from->name);

			if (!to)
				return;
			to->load = from->load;
			to->from_function = from->from_function;
			to->from_slot = from->from_slot;
			to->stored |= from->stored;
		}
	for (size_t i = 0; i < s->count; i++)
		if (s->items[i].stored && !s->items[i].was_stored)
			load_outer(s, &s->items[i], JLOAD_RESOLVE);
}

/* --- what a scope loads and stores --------------------------------------- */

static bool analyze(void *context, struct jnode *node);

static void analyze_branch(struct binder *b, const struct jnode_branch *branch)
{
	struct symbols *own = b->symbols, copies[3];

	analyze(b, branch->test);
	for (int i = 0; i < 3; i++) {
		copies[i] = symbols_copy(b->c, own);
		b->symbols = &copies[i];
		if (i == 0)
			visit_body(&branch->body, analyze, b);
		else if (i == 1)
			visit_nodes(
				branch->elifs, branch->elif_count, analyze, b);
		else
			visit_body(&branch->otherwise, analyze, b);
	}
	b->symbols = own;
	symbols_join(b->c, own, copies);
}

/* Visits what belongs to the current scope and stops at inner ones. */
static bool analyze(void *context, struct jnode *node)
{
	struct binder *b = context;

	switch ((enum jnode_kind)node->kind) {
	case JN_NAME:
		if (node->name.parameter)
			symbol_declare(b->c, b->symbols, node->name.name);
		else if (node->name.store)
			symbol_store(b->c, b->symbols, node->name.name);
		else
			symbol_load(b->c, b->symbols, node->name.name);
		break;
	case JN_NAMESPACE_REF:
		symbol_load(b->c, b->symbols, node->name.name);
		break;
	case JN_IF:
		analyze_branch(b, node->branch);
		break;
	case JN_FOR:
		analyze(b, node->loop->iterable);
		break;
	case JN_SET:
		analyze(b, node->set->value);
		analyze(b, node->set->target);
		break;
	case JN_SET_BLOCK:
		analyze(b, node->set->target);
		break;
	case JN_FILTER_BLOCK:
		analyze(b, node->set->value);
		break;
	case JN_MACRO:
		symbol_store(b->c, b->symbols, node->macro->name);
		break;
	case JN_CALL_BLOCK:
		analyze(b, node->macro->call);
		break;
	case JN_GENERATION:
		break;
	case JN_WITH:
		visit_nodes(node->with->values, node->with->count, analyze, b);
		break;
	default:
		visit_expression(node, analyze, b);
		break;
	}
	return !b->c->rc;
}

/* --- binding ------------------------------------------------------------- */

static bool bind_node(void *context, struct jnode *node);

static void bind_name(struct binder *b, struct jnode *node)
{
	uint32_t function = 0;
	const struct symbol *symbol =
		find_ref(b->symbols, node->name.name, &function);

	assert(symbol || b->c->rc);
	if (!symbol)
		return;
	if (symbol->load == JLOAD_RESOLVE && function == 0 && !symbol->stored &&
		jtext_is(&node->name.name->text, "self"))
		jcompile_fail(b->c, node->line, node->column,
			"'self' is not supported: there are no blocks");
	node->name.ref = (struct jref){
		b->symbols->base->function - function, symbol->slot};
}

/* The entries of a scope, as the interpreter needs them. */
static void scope_finish(
	struct jcompiler *c, const struct symbols *s, struct jscope *out)
{
	out->loads = jcompile_take(c, (s->count + 1) * sizeof(*out->loads));
	if (!out->loads)
		return;
	out->count = s->count;
	for (size_t i = 0; i < s->count; i++) {
		const struct symbol *from = &s->items[i];

		out->loads[i] = (struct jload){.name = from->name,
			.from = {s->base->function - from->from_function,
				from->from_slot},
			.slot = from->slot,
			.kind = from->load};
	}
}

/* A scope within the current function, or (slot_count) a new function. */
static void scope_begin(struct binder *b, struct symbols *s,
	struct scope_base *base, uint32_t *slot_count)
{
	const struct scope_base *outer = b->symbols ? b->symbols->base : NULL;

	assert(outer || slot_count);
	*base = (struct scope_base){0};
	base->slot_count = slot_count;
	if (outer)
		base->function = outer->function + (slot_count != NULL);
	if (outer && !slot_count)
		base->slot_count = outer->slot_count;
	*s = (struct symbols){.parent = b->symbols, .base = base};
}

static uint32_t declare_word(
	struct binder *b, struct symbols *s, const char *word)
{
	struct jname *name = jcompile_name(b->c, word, strlen(word));

	if (!name)
		return 0;
	symbol_declare(b->c, s, name);
	return slot_of(b->c, s->base, name);
}

static void bind_test(struct binder *b, struct jnode_for *loop)
{
	struct symbols *outer = b->symbols, s;
	struct scope_base base;

	scope_begin(b, &s, &base, &loop->test_slots);
	b->symbols = &s;
	analyze(b, loop->test_target);
	analyze(b, loop->test);
	bind_node(b, loop->test_target);
	bind_node(b, loop->test);
	scope_finish(b->c, &s, &loop->test_scope);
	b->symbols = outer;
}

static void bind_for(struct binder *b, struct jnode_for *loop)
{
	struct symbols *outer = b->symbols, body, otherwise;
	struct scope_base body_base, otherwise_base;

	bind_node(b, loop->iterable);
	if (loop->test)
		bind_test(b, loop);
	loop->extended = loop->recursive || is_undeclared(&loop->body, "loop");
	scope_begin(
		b, &body, &body_base, loop->recursive ? &loop->slots : NULL);
	if (loop->extended)
		loop->loop_slot = declare_word(b, &body, "loop");
	b->symbols = &body;
	analyze(b, loop->target);
	visit_body(&loop->body, analyze, b);
	bind_node(b, loop->target);
	visit_body(&loop->body, bind_node, b);
	scope_finish(b->c, &body, &loop->body_scope);
	b->symbols = outer;
	/* The else of a recursive loop is inside of the loop's function. */
	scope_begin(b, &otherwise, &otherwise_base, NULL);
	if (loop->recursive) {
		otherwise_base.slot_count = &loop->slots;
		otherwise_base.function++;
	}
	b->symbols = &otherwise;
	visit_body(&loop->otherwise, analyze, b);
	visit_body(&loop->otherwise, bind_node, b);
	scope_finish(b->c, &otherwise, &loop->otherwise_scope);
	b->symbols = outer;
}

static void bind_specials(struct binder *b, struct jnode *node)
{
	struct jnode_macro *macro = node->macro;
	bool names_kwargs = false, names_varargs = false;

	for (size_t i = 0; i < macro->parameter_count; i++) {
		const struct jtext *name =
			&macro->parameters[i]->name.name->text;

		names_kwargs |= jtext_is(name, "kwargs");
		names_varargs |= jtext_is(name, "varargs");
		if (jtext_is(name, "caller") &&
			is_undeclared(&macro->body, "caller") &&
			i < macro->parameter_count - macro->default_count)
			jcompile_fail(b->c, node->line, node->column,
				"a parameter 'caller' needs a default value");
	}
	if (!macro->names_caller && is_undeclared(&macro->body, "caller")) {
		macro->takes_caller = true;
		macro->caller_slot = declare_word(b, b->symbols, "caller");
	}
	if (!names_kwargs && is_undeclared(&macro->body, "kwargs")) {
		macro->takes_kwargs = true;
		macro->kwargs_slot = declare_word(b, b->symbols, "kwargs");
	}
	if (!names_varargs && is_undeclared(&macro->body, "varargs")) {
		macro->takes_varargs = true;
		macro->varargs_slot = declare_word(b, b->symbols, "varargs");
	}
}

static void bind_macro(struct binder *b, struct jnode *node)
{
	struct jnode_macro *macro = node->macro;
	struct symbols *outer = b->symbols, s;
	struct scope_base base;

	if (macro->target)
		bind_name(b, macro->target);
	if (macro->call)
		bind_node(b, macro->call);
	scope_begin(b, &s, &base, &macro->slots);
	b->symbols = &s;
	visit_macro(macro, analyze, b);
	if (!b->c->rc)
		bind_specials(b, node);
	visit_macro(macro, bind_node, b);
	scope_finish(b->c, &s, &macro->scope);
	b->symbols = outer;
}

static void bind_block(struct binder *b, struct jnode *node)
{
	struct symbols *outer = b->symbols, s;
	struct scope_base base;
	struct jnode_set *set = node->set;

	if (set->target)
		bind_node(b, set->target);
	scope_begin(b, &s, &base, NULL);
	b->symbols = &s;
	visit_body(&set->body, analyze, b);
	visit_one(set->value, analyze, b);
	visit_body(&set->body, bind_node, b);
	visit_one(set->value, bind_node, b);
	scope_finish(b->c, &s, &set->scope);
	b->symbols = outer;
}

static void bind_with(struct binder *b, struct jnode_with *with)
{
	struct symbols *outer = b->symbols, s;
	struct scope_base base;

	visit_nodes(with->values, with->count, bind_node, b);
	scope_begin(b, &s, &base, NULL);
	b->symbols = &s;
	visit_nodes(with->targets, with->count, analyze, b);
	visit_body(&with->body, analyze, b);
	visit_nodes(with->targets, with->count, bind_node, b);
	visit_body(&with->body, bind_node, b);
	scope_finish(b->c, &s, &with->scope);
	b->symbols = outer;
}

static bool bind_node(void *context, struct jnode *node)
{
	struct binder *b = context;

	if (b->c->rc)
		return false;
	switch ((enum jnode_kind)node->kind) {
	case JN_NAME:
	case JN_NAMESPACE_REF:
		bind_name(b, node);
		break;
	case JN_FOR:
		bind_for(b, node->loop);
		break;
	case JN_MACRO:
	case JN_CALL_BLOCK:
	case JN_GENERATION:
		bind_macro(b, node);
		break;
	case JN_SET_BLOCK:
	case JN_FILTER_BLOCK:
		bind_block(b, node);
		break;
	case JN_WITH:
		bind_with(b, node->with);
		break;
	default:
		visit_children(node, bind_node, b);
		break;
	}
	return !b->c->rc;
}

int jinja_scope(struct jcompiler *c, struct jinja_template *template)
{
	struct binder b = {.c = c};
	struct symbols s;
	struct scope_base base;

	scope_begin(&b, &s, &base, &template->slots);
	b.symbols = &s;
	visit_body(&template->body, analyze, &b);
	visit_body(&template->body, bind_node, &b);
	scope_finish(c, &s, &template->scope);
	return c->rc;
}
