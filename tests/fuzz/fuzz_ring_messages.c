/* fuzz_ring_messages.c - an engine gone wrong (bytes -> shared memory) */
/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Three requests are submitted; the input is then written into the engine's
 * half of the segment and into the rings, record by record. Whatever it says,
 * the role goes on, and once every slot is closed by control nothing is left
 * behind: so one role serves all inputs, and each finds it as the first did,
 * but for the generations of slots and the order of free slots and pages.
 */
#include <assert.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "dataplane/front_private.h"
#include "tests/fake/fake_stream.h"
#include "tests/fuzz/fuzz.h"

#define FAMILY "tests/golden-text/qwen/tokenizer.json"
#define SLOTS 8
#define RING 64
#define CLIENTS 3
#define TURNS_MAX 4000

static const char *const bodies[CLIENTS] = {
	"{\"model\":\"m\",\"prompt\":\"Hi\",\"stream\":true,\"logprobs\":2}",
	"{\"model\":\"m\",\"prompt\":\"Hi\",\"stop\":\"ab\"}",
	"{\"model\":\"m\",\"prompt\":\"Hi\",\"n\":2,\"logprobs\":1}"};

struct target {
	struct segment segment;
	struct front *front;
	uint32_t clients[CLIENTS];
};

static void die(const char *why)
{
	fprintf(stderr, "fuzz_ring_messages: %s\n", why);
	abort();
}

static void set_limits(struct front_limits *limits)
{
	*limits = (struct front_limits){8, 65536, 8192, 64, 4, 8, 64,
		60 * NS_PER_S, 60 * NS_PER_S, 60 * NS_PER_S, 60 * NS_PER_S,
		60 * NS_PER_S, NS_PER_S, 100};
}

static void beat(struct target *t)
{
	struct role_beat *mark = segment_beat(&t->segment, ROLE_INDEX_RANK0);

	mark->state = BEAT_READY;
	mark->beat_ns = mono_now().ns;
}

static void open_target(struct target *t)
{
	const struct segment_shape shape = {SLOTS, 64, RING, 1, 1};
	static struct front_setup setup;
	struct error err = {0};
	int fd;

	setup = (struct front_setup){.listener_count = 1,
		.text_worker_count = 1,
		.tokenizer_config_fd = -1,
		.chat_template_fd = -1,
		.certificate_fd = -1,
		.certificate_key_fd = -1};
	set_limits(&setup.limits);
	setup.model = (struct front_model){.name = {"m"},
		.name_count = 1,
		.vocab = 300,
		.position_count = 512,
		.temperature = 1,
		.top_p = 1,
		.repetition_penalty = 1};
	setup.tokenizer_fd = open(FAMILY, O_RDONLY);
	if (segment_create(&shape, &t->segment, &fd, &err) != 0)
		die(err.text);
	beat(t);
	if (front_create_over(&setup, &t->segment, fake_stream_create,
		    &t->front, &err) != 0)
		die(err.text);
	front_beat(t->front, BEAT_READY);
	close(fd);
	close(setup.tokenizer_fd);
}

static void turn(struct target *t)
{
	beat(t);
	front_turn(t->front, mono_add(mono_now(), NS_PER_MS / 10));
}

/* Without a wait for the workers: an input has hundreds of records. */
static void hurry(struct target *t)
{
	beat(t);
	front_turn(t->front, (struct mono){0});
}

static void submit_all(struct target *t)
{
	char head[128];

	for (int i = 0; i < CLIENTS; i++) {
		uint32_t client = fake_stream_open(0);

		t->clients[i] = client;
		snprintf(head, sizeof(head),
			"POST /v1/completions HTTP/1.1\r\nHost: h\r\n"
			"Content-Length: %zu\r\n\r\n",
			strlen(bodies[i]));
		fake_stream_input(client, head, strlen(head));
		fake_stream_input(client, bodies[i], strlen(bodies[i]));
	}
	for (int i = 0; i < TURNS_MAX && t->front->slot_used < 4; i++)
		turn(t);
}

/* So that a message of any input can be about the request of now. */
static uint32_t generation_of(const struct target *t, uint32_t slot)
{
	return slot < SLOTS ? segment_slot(&t->segment, slot)->generation : 0;
}

/* One record of the input: where, and what. */
static size_t apply(struct target *t, const uint8_t *data, size_t size)
{
	struct ring_message message;
	struct request_slot *slot;
	uint8_t *half;

	if (size < 18)
		return size;
	switch (data[0] % 4) {
	case 0:
		memcpy(&message, data + 2, sizeof(message));
		message.generation += generation_of(t, message.slot);
		(void)ring_push(
			segment_token_ring(&t->segment, 0), RING, &message);
		return 18;
	case 1: /* a message that could nearly be good */
		message = (struct ring_message){
			data[1] % 2 ? RING_TOKENS : RING_DONE, data[2] % SLOTS,
			data[3] % 2 + generation_of(t, data[2] % SLOTS),
			data[4]};
		(void)ring_push(
			segment_token_ring(&t->segment, 0), RING, &message);
		return 5;
	case 2:
		slot = segment_slot(&t->segment, data[1] % SLOTS);
		half = (uint8_t *)&slot->engine_state;
		memcpy(half + data[2] % 16, data + 3, 4);
		return 7;
	default:
		memcpy(segment_page(&t->segment, data[1] % 64)->bytes +
				(size_t)data[2] * 8,
			data + 3, 8);
		return 11;
	}
}

/* What the engine would have read, and what was written in its name. */
static void reset_engine(struct target *t)
{
	struct ring_message message;

	while (ring_pop(segment_request_ring(&t->segment, 0), RING, &message,
		       1) == 1) {
	}
	for (uint32_t i = 0; i < SLOTS; i++) {
		struct request_slot *slot = segment_slot(&t->segment, i);

		memset(&slot->engine_state, 0,
			sizeof(*slot) -
				offsetof(struct request_slot, engine_state));
	}
	for (uint32_t i = 0; i < 64; i++)
		memset(segment_page(&t->segment, i)->bytes, 0,
			PAYLOAD_PAGE_BYTES - 8);
}

static bool is_busy(const struct front *front)
{
	return front->slot_used || front->exchange_used ||
	       front->counters->connections_open;
}

static void close_all(struct target *t)
{
	const struct ring_message dead = {
		.kind = RING_CLOSE, .generation = UINT32_MAX};

	while (!ring_push(segment_control_ring(&t->segment, ROLE_INDEX_FRONT),
		RING, &dead))
		turn(t);
	for (int i = 0; i < CLIENTS; i++)
		fake_stream_reset(t->clients[i]);
	for (int i = 0; i < TURNS_MAX && is_busy(t->front); i++)
		turn(t);
	if (is_busy(t->front) || t->front->page_used)
		die("slots, pages, requests or clients are left behind");
	reset_engine(t);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct target t;

	if (!t.front)
		open_target(&t);
	submit_all(&t);
	while (size > 0) {
		size_t taken = apply(&t, data, size);

		data += taken;
		size -= taken;
		hurry(&t);
	}
	/* Time to say something about it. */
	for (int i = 0; i < 3; i++)
		turn(&t);
	close_all(&t);
	return 0;
}
