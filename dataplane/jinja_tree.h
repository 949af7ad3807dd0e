/* jinja_tree.h - a template as a tree, and the parts that build it */
/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What:   source -> tokens (jinja_lex) -> tree (jinja_parse,
 *         jinja_parse_expr) -> names bound to slots (jinja_scope); then
 *         jinja_run, jinja_loop and jinja_eval walk it.
 * Invariants: a tree is no deeper than JINJA_TREE_DEPTH_MAX and never changes
 *         once jinja_scope() is done with it. Texts in it are counted.
 * Errors: jcompiler.rc is sticky; while it is set, parsers return &c->dummy
 *         and consume nothing that matters.
 * Ownership: everything is in the template's arena.
 * Threads: one while it is built, any number afterwards.
 */
#ifndef HEDDLE_DATAPLANE_JINJA_TREE_H
#define HEDDLE_DATAPLANE_JINJA_TREE_H

#include "dataplane/jinja_private.h"

/* --- tree ---------------------------------------------------------------- */

enum jnode_kind {
	/* expressions */
	JN_CONST, /* value */
	JN_NAME, /* name */
	JN_NAMESPACE_REF, /* name: target of set only */
	JN_LIST, /* list */
	JN_TUPLE, /* list */
	JN_DICT, /* list: key, value, key, value, ... */
	JN_ATTRIBUTE, /* attribute */
	JN_ITEM, /* binary */
	JN_SLICE, /* triple: start, stop, step; any may be NULL */
	JN_CALL, /* call */
	JN_FILTER, /* filter */
	JN_TEST, /* filter */
	JN_NOT, /* binary.left */
	JN_NEGATE,
	JN_PLUS,
	JN_AND, /* binary */
	JN_OR,
	JN_ADD, /* from here in the order of enum jmath */
	JN_SUBTRACT,
	JN_MULTIPLY,
	JN_DIVIDE,
	JN_FLOOR_DIVIDE,
	JN_MODULO,
	JN_POWER,
	JN_COMPARE, /* compare */
	JN_CONCAT, /* list */
	JN_CONDITION, /* triple: test, then, else or NULL */
	/* statements */
	JN_DATA, /* value: a text */
	JN_PRINT, /* list */
	JN_FOR, /* loop */
	JN_IF, /* branch */
	JN_SET, /* set: target, value */
	JN_SET_BLOCK, /* set: target, filter or NULL, body */
	JN_MACRO, /* macro */
	JN_CALL_BLOCK, /* macro: a macro `caller` given to `call` */
	JN_GENERATION, /* macro: body alone */
	JN_FILTER_BLOCK, /* set: value is the filter, body */
	JN_WITH, /* with */
	JN_BREAK,
	JN_CONTINUE
};

/* A name of the template; one per spelling. */
struct jname {
	struct jname *next;
	struct jtext text;
	bool assigned; /* by set, for, macro, with, a parameter */
	bool given; /* as an attribute or key that the template makes */
};

/* Where a name's value is: `hops` functions further out, slot `slot`. */
struct jref {
	uint32_t hops;
	uint32_t slot;
};

enum jload_kind {
	JLOAD_PARAMETER, /* whoever enters the scope stores it */
	JLOAD_RESOLVE, /* from the render's input and the globals */
	JLOAD_ALIAS, /* a copy of an outer name's value */
	JLOAD_UNDEFINED
};

/* What happens to one slot when its scope is entered. */
struct jload {
	const struct jname *name;
	struct jref from; /* JLOAD_ALIAS */
	uint32_t slot;
	enum jload_kind kind;
};

struct jscope {
	struct jload *loads;
	size_t count;
};

struct jbody {
	struct jnode **nodes;
	size_t count;
};

struct jcall_args {
	struct jnode **items;
	size_t count;
	const struct jname **names; /* of the keyword arguments */
	struct jnode **values;
	size_t keyword_count;
	struct jnode *star; /* *args or NULL */
	struct jnode *star_star;
};

struct jnode_compare {
	struct jnode *first;
	struct jnode **operands;
	uint8_t *operators; /* enum jcompare */
	size_t count;
};

struct jnode_for {
	struct jnode *target, *iterable;
	struct jnode *test; /* or NULL */
	struct jnode *test_target; /* target again, for the test's scope */
	struct jbody body, otherwise;
	struct jscope body_scope, test_scope, otherwise_scope;
	uint32_t test_slots;
	uint32_t slots; /* recursive: of the loop's own function */
	uint32_t loop_slot;
	bool recursive;
	bool extended; /* `loop` is used */
};

struct jnode_branch {
	struct jnode *test;
	struct jbody body;
	struct jnode **elifs; /* JN_IF without elifs */
	size_t elif_count;
	struct jbody otherwise;
};

struct jnode_set {
	struct jnode *target;
	struct jnode *value;
	struct jbody body;
	struct jscope scope;
};

struct jnode_macro {
	const struct jname *name; /* NULL of call blocks */
	struct jnode *target; /* JN_NAME that the macro is stored in */
	struct jnode *call; /* of call blocks: JN_CALL */
	struct jnode **parameters; /* JN_NAME */
	struct jnode **defaults; /* of the last default_count parameters */
	size_t parameter_count, default_count;
	struct jbody body;
	struct jscope scope;
	uint32_t slots;
	uint32_t caller_slot, kwargs_slot, varargs_slot;
	bool takes_caller, takes_kwargs, takes_varargs;
	bool names_caller; /* `caller` is among the parameters */
};

struct jnode_with {
	struct jnode **targets;
	struct jnode **values;
	size_t count;
	struct jbody body;
	struct jscope scope;
};

struct jnode {
	uint8_t kind; /* enum jnode_kind */
	uint16_t depth; /* of the tree below, 1 = a leaf */
	uint32_t line, column;
	union {
		struct jvalue value;
		struct {
			struct jname *name;
			struct jref ref;
			struct jtext *attribute; /* JN_NAMESPACE_REF */
			bool parameter; /* declares, does not assign */
			bool store;
		} name;
		struct {
			struct jnode **items;
			size_t count;
		} list;
		struct {
			struct jnode *object;
			const struct jname *name;
		} attribute;
		struct {
			struct jnode *left, *right;
		} binary;
		struct {
			struct jnode *parts[3];
		} triple;
		struct {
			struct jnode *callee;
			struct jcall_args args;
		} call;
		struct {
			struct jnode *subject; /* NULL: the block's text */
			const struct jfilter *filter;
			const struct jtest *test;
			struct jcall_args args;
		} filter;
		struct jnode_compare compare;
		struct jnode_for *loop;
		struct jnode_branch *branch;
		struct jnode_set *set;
		struct jnode_macro *macro;
		struct jnode_with *with;
	};
};

struct jinja_template {
	struct jarena arena;
	const char *name;
	struct jbody body;
	struct jscope scope;
	uint32_t slots;
};

/* --- source to tree (jinja_lex.c, jinja_parse*.c, jinja_scope.c) --------- */

enum jtoken_kind {
	JT_DATA,
	JT_VARIABLE_BEGIN,
	JT_VARIABLE_END,
	JT_BLOCK_BEGIN,
	JT_BLOCK_END,
	JT_NAME,
	JT_TEXT,
	JT_INT,
	JT_FLOAT,
	JT_OPERATOR, /* op */
	JT_END
};

/* Operators: one or two characters as a number. */
#define JOP(a, b) ((uint16_t)((unsigned char)(a) << 8 | (unsigned char)(b)))

struct jtoken {
	uint8_t kind; /* enum jtoken_kind */
	uint16_t op;
	uint32_t line, column;
	union {
		struct jtext text;
		struct jname *name;
		int64_t integer;
		double real;
	};
};

struct jcompiler {
	struct jarena *arena; /* the template's */
	struct error *err;
	const char *template_name;
	int rc;
	/* lexer */
	const char *source; /* newlines are \n */
	size_t length, at;
	size_t placed; /* bytes whose lines and columns are counted */
	uint32_t line, column; /* of byte `placed` */
	bool line_starting;
	char brackets[JINJA_NESTING_MAX];
	size_t bracket_count;
	struct jtoken *tokens;
	size_t token_count, token_capacity;
	struct jname *names[256];
	size_t name_count;
	/* parser */
	const struct jtoken *token; /* the current one */
	uint32_t nesting;
	uint32_t loops; /* loops around, within this function */
	struct jcheck *checks; /* newest first; see jinja_parse.c */
	struct jnode dummy; /* stands for nodes once rc is set */
};

/* Record an error at a place and return NULL. */
void *jcompile_fail(struct jcompiler *c, uint32_t line, uint32_t column,
	const char *format, ...) __attribute__((format(printf, 4, 5)));
void *jcompile_take(struct jcompiler *c, size_t size_bytes);
struct jname *jcompile_name(
	struct jcompiler *c, const char *text, size_t length);

/* All tokens of the source, JT_END last. */
int jinja_lex(struct jcompiler *c);

/* Template -> tree. */
int jinja_parse(struct jcompiler *c, struct jbody *out);

/* A growing list of nodes. */
struct jnodes {
	struct jnode **items;
	size_t count, capacity;
};

/* Never NULL: when c->rc is set, it is a node that nobody looks at. */
struct jnode *jparse_node(
	struct jcompiler *c, enum jnode_kind kind, const struct jtoken *at);

/* `child` is below `parent` now: counts the tree's depth. NULL is nothing. */
void jparse_adopt(
	struct jcompiler *c, struct jnode *parent, const struct jnode *child);
void jparse_add(struct jcompiler *c, struct jnodes *nodes, struct jnode *node);
const struct jtoken *jparse_next(struct jcompiler *c);
bool jparse_is_op(const struct jcompiler *c, uint16_t op);
bool jparse_skip_op(struct jcompiler *c, uint16_t op);
void jparse_expect_op(struct jcompiler *c, uint16_t op);
bool jparse_is_word(const struct jtoken *token, const char *word);
bool jparse_skip_word(struct jcompiler *c, const char *word);
struct jname *jparse_expect_name(struct jcompiler *c);

/* "unexpected ..." at the current token. */
void jparse_unexpected(struct jcompiler *c, const char *wanted);
bool jparse_enter(struct jcompiler *c);
void jparse_leave(struct jcompiler *c);

/* Look at the node once the whole template is known. */
void jparse_check_later(struct jcompiler *c, const struct jnode *node);

enum jtuple_flag {
	JTUPLE_BARE = 1, /* elements without inline if */
	JTUPLE_SIMPLE = 2, /* names and literals only */
	JTUPLE_NAMESPACE = 4, /* a.b may be a target */
	JTUPLE_PARENTHESES = 8 /* may be empty */
};

struct jnode *jparse_tuple(
	struct jcompiler *c, unsigned flags, const char *end_word);
struct jnode *jparse_expression(struct jcompiler *c);

/* "name(args)|name..." applied to subject; the first '|' may be absent. */
struct jnode *jparse_filters(
	struct jcompiler *c, struct jnode *subject, bool inline_name);

/* Bind every name of the tree to a slot. */
int jinja_scope(struct jcompiler *c, struct jinja_template *template);

/* --- evaluation (jinja_eval.c, jinja_run.c) ------------------------------ */

struct jvalue jeval(
	struct jrun *run, struct jframe *frame, const struct jnode *node);

/* caller: what a call block hands over, J_MISSING = nothing. */
struct jvalue jeval_call(struct jrun *run, struct jframe *frame,
	const struct jnode *node, struct jvalue caller);

/* Apply a JN_FILTER; `text` is the subject of the one that has none. */
struct jvalue jeval_filter(struct jrun *run, struct jframe *frame,
	const struct jnode *node, struct jvalue text);

enum jflow jrun_body(struct jrun *run, struct jframe *frame,
	const struct jbody *body, struct jbuilder *out);
void jrun_scope(
	struct jrun *run, struct jframe *frame, const struct jscope *scope);
struct jframe *jrun_frame(
	struct jrun *run, uint32_t slots, struct jframe *parent);
void jrun_store(struct jrun *run, struct jframe *frame,
	const struct jnode *target, struct jvalue value);
struct jvalue *jframe_slot(struct jframe *frame, struct jref ref);
enum jflow jloop_run(struct jrun *run, struct jframe *frame,
	const struct jnode *node, struct jbuilder *out);

/* The value of a name outside of all scopes: the input, then globals. */
struct jvalue jglobal_resolve(struct jrun *run, const struct jname *name);

#endif
