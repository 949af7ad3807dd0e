/* serve_source.c - where prompts come from (file, trace, chance -> JSON) */
/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "bench/serve_source.h"

#define PROMPT_COUNT_MAX ((size_t)1 << 22)
#define BODY_MAX (SIZE_MAX / 4)

/* Words that most vocabularies have as one token with their blank. */
static const char *const words[] = {"time", "year", "people", "way", "day",
	"man", "thing", "woman", "life", "child", "world", "school", "state",
	"family", "student", "group", "country", "problem", "hand", "part",
	"place", "case", "week", "company", "system", "program", "question",
	"work", "government", "number", "night", "point", "home", "water",
	"room", "mother", "area", "money", "story", "fact", "month", "lot",
	"right", "study", "book", "eye", "job", "word", "business", "issue",
	"side", "kind", "head", "house", "service", "friend", "father", "power",
	"hour", "game", "line", "end", "member", "law"};

#define WORD_COUNT (sizeof(words) / sizeof(words[0]))

/* --- a file of prompts ----------------------------------------------------- */

struct lines {
	struct serve_source *source;
	const char *name;
	unsigned long number;
	size_t room;
	struct error *err;
};

static int bad(const struct lines *lines, const char *what)
{
	return error_set(lines->err, EINVAL, "%s:%lu: %s", lines->name,
		lines->number, what);
}

/* "key":value, in the compact form. */
static char *member_of(const char *key, const json_t *value)
{
	char *text = json_dumps(value, JSON_COMPACT | JSON_ENCODE_ANY);
	char *member = NULL;

	if (text && asprintf(&member, "\"%s\":%s", key, text) < 0)
		member = NULL;
	free(text);
	return member;
}

/* A plain text as a conversation of one message. */
static char *as_messages(json_t *text)
{
	json_t *list =
		json_pack("[{s:s, s:O}]", "role", "user", "content", text);
	char *member = list ? member_of("messages", list) : NULL;

	json_decref(list);
	return member;
}

static bool is_ids(const json_t *list)
{
	size_t count = json_array_size(list);

	for (size_t i = 0; i < count; i++) {
		const json_t *id = json_array_get(list, i);

		if (!json_is_integer(id) || json_integer_value(id) < 0)
			return false;
	}
	return count > 0;
}

static int read_prompt(
	struct lines *lines, json_t *object, struct serve_prompt *out)
{
	json_t *text = json_object_get(object, "prompt");
	json_t *messages = json_object_get(object, "messages");
	json_t *ids = json_object_get(object, "ids");
	json_t *output = json_object_get(object, "output_len");
	bool chat = lines->source->chat;

	if (!!text + !!messages + !!ids != 1)
		return bad(
			lines, "want one of \"prompt\", \"messages\", \"ids\"");
	if (text && !json_is_string(text))
		return bad(lines, "prompt: not a string");
	if (messages && !json_is_array(messages))
		return bad(lines, "messages: not a list");
	if (ids && !is_ids(ids))
		return bad(lines, "ids: not a list of token ids");
	if (messages && !chat)
		return bad(lines, "messages: want --endpoint chat");
	if (ids && chat)
		return bad(lines, "ids: want --endpoint completions");
	if (output &&
		(!json_is_integer(output) || json_integer_value(output) < 1 ||
			json_integer_value(output) > SERVE_TRACE_TOKENS_MAX))
		return bad(lines, "output_len: not an integer in range");
	if (text && chat)
		out->member = as_messages(text);
	else
		out->member = member_of(messages ? "messages" : "prompt",
			text ? text : (messages ? messages : ids));
	if (!out->member)
		return error_set(
			lines->err, ENOMEM, "%s: no memory", lines->name);
	out->bytes = strlen(out->member);
	out->input_tokens = ids ? (uint32_t)json_array_size(ids) : 0;
	out->output_tokens = (uint32_t)json_integer_value(output);
	return 0;
}

static int add_prompt(struct lines *lines, const struct serve_prompt *prompt)
{
	struct serve_source *source = lines->source;
	struct serve_prompt *larger;

	if (source->prompt_count == PROMPT_COUNT_MAX)
		return bad(lines, "too many prompts");
	if (source->prompt_count == lines->room) {
		lines->room = lines->room ? 2 * lines->room : 256;
		larger = reallocarray(
			source->prompts, lines->room, sizeof(*larger));
		if (!larger)
			return error_set(lines->err, ENOMEM, "%s: no memory",
				lines->name);
		source->prompts = larger;
	}
	source->prompts[source->prompt_count++] = *prompt;
	return 0;
}

static int take_line(struct lines *lines, const char *line)
{
	struct serve_prompt prompt = {0};
	json_error_t fault;
	json_t *object;
	int rc;

	lines->number++;
	if (line[strspn(line, " \t\r\n")] == '\0')
		return 0;
	object = json_loads(line, JSON_REJECT_DUPLICATES, &fault);
	if (!object)
		return error_set(lines->err, EINVAL, "%s:%lu:%d: %s",
			lines->name, lines->number, fault.column, fault.text);
	rc = json_is_object(object) ? read_prompt(lines, object, &prompt)
				    : bad(lines, "not an object");
	json_decref(object);
	if (rc == 0)
		rc = add_prompt(lines, &prompt);
	if (rc)
		free(prompt.member);
	return rc;
}

static int read_prompts(
	const char *path, struct serve_source *source, struct error *err)
{
	struct lines lines = {.source = source, .name = path, .err = err};
	FILE *file = fopen(path, "re");
	char *line = NULL;
	size_t room = 0;
	int rc = 0;

	if (!file)
		return error_set(err, errno, "%s: %s", path, strerror(errno));
	while (rc == 0 && getline(&line, &room, file) >= 0)
		rc = take_line(&lines, line);
	free(line);
	if (rc == 0 && ferror(file))
		rc = error_set(err, EIO, "%s: reading failed", path);
	if (rc == 0 && source->prompt_count == 0)
		rc = error_set(err, ENODATA, "%s: no prompt", path);
	fclose(file);
	return rc;
}

static int read_trace(const struct serve_options *options,
	struct serve_source *source, struct error *err)
{
	FILE *file = fopen(options->trace, "re");
	size_t most = options->prompt_count ? options->prompt_count : SIZE_MAX;
	int rc;

	if (!file)
		return error_set(
			err, errno, "%s: %s", options->trace, strerror(errno));
	rc = serve_trace_read(file, options->trace, most, &source->trace, err);
	fclose(file);
	return rc;
}

/* --- ids ------------------------------------------------------------------- */

static int by_value(const void *a, const void *b)
{
	const uint32_t *x = a;
	const uint32_t *y = b;

	return (*x > *y) - (*x < *y);
}

static int take_ids(
	struct serve_source *source, const json_t *tokens, struct error *err)
{
	size_t count = json_array_size(tokens);

	if (!is_ids(tokens))
		return error_set(err, EPROTO,
			"/tokenize: no list of ids: say --vocab N");
	source->ids = calloc(count, sizeof(*source->ids));
	if (!source->ids)
		return error_set(err, ENOMEM, "no memory for ids");
	for (size_t i = 0; i < count; i++)
		source->ids[i] =
			(uint32_t)json_integer_value(json_array_get(tokens, i));
	qsort(source->ids, count, sizeof(*source->ids), by_value);
	source->id_count = 1;
	for (size_t i = 1; i < count; i++)
		if (source->ids[i] != source->ids[source->id_count - 1])
			source->ids[source->id_count++] = source->ids[i];
	return 0;
}

/* The ids of the words above, as the server's tokenizer sees them. */
static int ask_ids(const struct serve_options *options,
	const struct serve_target *target, struct serve_source *source,
	struct error *err)
{
	struct serve_bytes body = {0}, answer = {0};
	char text[4096];
	size_t length = 0;
	json_t *request, *reply = NULL;
	int status, rc;

	for (size_t i = 0; i < WORD_COUNT; i++)
		length += (size_t)snprintf(
			text + length, sizeof(text) - length, " %s", words[i]);
	request = json_pack("{s:s, s:s, s:b}", "model", options->models[0].name,
		"prompt", text, "add_special_tokens", 0);
	body.data = request ? json_dumps(request, JSON_COMPACT) : NULL;
	json_decref(request);
	if (!body.data)
		return error_set(err, ENOMEM, "no memory for a request");
	rc = serve_call(target,
		&(struct serve_call){"POST", "/tokenize", options->api_key,
			body.data, strlen(body.data)},
		&answer, &status, err);
	if (rc == 0 && status != 200)
		rc = error_set(err, EPROTO,
			"/tokenize: status %d: say --vocab N", status);
	if (rc == 0) {
		reply = json_loadb(answer.data, answer.length, 0, NULL);
		rc = take_ids(source, json_object_get(reply, "tokens"), err);
	}
	json_decref(reply);
	free(body.data);
	serve_bytes_release(&answer);
	return rc;
}

int serve_source_open(const struct serve_options *options,
	const struct serve_target *target, struct serve_source *out,
	struct error *err)
{
	int rc = 0;

	memset(out, 0, sizeof(*out));
	out->chat = options->chat;
	out->vocab = options->vocab;
	if (options->prompts)
		rc = read_prompts(options->prompts, out, err);
	else if (options->trace)
		rc = read_trace(options, out, err);
	if (rc == 0 && !options->prompts && !options->chat && !options->vocab)
		rc = ask_ids(options, target, out, err);
	if (rc)
		serve_source_release(out);
	return rc;
}

void serve_source_release(struct serve_source *source)
{
	for (size_t i = 0; i < source->prompt_count; i++)
		free(source->prompts[i].member);
	free(source->prompts);
	free(source->ids);
	serve_trace_release(&source->trace);
	memset(source, 0, sizeof(*source));
}

/* --- chance ---------------------------------------------------------------- */

static int put_id(const struct serve_source *source,
	struct serve_random *random, bool first, struct serve_bytes *out)
{
	char text[16];
	uint32_t id = source->id_count
			      ? source->ids[serve_random_below(
					random, source->id_count)]
			      : serve_random_below(random, source->vocab);
	int length = snprintf(text, sizeof(text), first ? "%u" : ",%u", id);

	return serve_bytes_add(out, text, (size_t)length, BODY_MAX);
}

static int put_word(
	struct serve_random *random, bool first, struct serve_bytes *out)
{
	const char *word = words[serve_random_below(random, WORD_COUNT)];
	int rc = first ? 0 : serve_bytes_add(out, " ", 1, BODY_MAX);

	return rc ? rc : serve_bytes_add(out, word, strlen(word), BODY_MAX);
}

int serve_source_random(const struct serve_source *source, uint64_t seed,
	uint64_t index, uint32_t tokens, const struct serve_trace_row *row,
	struct serve_bytes *out)
{
	const char *head = source->chat ? "\"messages\":[{\"role\":\"user\","
					  "\"content\":\""
					: "\"prompt\":[";
	const char *tail = source->chat ? "\"}]" : "]";
	struct serve_random random = {serve_random_mix(seed, index)};
	int rc = serve_bytes_add(out, head, strlen(head), BODY_MAX);

	for (uint32_t i = 0; rc == 0 && i < tokens; i++) {
		uint32_t block = i / SERVE_TRACE_BLOCK_TOKENS;

		/* Blocks of equal ids are equal tokens. */
		if (row && i % SERVE_TRACE_BLOCK_TOKENS == 0 &&
			block < row->hash_count)
			random.state = serve_random_mix(seed,
				source->trace.hashes[row->hash_offset + block]);
		rc = source->chat ? put_word(&random, i == 0, out)
				  : put_id(source, &random, i == 0, out);
	}
	if (rc == 0)
		rc = serve_bytes_add(out, tail, strlen(tail), BODY_MAX);
	return rc;
}
