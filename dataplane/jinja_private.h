/* jinja_private.h - what the parts of the template interpreter share */
/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What:   values and what can be done with them; jinja_tree.h has the way
 *         from a template's source to its tree. Nothing outside of
 *         jinja_*.c includes either.
 * Memory: everything lives in one arena per template and one per render and
 *         dies with it; nothing is freed singly. Values never change once
 *         they are built (the sandbox is immutable), so texts and lists are
 *         shared freely; only namespaces, iterators and loops have state.
 * Errors: run->rc is sticky. A function that fails records the text and
 *         returns anything; callers look at run->rc before they go on with
 *         a consequence, and everything that takes a run does nothing
 *         harmful when it is set.
 * Threads: a run belongs to one thread; a tree is read by many.
 */
#ifndef HEDDLE_DATAPLANE_JINJA_PRIVATE_H
#define HEDDLE_DATAPLANE_JINJA_PRIVATE_H

#include "base/check.h"
#include "dataplane/jinja.h"

/* 2^63: the first double that no int64_t reaches. */
#define JINT_END 9223372036854775808.0

#define COUNT_OF(array) (sizeof(array) / sizeof((array)[0]))

/* --- memory -------------------------------------------------------------- */

struct jchunk;

struct jarena {
	struct jchunk *chunks; /* newest first */
	char *top; /* next free byte of the newest chunk */
	char *end;
	size_t taken_bytes; /* in all chunks */
	size_t max_bytes;
	bool out_of_memory; /* malloc() failed, as opposed to the limit */
};

void jarena_init(struct jarena *arena, size_t max_bytes);
void jarena_release(struct jarena *arena);

/* Aligned for any value; NULL at the limit or when there is no memory. */
void *jarena_take(struct jarena *arena, size_t size_bytes);

/*
 * Make a block larger, in place where it is the newest one; NULL as above
 * (the old block stays valid).
 */
void *jarena_grow(
	struct jarena *arena, void *block, size_t old_bytes, size_t new_bytes);

/* --- values -------------------------------------------------------------- */

enum jtype {
	J_MISSING, /* a slot that nothing was stored in */
	J_UNDEFINED,
	J_NONE,
	J_BOOL,
	J_INT,
	J_FLOAT,
	J_TEXT,
	J_LIST,
	J_TUPLE,
	J_DICT,
	J_VIEW, /* dict.keys(), values(), items() */
	J_RANGE,
	J_ITER, /* a generator: one pass, no length */
	J_NAMESPACE,
	J_MACRO,
	J_LOOP,
	J_METHOD, /* bound to its receiver */
	J_FUNCTION /* a global */
};

struct jtext {
	const char *bytes; /* UTF-8, no terminator; shared by slices */
	const uint8_t *marks; /* per byte: 1 trusted; NULL: all as `trusted` */
	size_t length;
	size_t points; /* code points; SIZE_MAX = not counted yet */
	bool trusted;
	bool markup; /* result of the filters escape and safe */
};

struct jvalue {
	uint8_t type; /* enum jtype */
	bool trusted; /* of numbers, booleans and none */
	union {
		bool boolean;
		int64_t integer;
		double real;
		struct jtext *text;
		struct jlist *list; /* also tuples */
		struct jdict *dict; /* also namespaces */
		struct jview *view;
		struct jrange *range;
		struct jiter *iter;
		struct jmacro *macro;
		struct jloop *loop;
		struct jmethod *method;
		const struct jfunction *function;
		const struct jtext *what; /* of undefined: its name or NULL */
	};
};

struct jlist {
	struct jvalue *items;
	size_t count;
	size_t capacity;
	bool is_group; /* a tuple of groupby: .grouper and .list */
};

struct jentry {
	struct jvalue key, value;
	uint64_t hash;
};

/* In order of insertion; `index` (entry + 1, 0 = free) from 9 entries on. */
struct jdict {
	struct jentry *entries;
	size_t count;
	size_t capacity;
	uint32_t *index;
	size_t index_size; /* a power of two */
};

enum jview_kind { JVIEW_KEYS, JVIEW_VALUES, JVIEW_ITEMS };

struct jview {
	enum jview_kind kind;
	const struct jdict *dict;
};

struct jrange {
	int64_t start, stop, step;
	size_t count;
};

/* How a body ended. */
enum jflow { JFLOW_NEXT, JFLOW_BREAK, JFLOW_CONTINUE };

struct jframe {
	struct jvalue *slots;
	struct jframe *parent; /* of the function around it */
};

struct jmacro {
	const struct jnode *node; /* JN_MACRO or JN_CALL_BLOCK */
	struct jframe *frame; /* where it was defined */
};

struct jloop {
	const struct jnode *node;
	struct jframe *frame; /* whose slots the body uses */
	struct jframe *test_frame;
	struct jframe *outer; /* of a recursive loop: where it stands */
	struct jvalue iterable;
	struct jiter *source;
	struct jvalue current, before, after, changed;
	bool has_after;
	bool length_known;
	bool filtered; /* the source's items have passed the loop's filter */
	enum jflow flow; /* what the else part ended with */
	int64_t index0;
	int64_t depth0;
	size_t length;
};

struct jmethod {
	const struct jmethod_entry *entry;
	struct jvalue self;
};

struct jkeyword {
	const struct jtext *name;
	struct jvalue value;
};

struct jargs {
	struct jvalue *items;
	size_t count;
	struct jkeyword *keywords;
	size_t keyword_count;
};

struct jrun;

typedef struct jvalue jcallable(
	struct jrun *run, struct jvalue subject, const struct jargs *args);

struct jfunction {
	const char *name;
	jcallable *call; /* NULL: known, but refused at load */
};

struct jfilter {
	const char *name;
	jcallable *apply; /* NULL: known, but refused at load */
};

struct jtest {
	const char *name;
	jcallable *apply;
};

enum jmethod_owner {
	JOWNER_TEXT = 1,
	JOWNER_LIST = 2,
	JOWNER_TUPLE = 4,
	JOWNER_DICT = 8,
	JOWNER_LOOP = 16,
	JOWNER_INT = 32,
	JOWNER_FLOAT = 64,
	JOWNER_RANGE = 128,
	JOWNER_VIEW = 256,
	JOWNER_ITER = 512
};

enum jmethod_kind {
	JMETHOD_CALL,
	JMETHOD_FORBIDDEN, /* changes its object: the sandbox hides it */
	JMETHOD_REFUSED /* Python has it, we do not */
};

struct jmethod_entry {
	const char *name;
	unsigned owners; /* of enum jmethod_owner */
	enum jmethod_kind kind;
	jcallable *call;
};

/* --- a render (jinja_run.c) ---------------------------------------------- */

struct jrun {
	const struct jinja_template *template;
	const struct jinja_limits *limits;
	struct jarena arena;
	struct error *err;
	int rc;
	const struct jnode *at; /* what is being evaluated */
	uint64_t steps_left;
	uint32_t check_in; /* steps until the time is looked at */
	uint32_t depth;
	struct jdict *context;
	const struct tm *now;
};

/* Record an error at the current node, unless there is one already. */
void jrun_fail(struct jrun *run, int code, const char *format, ...)
	__attribute__((format(printf, 3, 4)));

/* The same, and the undefined value. */
struct jvalue jrun_bad(struct jrun *run, const char *format, ...)
	__attribute__((format(printf, 2, 3)));

/* Count work; false when the run has failed or now fails. */
bool jrun_charge(struct jrun *run, uint64_t steps);
bool jrun_charge_bytes(struct jrun *run, size_t bytes);

/* The same where each character is looked up or built singly. */
bool jrun_charge_characters(struct jrun *run, size_t bytes);

/* One level deeper; false = failed. Every true needs a jrun_leave(). */
bool jrun_enter(struct jrun *run);
void jrun_leave(struct jrun *run);

void *jrun_take(struct jrun *run, size_t size_bytes);
void *jrun_take_array(struct jrun *run, size_t count, size_t item_bytes);

/* --- Unicode (jinja_unicode.c, jinja_case.c) ----------------------------- */

enum junicode_flag {
	JU_ALPHA = 1,
	JU_DIGIT = 2,
	JU_DECIMAL = 4,
	JU_NUMERIC = 8,
	JU_SPACE = 16,
	JU_LOWER = 32,
	JU_UPPER = 64,
	JU_TITLE = 128,
	JU_PRINTABLE = 256,
	JU_CASED = 512,
	JU_CASE_IGNORABLE = 1024
};

enum jcase { JCASE_UPPER, JCASE_LOWER, JCASE_TITLE };

unsigned junicode_flags(uint32_t point);

/* The mapped code points, at most 3; returns how many. */
unsigned junicode_map(uint32_t point, enum jcase to, uint32_t out[3]);

/*
 * --- texts (jinja_string.c) ----------------------------------------------
 *
 * A text that could not be made is NULL; what takes texts takes that one too
 * and makes nothing of it, since the run has failed.
 */

struct jbuilder {
	struct jrun *run;
	char *bytes;
	uint8_t *marks; /* NULL as long as all bytes agree */
	size_t length, capacity;
	size_t max_bytes;
	bool trusted;
};

void jbuilder_init(struct jbuilder *b, struct jrun *run);
void jbuilder_add(
	struct jbuilder *b, const char *bytes, size_t length, bool trusted);
void jbuilder_add_text(struct jbuilder *b, const struct jtext *text);
void jbuilder_add_part(
	struct jbuilder *b, const struct jtext *text, size_t from, size_t to);
void jbuilder_add_point(struct jbuilder *b, uint32_t point, bool trusted);
void jbuilder_fill(struct jbuilder *b, char c, size_t count, bool trusted);
struct jtext *jbuilder_finish(struct jbuilder *b);

/* Bytes [from, to) of a text, sharing its memory. */
struct jtext *jtext_part(
	struct jrun *run, const struct jtext *text, size_t from, size_t to);
struct jtext *jtext_make(
	struct jrun *run, const char *bytes, size_t length, bool trusted);
struct jvalue jtext_value(struct jtext *text);

/* A text of its own with the name of a keyword argument. */
struct jvalue jtext_name_value(struct jrun *run, const struct jtext *name);

/* How many bytes of it an error quotes: whole characters, not too many. */
int jtext_shown(const struct jtext *text);
size_t jtext_points(struct jrun *run, struct jtext *text);
bool jtext_is(const struct jtext *text, const char *word);
bool jtext_equal(const struct jtext *a, const struct jtext *b);
int jtext_order(const struct jtext *a, const struct jtext *b);
bool jtext_all_trusted(const struct jtext *text);
bool jtext_trusted_at(const struct jtext *text, size_t at);

/* Byte offset of the first `needle` at or after `from`; SIZE_MAX = none. */
size_t jtext_find(
	const struct jtext *text, const struct jtext *needle, size_t from);

/* Byte offset of code point `index` (clamped to the end). */
size_t jtext_offset(struct jrun *run, struct jtext *text, size_t index);
struct jtext *jtext_concat(
	struct jrun *run, const struct jtext *a, const struct jtext *b);
struct jtext *jtext_repeat(
	struct jrun *run, const struct jtext *text, int64_t times);
struct jtext *jtext_strip(struct jrun *run, const struct jtext *text,
	const struct jtext *chars, unsigned sides);
struct jtext *jtext_replace(struct jrun *run, const struct jtext *text,
	const struct jtext *from, const struct jtext *to, int64_t count);
struct jvalue jtext_slice(struct jrun *run, struct jtext *text, int64_t start,
	int64_t step, size_t count);
struct jvalue jtext_split_lines(
	struct jrun *run, const struct jtext *text, bool keep_ends);
struct jtext *jtext_escape(struct jrun *run, const struct jtext *text);

/* Some cased character, and every cased one has the flag. */
bool jtext_has_case(struct jrun *run, const struct jtext *text, unsigned flag);
struct jtext *jtext_recase(
	struct jrun *run, const struct jtext *text, enum jcase to);

#define JSTRIP_LEFT 1u
#define JSTRIP_RIGHT 2u

/* One code point at `at` (< length) of valid UTF-8; *size its bytes. */
uint32_t jutf8_read(const char *bytes, size_t at, unsigned *size);
size_t jutf8_write(char out[4], uint32_t point);
bool jutf8_valid(const char *bytes, size_t length, size_t *bad_at);

/* --- values (jinja_value.c, jinja_iter.c, jinja_attr.c) ------------------ */

enum jcompare {
	JC_EQUAL,
	JC_UNEQUAL,
	JC_LESS,
	JC_LESS_EQUAL,
	JC_GREATER,
	JC_GREATER_EQUAL,
	JC_IN,
	JC_NOT_IN
};

struct jvalue jvalue_undefined(const struct jtext *what);
struct jvalue jvalue_none(void);
struct jvalue jvalue_bool(bool boolean);
struct jvalue jvalue_int(int64_t integer, bool trusted);
struct jvalue jvalue_float(double real, bool trusted);
struct jvalue jvalue_list(struct jlist *list);
struct jvalue jvalue_tuple(struct jlist *list);
const char *jvalue_type_name(struct jvalue value);

bool jvalue_truth(struct jrun *run, struct jvalue value);
bool jvalue_equal(struct jrun *run, struct jvalue a, struct jvalue b);
bool jvalue_same(struct jvalue a, struct jvalue b);

/* a < b as Python has it, or the run fails. */
bool jvalue_less(struct jrun *run, struct jvalue a, struct jvalue b);
bool jvalue_compare(
	struct jrun *run, enum jcompare op, struct jvalue a, struct jvalue b);

/* A text in lower case, anything else as it is. */
struct jvalue jvalue_fold_case(struct jrun *run, struct jvalue value);

/* len(); false where the value has none (no error recorded). */
bool jvalue_length(struct jrun *run, struct jvalue value, size_t *out);
bool jvalue_is_number(struct jvalue value); /* bool, int, float */
bool jvalue_to_index(struct jvalue value, int64_t *out); /* bool, int */

struct jlist *jlist_make(struct jrun *run, size_t capacity);
void jlist_add(struct jrun *run, struct jlist *list, struct jvalue value);
struct jdict *jdict_make(struct jrun *run);
void jdict_set(struct jrun *run, struct jdict *dict, struct jvalue key,
	struct jvalue value);
struct jvalue *jdict_get(
	struct jrun *run, const struct jdict *dict, struct jvalue key);
struct jvalue *jdict_get_text(
	struct jrun *run, const struct jdict *dict, const struct jtext *key);

/* Stable; compares with <. keys[i] belongs to items[i]; both are moved. */
void jlist_sort(struct jrun *run, struct jvalue *items, struct jvalue *keys,
	size_t count, bool reverse);

/* Texts borrow from json. input: the untrusted kind; NULL: all is trusted. */
struct jvalue jvalue_from_json(
	struct jrun *run, json_t *json, const struct jinja_input *input);

enum jiter_kind {
	JITER_EMPTY,
	JITER_LIST,
	JITER_DICT,
	JITER_RANGE,
	JITER_TEXT,
	JITER_MAP,
	JITER_SELECT,
	JITER_ITEMS,
	JITER_UNIQUE,
	JITER_BATCH,
	JITER_SLICE
};

struct jiter {
	enum jiter_kind kind;
	bool started, done;
	bool backwards;
	bool reject; /* JITER_SELECT */
	bool by_attribute; /* JITER_MAP, JITER_SELECT */
	bool fold_case; /* JITER_UNIQUE */
	enum jview_kind view; /* JITER_DICT */
	size_t position; /* items or bytes gone */
	struct jvalue subject; /* what is iterated */
	struct jiter *source; /* opened from subject at the first step */
	struct jvalue attribute;
	struct jvalue fallback; /* JITER_MAP: default; _BATCH, _SLICE: fill */
	const struct jfilter *filter;
	const struct jtest *test; /* NULL: truth */
	struct jargs args;
	struct jdict *seen;
	int64_t width; /* JITER_BATCH, JITER_SLICE */
	struct jlist *all; /* JITER_SLICE */
};

/* An iterator over a value; fails and returns NULL where there is none. */
struct jiter *jiter_open(struct jrun *run, struct jvalue value);
bool jvalue_is_iterable(struct jvalue value);
struct jiter *jiter_make(
	struct jrun *run, enum jiter_kind kind, struct jvalue subject);

/* false: the end, or the run failed. */
bool jiter_next(struct jrun *run, struct jiter *iter, struct jvalue *out);
struct jlist *jiter_collect(struct jrun *run, struct jvalue value);
struct jvalue jvalue_reversed(struct jrun *run, struct jvalue value);
struct jvalue jview_item(
	struct jrun *run, enum jview_kind kind, const struct jentry *entry);

/* x.name and x[key], undefined where there is none. */
struct jvalue jvalue_attribute(
	struct jrun *run, struct jvalue value, const struct jtext *name);
struct jvalue jvalue_item(
	struct jrun *run, struct jvalue value, struct jvalue key);
struct jvalue jvalue_slice(
	struct jrun *run, struct jvalue value, const struct jvalue parts[3]);

/* "a.b.0" and plain keys, as filters take them; none = the value itself. */
struct jvalue jvalue_path(struct jrun *run, struct jvalue value,
	struct jvalue path, const struct jvalue *fallback);

/* The attribute of the value's type alone: no items. J_MISSING = none. */
struct jvalue jvalue_own_attribute(
	struct jrun *run, struct jvalue value, const struct jtext *name);
bool jmethod_known(const struct jtext *name);
extern const struct jmethod_entry jtext_methods[];
extern const size_t jtext_method_count;
extern const struct jmethod_entry jcase_methods[];
extern const size_t jcase_method_count;
extern const struct jmethod_entry jother_methods[];
extern const size_t jother_method_count;

/* --- arithmetic (jinja_math.c) ------------------------------------------- */

enum jmath {
	JMATH_ADD,
	JMATH_SUBTRACT,
	JMATH_MULTIPLY,
	JMATH_DIVIDE,
	JMATH_FLOOR_DIVIDE,
	JMATH_MODULO,
	JMATH_POWER
};

struct jvalue jmath_binary(
	struct jrun *run, enum jmath op, struct jvalue a, struct jvalue b);
struct jvalue jmath_negate(struct jrun *run, struct jvalue value, bool minus);

/* --- text forms (jinja_format.c, jinja_printf.c) ------------------------- */

/* str(value) and repr(value), appended. */
void jformat_str(struct jbuilder *b, struct jvalue value);
void jformat_repr(struct jbuilder *b, struct jvalue value);
struct jtext *jvalue_str(struct jrun *run, struct jvalue value);
#define JFLOAT_BYTES 48
void jformat_float(char out[JFLOAT_BYTES], double real);
struct jvalue jformat_json(
	struct jrun *run, struct jvalue value, const struct jargs *args);

/* format % value, and format.format(...). */
struct jvalue jprintf_percent(
	struct jrun *run, const struct jtext *format, struct jvalue value);
struct jvalue jprintf_format(
	struct jrun *run, const struct jtext *format, const struct jargs *args);

/* --- calls (jinja_call.c, jinja_filters*.c, jinja_tests.c) --------------- */

/*
 * Bind arguments to parameters by Python's rules. names[i] starting with '/'
 * takes no keyword. out[i] is J_MISSING where nothing was given; the first
 * `required` must be given. false: the run failed.
 */
struct jsignature {
	const char *function;
	const char *const *names;
	size_t count;
	size_t required;
};

bool jargs_bind(struct jrun *run, const struct jargs *args,
	const struct jsignature *signature, struct jvalue *out);
bool jargs_none(
	struct jrun *run, const struct jargs *args, const char *function);

/* Typed readers of one bound argument; the run fails on another type. */
int64_t jarg_int(struct jrun *run, struct jvalue value, int64_t absent);
bool jarg_bool(struct jrun *run, struct jvalue value, bool absent);
struct jtext *jarg_text(struct jrun *run, struct jvalue value);

struct jvalue jcall_value(
	struct jrun *run, struct jvalue callee, const struct jargs *args);
struct jvalue jcall_macro(
	struct jrun *run, const struct jmacro *macro, const struct jargs *args);

/* The global of this name or NULL. */
const struct jfunction *jglobal_find(const struct jtext *name);

const struct jfilter *jfilter_find(const struct jtext *name);
const struct jtest *jtest_find(const struct jtext *name);
bool jtest_is(struct jrun *run, const struct jtest *test, struct jvalue value,
	const struct jargs *args);
extern const struct jfilter jfilters_of_lists[];
extern const size_t jfilter_of_lists_count;
extern const struct jfilter jfilters_of_texts[];
extern const size_t jfilter_of_texts_count;

/* --- loops (jinja_loop.c) ------------------------------------------------ */

/* loop(items) of a recursive loop, and the attributes of `loop`. */
struct jvalue jloop_call(
	struct jrun *run, struct jloop *loop, const struct jargs *args);
struct jvalue jloop_attribute(
	struct jrun *run, struct jloop *loop, const struct jtext *name);
bool jloop_length(struct jrun *run, struct jloop *loop, size_t *out);

#endif
