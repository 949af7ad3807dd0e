/* wire.c - two ends and a bad line between them, in virtual time */
/* SPDX-License-Identifier: Apache-2.0 */
#include <stdlib.h>
#include <string.h>

#include "tests/suite.h"
#include "tests/wire.h"

#define SHARE 1000000

enum fate { FATE_DELIVERED, FATE_CORRUPT };

static void mix(struct wire *w, const void *data, size_t length)
{
	const uint8_t *p = data;

	/* FNV-1a. */
	for (size_t i = 0; i < length; i++)
		w->hash = (w->hash ^ p[i]) * UINT64_C(0x100000001b3);
}

static void put32(FILE *f, uint32_t value)
{
	fwrite(&value, sizeof(value), 1, f);
}

static void pcap_begin(struct wire *w)
{
	const char *path = getenv("HEDDLE_WIRE_PCAP");

	w->pcap = path ? fopen(path, "wb") : NULL;
	if (!w->pcap)
		return;
	put32(w->pcap, 0xa1b23c4d); /* nanoseconds */
	put32(w->pcap, 2 | 4 << 16);
	put32(w->pcap, 0);
	put32(w->pcap, 0);
	put32(w->pcap, WIRE_FRAME_BYTES);
	put32(w->pcap, 1); /* Ethernet */
}

static void pcap_put(struct wire *w, const struct wire_frame *f)
{
	if (!w->pcap)
		return;
	put32(w->pcap, (uint32_t)(f->ns / NS_PER_S));
	put32(w->pcap, (uint32_t)(f->ns % NS_PER_S));
	put32(w->pcap, f->length);
	put32(w->pcap, f->length);
	fwrite(f->bytes, 1, f->length, w->pcap);
}

void wire_init(struct wire *w, uint64_t seed)
{
	memset(w, 0, offsetof(struct wire, frame));
	w->random = seed;
	w->hash = UINT64_C(0xcbf29ce484222325);
	w->now = (struct mono){NS_PER_S};
	pcap_begin(w);
}

void wire_release(struct wire *w)
{
	for (uint32_t i = 0; i < w->heap_count; i++)
		free(w->heap[i].bytes);
	free(w->heap);
	if (w->pcap)
		fclose(w->pcap);
}

static bool sooner(const struct wire_frame *a, const struct wire_frame *b)
{
	return a->ns != b->ns ? a->ns < b->ns : a->order < b->order;
}

static void heap_push(struct wire *w, struct wire_frame frame)
{
	uint32_t at = w->heap_count++;

	if (at == w->heap_size) {
		w->heap_size = w->heap_size ? w->heap_size * 2 : 64;
		w->heap = realloc(w->heap, w->heap_size * sizeof(*w->heap));
		if (!w->heap)
			abort();
	}
	while (at > 0 && sooner(&frame, &w->heap[(at - 1) / 2])) {
		w->heap[at] = w->heap[(at - 1) / 2];
		at = (at - 1) / 2;
	}
	w->heap[at] = frame;
}

static struct wire_frame heap_pop(struct wire *w)
{
	struct wire_frame top = w->heap[0], last = w->heap[--w->heap_count];
	uint32_t at = 0, child;

	while ((child = 2 * at + 1) < w->heap_count) {
		if (child + 1 < w->heap_count &&
			sooner(&w->heap[child + 1], &w->heap[child]))
			child++;
		if (!sooner(&w->heap[child], &last))
			break;
		w->heap[at] = w->heap[child];
		at = child;
	}
	w->heap[at] = last;
	return top;
}

static bool chance(struct wire *w, uint32_t share)
{
	return share > 0 && suite_below(&w->random, SHARE) < share;
}

static void enqueue(struct wire *w, uint8_t from, const uint8_t *frame,
	size_t length, uint64_t at_ns)
{
	const struct wire_line *line = &w->lines[from];
	struct wire_frame f = {.ns = at_ns + line->delay_ns,
		.order = w->order++,
		.length = (uint32_t)length,
		.to = !from};
	uint8_t fate = FATE_DELIVERED;

	if (line->jitter_ns)
		f.ns += suite_random(&w->random) % line->jitter_ns;
	if (chance(w, line->reorder))
		f.ns += line->reorder_ns;
	f.bytes = malloc(length);
	if (!f.bytes)
		abort();
	memcpy(f.bytes, frame, length);
	if (length > 14 && chance(w, line->corrupt)) {
		/* Bits of one byte: that the Internet checksum always finds.
		 * Not in the link header, which has a check of its own. */
		fate = FATE_CORRUPT;
		f.bytes[14 + suite_below(&w->random, (uint32_t)length - 14)] ^=
			(uint8_t)(suite_below(&w->random, 255) + 1);
	}
	mix(w, &fate, 1);
	mix(w, &f.ns, sizeof(f.ns));
	heap_push(w, f);
}

void wire_send(
	struct wire *w, uint8_t from, const uint8_t *frame, size_t length)
{
	const struct wire_line *line = &w->lines[from];
	uint64_t at = w->now.ns;
	bool lost = chance(w, line->loss);

	w->sent_count[from]++;
	mix(w, &from, 1);
	mix(w, &at, sizeof(at));
	mix(w, frame, length);
	if (line->bytes_per_s) {
		uint64_t busy = w->line_free_ns[from];

		if (busy < at)
			busy = at;
		lost |= line->queue_bytes &&
			(busy - at) * line->bytes_per_s / NS_PER_S >
				line->queue_bytes;
		if (!lost)
			w->line_free_ns[from] =
				busy + length * NS_PER_S / line->bytes_per_s;
		at = w->line_free_ns[from];
	}
	lost |= w->now.ns >= line->dead_from_ns &&
		w->now.ns < line->dead_until_ns;
	if (lost) {
		w->lost_count[from]++;
		return;
	}
	enqueue(w, from, frame, length, at);
	if (chance(w, line->duplicate))
		enqueue(w, from, frame, length, at);
}

static void deliver(struct wire *w)
{
	struct wire_frame f = heap_pop(w);

	pcap_put(w, &f);
	w->delivered_count[!f.to]++;
	w->ends[f.to].input(w->ends[f.to].arg, f.bytes, f.length, w->now);
	free(f.bytes);
}

/* The next moment at which something happens. */
static uint64_t next_ns(const struct wire *w)
{
	uint64_t ns = w->heap_count ? w->heap[0].ns : UINT64_MAX;

	for (int i = 0; i < 2; i++) {
		uint64_t at = w->ends[i].deadline(w->ends[i].arg).ns;

		if (at < ns)
			ns = at;
	}
	return ns;
}

bool wire_run(
	struct wire *w, struct mono until, bool (*done)(void *arg), void *arg)
{
	for (;;) {
		uint64_t ns;

		for (int i = 0; i < 2; i++)
			w->ends[i].poll(w->ends[i].arg, w->now);
		if (done && done(arg))
			return true;
		ns = next_ns(w);
		if (ns > until.ns) {
			if (until.ns != UINT64_MAX && w->now.ns < until.ns)
				w->now = until;
			return false;
		}
		if (ns > w->now.ns)
			w->now.ns = ns;
		while (w->heap_count && w->heap[0].ns <= w->now.ns)
			deliver(w);
	}
}

static uint32_t share_random(uint64_t *random)
{
	/* Half of all lines are free of a fault; the others up to 20 %. */
	return suite_below(random, 2) ? suite_below(random, 200001) : 0;
}

struct wire_line wire_line_random(uint64_t *random)
{
	struct wire_line line = {
		.loss = share_random(random),
		.duplicate = share_random(random),
		.reorder = share_random(random),
		.corrupt = share_random(random) / 4,
		.delay_ns = suite_below(random, 50000) * NS_PER_US,
		.jitter_ns = suite_below(random, 2)
				     ? suite_below(random, 10000) * NS_PER_US
				     : 0,
		.reorder_ns = suite_below(random, 30000) * NS_PER_US,
	};

	if (suite_below(random, 4) == 0) {
		line.bytes_per_s = 20000 + suite_below(random, 1000000);
		line.queue_bytes = 3000 + suite_below(random, 60000);
	}
	return line;
}
