/* fuzz_bench_response.c - any bytes as an answer to the load generator */
/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The first two bytes say what was asked for and where the rest is cut; the
 * verdict must not depend on the cut, nor on going byte by byte.
 */
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "bench/serve_reply.h"
#include "tests/fuzz/fuzz.h"

#define GAP_COUNT 8

static void require(bool holds)
{
	if (!holds)
		abort();
}

/* Feed pieces of `step` bytes after a first one of `cut`, then the end. */
static void feed(struct serve_reply *reply, const struct serve_expect *expect,
	const char *data, size_t size, size_t cut, size_t step)
{
	static uint32_t gaps[GAP_COUNT];
	enum serve_reply_state state = SERVE_REPLY_MORE;
	size_t at = 0, length = cut;

	serve_reply_start(reply, expect, gaps, GAP_COUNT);
	while (state == SERVE_REPLY_MORE && at < size) {
		size_t taken;

		if (length > size - at)
			length = size - at;
		state = serve_reply_feed(reply, data + at, length, 5, &taken);
		require(taken <= length);
		require(state != SERVE_REPLY_MORE || taken == length);
		at += taken;
		length = step;
	}
	if (state == SERVE_REPLY_MORE)
		state = serve_reply_eof(reply);
	require(state != SERVE_REPLY_MORE);
	require(state == SERVE_REPLY_DONE ||
		reply->verdict.fault != SERVE_FAULT_NONE);
}

static void compare(const struct serve_reply *a, const struct serve_reply *b)
{
	require(a->verdict.fault == b->verdict.fault);
	require(a->verdict.finish == b->verdict.finish);
	require(a->verdict.chunk_count == b->verdict.chunk_count);
	require(a->verdict.text_hash == b->verdict.text_hash);
	require(a->verdict.text_bytes == b->verdict.text_bytes);
	require(a->verdict.prompt_tokens == b->verdict.prompt_tokens);
	require(strcmp(a->example, b->example) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct serve_reply whole, parts;
	struct serve_expect expect = {0};
	const char *bytes;
	size_t cut;

	if (size < 2)
		return 0;
	expect.chat = data[0] & 1;
	expect.stream = data[0] & 2;
	expect.include_usage = data[0] & 4;
	expect.exact_chunks = data[0] & 8;
	expect.ignore_eos = data[0] & 16;
	expect.keep_text = data[0] & 32;
	expect.output_tokens = 3;
	bytes = (const char *)data + 2;
	size -= 2;
	cut = size * data[1] / 255;
	feed(&whole, &expect, bytes, size, size, size);
	feed(&parts, &expect, bytes, size, cut, size);
	compare(&whole, &parts);
	feed(&parts, &expect, bytes, size, 1, 1);
	compare(&whole, &parts);
	return 0;
}
