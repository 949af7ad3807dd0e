/* fuzz_ring_messages.c - an engine gone wrong (bytes -> shared memory) */
/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Three requests are submitted; the input is then written into the engine's
 * half of the segment and into the rings, record by record. Whatever it says,
 * the role goes on, and once every slot is closed by control nothing is left
 * behind.
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
	int segment_fd, tokenizer_fd;
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
	const struct segment_shape shape = {SLOTS, 64, RING, 1};
	static struct front_setup setup;
	struct error err = {0};

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
	setup.tokenizer_fd = t->tokenizer_fd = open(FAMILY, O_RDONLY);
	if (segment_create(&shape, &t->segment, &t->segment_fd, &err) != 0)
		die(err.text);
	beat(t);
	if (front_create_over(&setup, &t->segment, fake_stream_create,
		    &t->front, &err) != 0)
		die(err.text);
	front_beat(t->front, BEAT_READY);
}

static void turn(struct target *t)
{
	beat(t);
	front_turn(t->front, mono_add(mono_now(), NS_PER_MS / 10));
}

static void submit_all(struct target *t)
{
	char head[128];

	for (int i = 0; i < CLIENTS; i++) {
		uint32_t client = fake_stream_open(0);

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
		(void)ring_push(
			segment_token_ring(&t->segment, 0), RING, &message);
		return 18;
	case 1: /* a message that could nearly be good */
		message = (struct ring_message){
			data[1] % 2 ? RING_TOKENS : RING_DONE, data[2] % SLOTS,
			data[3] % 2, data[4]};
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

static void close_target(struct target *t)
{
	const struct ring_message dead = {
		.kind = RING_CLOSE, .generation = UINT32_MAX};

	while (!ring_push(segment_control_ring(&t->segment, ROLE_INDEX_FRONT),
		RING, &dead))
		turn(t);
	for (int i = 0; i < TURNS_MAX && t->front->slot_used > 0; i++)
		turn(t);
	if (t->front->slot_used || t->front->page_used)
		die("slots or pages are left behind");
	front_destroy(t->front);
	segment_detach(&t->segment);
	close(t->segment_fd);
	close(t->tokenizer_fd);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct target t = {0};

	open_target(&t);
	submit_all(&t);
	while (size > 0) {
		size_t taken = apply(&t, data, size);

		data += taken;
		size -= taken;
		turn(&t);
	}
	close_target(&t);
	return 0;
}
