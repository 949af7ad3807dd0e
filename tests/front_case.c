/* front_case.c - a dataplane role with the test as its clients and its engine */
/* SPDX-License-Identifier: Apache-2.0 */
#include <assert.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "tests/front_case.h"
#include "tests/suite.h"
#include "tests/text_case.h"

#define FAMILY TEXT_FOLDER "/qwen"
#define TURN_COUNT_MAX 20000

static int open_file(const char *path)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);

	assert(fd >= 0);
	return fd;
}

static void set_limits(struct front_limits *limits)
{
	*limits = (struct front_limits){.connection_count = 16,
		.request_body_bytes = 65536,
		.header_bytes = 8192,
		.header_count = 64,
		.pipelined_count = 4,
		.prompt_list_count = 8,
		.output_default = 64,
		.header_timeout_ns = 60 * NS_PER_S,
		.body_timeout_ns = 60 * NS_PER_S,
		.idle_timeout_ns = 60 * NS_PER_S,
		.stall_timeout_ns = 60 * NS_PER_S,
		.request_timeout_ns = 60 * NS_PER_S,
		.drain_timeout_ns = 10 * NS_PER_S,
		.retry_after_ms = 250};
}

void front_case_prepare(struct front_case *c, uint32_t rank_count)
{
	const struct segment_shape shape = {FRONT_CASE_SLOTS, FRONT_CASE_PAGES,
		FRONT_CASE_RING, rank_count, 1};
	struct error err = {0};

	*c = (struct front_case){.tok = text_tokenizer("qwen")};
	if (segment_create(&shape, &c->segment, &c->segment_fd, &err) != 0)
		CU_FAIL_FATAL(err.text);
	set_limits(&c->setup.limits);
	c->setup.model = (struct front_model){.name_count = 2,
		.created_s = 1700000000,
		.vocab = tokenizer_vocab_size(c->tok),
		.position_count = FRONT_CASE_POSITIONS,
		.temperature = 1,
		.top_p = 1,
		.repetition_penalty = 1};
	strcpy(c->setup.model.name[0], "qwen/test");
	strcpy(c->setup.model.name[1], "alias");
	c->setup.listener_count = 2;
	c->setup.listeners[0] =
		(struct front_listener){.fd = -1, .service = FRONT_API};
	c->setup.listeners[1] =
		(struct front_listener){.fd = -1, .service = FRONT_ADMIN};
	c->setup.text_worker_count = 1;
	c->setup.tokenizer_config_fd = -1;
	c->setup.certificate_fd = c->setup.certificate_key_fd = -1;
	c->setup.tokenizer_fd = open_file(FAMILY "/tokenizer.json");
	c->setup.chat_template_fd = open_file(TEXT_FOLDER "/chat/chatml.jinja");
	strcpy(c->setup.version, "0.0.1");
	for (uint32_t i = 0; i < rank_count; i++)
		front_case_beat(c, i);
}

void front_case_beat(struct front_case *c, uint32_t rank)
{
	struct role_beat *beat =
		segment_beat(&c->segment, ROLE_INDEX_RANK0 + rank);

	__atomic_store_n(&beat->beat_ns, mono_now().ns, __ATOMIC_RELAXED);
	__atomic_store_n(&beat->progress, beat->progress + 1, __ATOMIC_RELAXED);
	__atomic_store_n(&beat->state, (uint32_t)BEAT_READY, __ATOMIC_RELEASE);
}

void front_case_start(struct front_case *c)
{
	struct error err = {0};
	int rc = front_create_over(
		&c->setup, &c->segment, fake_stream_create, &c->front, &err);

	if (rc)
		printf("\n%s\n", err.text);
	CU_ASSERT_EQUAL_FATAL(rc, 0);
	front_beat(c->front, BEAT_READY);
}

void front_case_open(struct front_case *c)
{
	front_case_prepare(c, 1);
	front_case_start(c);
}

void front_case_restart(struct front_case *c)
{
	front_destroy(c->front);
	front_case_start(c);
}

void front_case_close(struct front_case *c)
{
	CU_ASSERT_EQUAL(c->front->slot_used, 0);
	CU_ASSERT_EQUAL(c->front->page_used, 0);
	CU_ASSERT_EQUAL(c->front->exchange_used, 0);
	CU_ASSERT_EQUAL(c->front->body_bytes, 0);
	for (uint32_t i = 0; i < FRONT_CASE_SLOTS; i++)
		CU_ASSERT_EQUAL(
			segment_slot(&c->segment, i)->front_state, FRONT_FREE);
	front_destroy(c->front);
	close(c->setup.tokenizer_fd);
	close(c->setup.chat_template_fd);
	tokenizer_destroy(c->tok);
	segment_detach(&c->segment);
	close(c->segment_fd);
}

bool front_case_turn(struct front_case *c, front_case_done *done, void *arg)
{
	for (uint32_t i = 0; i < TURN_COUNT_MAX; i++) {
		struct mono until = mono_add(mono_now(), NS_PER_MS / 2);

		for (uint32_t r = 0; r < c->segment.shape.rank_count; r++) {
			struct role_beat *beat =
				segment_beat(&c->segment, ROLE_INDEX_RANK0 + r);

			if (beat->state == BEAT_READY)
				beat->beat_ns = mono_now().ns;
		}
		front_turn(c->front, until);
		if (done(c, arg))
			return true;
	}
	return false;
}

/* Jobs are popped when they are done and their notes are out. */
static bool has_jobs(const struct text_ring *jobs)
{
	return __atomic_load_n(&jobs->tail, __ATOMIC_ACQUIRE) != jobs->head;
}

static bool is_parsing_or_writing(const struct front *front)
{
	for (uint32_t i = 0; i < front->worker_count; i++)
		if (has_jobs(&front->workers[i].text.in_jobs) ||
			has_jobs(&front->workers[i].text.out_jobs))
			return true;
	for (uint32_t i = 0; i < front->exchange_fresh; i++)
		if (front->exchanges[i].used &&
			(front->exchanges[i].parsing ||
				front->exchanges[i].release_due))
			return true;
	return front->dirty_exchanges != FRONT_NONE;
}

static bool is_settled_except_slots(struct front_case *c, void *arg)
{
	uint32_t *quiet = arg;

	*quiet = is_parsing_or_writing(c->front) ? 0 : *quiet + 1;
	return *quiet >= 4;
}

static bool is_settled(struct front_case *c, void *arg)
{
	uint32_t *quiet = arg;

	if (c->front->dirty_slots == FRONT_NONE)
		return is_settled_except_slots(c, arg);
	*quiet = 0;
	return false;
}

void front_case_settle(struct front_case *c)
{
	uint32_t quiet = 0;

	CU_ASSERT(front_case_turn(c, is_settled, &quiet));
}

void front_case_settle_except_slots(struct front_case *c)
{
	uint32_t quiet = 0;

	CU_ASSERT(front_case_turn(c, is_settled_except_slots, &quiet));
}

/* --- client ------------------------------------------------------------------- */

uint32_t front_case_connect(struct front_case *c, uint32_t listener)
{
	(void)c;
	return fake_stream_open(listener);
}

void front_case_post(uint32_t client, const char *path, const char *headers,
	const char *body)
{
	char head[1024];
	int length = snprintf(head, sizeof(head),
		"POST %s HTTP/1.1\r\nHost: h\r\nContent-Length: %zu\r\n%s\r\n",
		path, strlen(body), headers);

	assert(length > 0 && (size_t)length < sizeof(head));
	fake_stream_input(client, head, (size_t)length);
	fake_stream_input(client, body, strlen(body));
}

void front_case_get(uint32_t client, const char *path)
{
	char head[1024];
	int length = snprintf(
		head, sizeof(head), "GET %s HTTP/1.1\r\nHost: h\r\n\r\n", path);

	fake_stream_input(client, head, (size_t)length);
}

void front_case_say(uint32_t client, const char *text)
{
	fake_stream_input(client, text, strlen(text));
}

struct expectation {
	uint32_t client;
	const char *text;
};

static bool has_text(struct front_case *c, void *arg)
{
	const struct expectation *e = arg;

	(void)c;
	return strstr(fake_stream_output(e->client, NULL), e->text) != NULL;
}

bool front_case_expect(struct front_case *c, uint32_t client, const char *text)
{
	struct expectation e = {client, text};
	bool found = front_case_turn(c, has_text, &e);

	if (!found)
		printf("\nwanted %s in:\n%s\n", text,
			fake_stream_output(client, NULL));
	return found;
}

/* From `key` to the first byte of `stop`: a fixed word instead. */
static void mask(
	char *text, const char *key, const char *stop, const char *word)
{
	char *at = text;

	while ((at = strstr(at, key)) != NULL) {
		char *end;

		at += strlen(key);
		end = at + strcspn(at, stop);
		memmove(at + strlen(word), end, strlen(end) + 1);
		for (const char *from = word; *from; from++)
			*at++ = *from;
	}
}

const char *front_case_output(uint32_t client, char *out, size_t capacity)
{
	size_t length;
	const char *text = fake_stream_output(client, &length);

	assert(length < capacity);
	memcpy(out, text, length + 1);
	mask(out, "\"id\":\"cmpl-", "\"", "ID");
	mask(out, "\"id\":\"chatcmpl-", "\"", "ID");
	mask(out, "\"created\":", ",", "T");
	mask(out, "date: ", "\r", "D");
	mask(out, "x-request-id: ", "\r", "R");
	mask(out, "content-length: ", "\r", "L");
	return out;
}

/* --- engine --------------------------------------------------------------------- */

bool front_case_pop_now(
	struct front_case *c, uint32_t rank, struct ring_message *out)
{
	return ring_pop(segment_request_ring(&c->segment, rank),
		       FRONT_CASE_RING, out, 1) == 1;
}

struct popped {
	uint32_t rank;
	struct ring_message message;
};

static bool has_message(struct front_case *c, void *arg)
{
	struct popped *p = arg;

	return front_case_pop_now(c, p->rank, &p->message);
}

struct ring_message front_case_pop(struct front_case *c, uint32_t rank)
{
	struct popped p = {.rank = rank};

	CU_ASSERT_FATAL(front_case_turn(c, has_message, &p));
	return p.message;
}

static struct request_slot *slot_of(const struct front_case *c, uint32_t slot)
{
	CU_ASSERT_FATAL(slot < FRONT_CASE_SLOTS);
	return segment_slot(&c->segment, slot);
}

void front_case_run(struct front_case *c, uint32_t slot)
{
	struct request_slot *s = slot_of(c, slot);

	s->output_count = s->cached_count = s->finish = 0;
	s->engine_times = (struct engine_times){0};
	__atomic_store_n(&s->engine_state, ENGINE_RUNNING, __ATOMIC_RELEASE);
}

static void put_record(const struct front_case *c, uint32_t page,
	uint32_t index, struct token_record record)
{
	for (; index >= PAYLOAD_RECORDS_PER_PAGE;
		index -= (uint32_t)PAYLOAD_RECORDS_PER_PAGE)
		page = segment_page(&c->segment, page)->next;
	memcpy(segment_page(&c->segment, page)->bytes + index * sizeof(record),
		&record, sizeof(record));
}

void front_case_write(
	struct front_case *c, uint32_t slot, uint32_t id, float logprob)
{
	struct request_slot *s = slot_of(c, slot);

	put_record(c, s->log_page, s->output_count,
		(struct token_record){id, logprob});
	__atomic_store_n(
		&s->output_count, s->output_count + 1, __ATOMIC_RELEASE);
}

void front_case_write_top(struct front_case *c, uint32_t slot, uint32_t k,
	uint32_t id, float logprob)
{
	struct request_slot *s = slot_of(c, slot);

	put_record(c, s->top_page,
		(s->output_count - 1) * s->params.logprob_count + k,
		(struct token_record){id, logprob});
}

void front_case_push(
	struct front_case *c, uint32_t rank, struct ring_message message)
{
	CU_ASSERT_FATAL(ring_push(segment_token_ring(&c->segment, rank),
		FRONT_CASE_RING, &message));
	segment_ring_bell(&c->segment);
}

void front_case_tell(struct front_case *c, const struct ring_message *request)
{
	struct request_slot *s = slot_of(c, request->slot);

	front_case_push(c, s->rank,
		(struct ring_message){.kind = RING_TOKENS,
			.slot = request->slot,
			.generation = request->generation,
			.value = s->output_count});
}

void front_case_finish(struct front_case *c, const struct ring_message *request,
	enum finish_reason reason)
{
	struct request_slot *s = slot_of(c, request->slot);
	bool good = reason < FINISH_CANCELLED;

	s->finish = reason;
	__atomic_store_n(&s->engine_state,
		good ? ENGINE_FINISHED : ENGINE_FAILED, __ATOMIC_RELEASE);
	front_case_push(c, s->rank,
		(struct ring_message){.kind = RING_DONE,
			.slot = request->slot,
			.generation = request->generation,
			.value = s->output_count});
}

void front_case_answer(struct front_case *c, const struct ring_message *request,
	const char *text, enum finish_reason reason)
{
	uint32_t ids[512];
	size_t count = text_encode(c->tok, text, strlen(text), ids, 512);

	front_case_run(c, request->slot);
	for (size_t i = 0; i < count; i++) {
		front_case_write(c, request->slot, ids[i], -0.5f);
		front_case_tell(c, request);
		front_case_settle(c);
	}
	front_case_finish(c, request, reason);
}

uint32_t front_case_prompt(const struct front_case *c, uint32_t slot,
	uint32_t *out, uint32_t capacity)
{
	const struct request_slot *s = slot_of(c, slot);
	uint32_t page = s->prompt_page, count = s->params.prompt_count;

	assert(count <= capacity);
	for (uint32_t i = 0; i < count; i++) {
		uint32_t at = i % (uint32_t)PAYLOAD_IDS_PER_PAGE;

		if (i > 0 && at == 0)
			page = segment_page(&c->segment, page)->next;
		memcpy(&out[i],
			segment_page(&c->segment, page)->bytes +
				at * sizeof(uint32_t),
			sizeof(uint32_t));
	}
	return count;
}
