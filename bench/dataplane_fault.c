/* dataplane_fault.c - a wire that harms what crosses it (frames <-> frames) */
/* SPDX-License-Identifier: Apache-2.0 */
#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "bench/dataplane_fault.h"
#include "bench/serve_random.h"
#include "dataplane/net_checksum.h"
#include "dataplane/net_wire.h"

#define LATE_COUNT 32u /* at once; more are not late */
#define DRAW_COUNT 100000u

struct late {
	bool used, given;
	size_t length;
	uint32_t left; /* frames that still go before it */
	uint8_t bytes[DATAPLANE_WIRE_FRAME_BYTES];
};

struct fault_wire {
	struct dataplane_wire wire; /* the first: what the callers have */
	struct dataplane_wire *below; /* owned */
	struct serve_random random;
	bool on;
	struct late in[LATE_COUNT], out[LATE_COUNT];
	uint32_t in_late, out_late; /* used */
	uint32_t given_count; /* of out: they are with the caller */
	struct dataplane_faults counts;
};

/* Of DRAW_COUNT frames. */
static const uint32_t in_rates[FAULT_COUNT] = {
	[FAULT_LOST] = 500,
	[FAULT_TWICE] = 300,
	[FAULT_LATE] = 300,
	[FAULT_SUM] = 100,
	[FAULT_HEADER] = 100,
	[FAULT_MAC] = 100,
	[FAULT_PIECE] = 100,
};
static const uint32_t out_rates[FAULT_COUNT] = {
	[FAULT_LOST] = 500,
	[FAULT_TWICE] = 300,
	[FAULT_LATE] = 300,
};

static struct fault_wire *of(struct dataplane_wire *wire)
{
	return (struct fault_wire *)wire;
}

static enum dataplane_fault draw(struct fault_wire *f, const uint8_t *frame,
	size_t length, const uint32_t *rates)
{
	uint32_t number;

	if (!f->on || length < ETHERNET_BYTES + IP4_BYTES + TCP_BYTES ||
		net_get16(frame + 12) != ETHER_IP4)
		return FAULT_NONE;
	number = serve_random_below(&f->random, DRAW_COUNT);
	for (int i = FAULT_LOST; i < FAULT_COUNT; i++) {
		if (number < rates[i])
			return (enum dataplane_fault)i;
		number -= rates[i];
	}
	return FAULT_NONE;
}

/* False: so many are late that this one is not. */
static bool make_late(struct fault_wire *f, struct late *row, uint32_t *count,
	const struct net_frame *frame)
{
	struct late *l = row;

	if (*count == LATE_COUNT || frame->length > sizeof(l->bytes))
		return false;
	while (l->used)
		l++;
	l->used = true;
	l->length = frame->length;
	l->left = 1 + serve_random_below(&f->random, DATAPLANE_LATE_MAX);
	memcpy(l->bytes, frame->bytes, frame->length);
	++*count;
	return true;
}

/* The next that is due by now. */
static struct late *next_due(
	const struct fault_wire *f, struct late *row, uint32_t count)
{
	if (count == 0)
		return NULL;
	for (uint32_t i = 0; i < LATE_COUNT; i++)
		if (row[i].used && !row[i].given &&
			(row[i].left == 0 || !f->on))
			return &row[i];
	return NULL;
}

static void pass(struct late *row, uint32_t count)
{
	for (uint32_t i = 0; count > 0 && i < LATE_COUNT; i++)
		row[i].left -= row[i].used && row[i].left > 0;
}

/* --- to the server --- */

static void send_copy(struct fault_wire *f, const uint8_t *bytes, size_t length)
{
	uint8_t *room = f->below->frame_get(f->below);

	if (!room) {
		f->wire.lost++;
		return;
	}
	memcpy(room, bytes, length);
	f->below->frame_send(f->below, length);
}

static void send_late(struct fault_wire *f)
{
	struct late *l;

	while ((l = next_due(f, f->in, f->in_late))) {
		l->used = false;
		f->in_late--;
		send_copy(f, l->bytes, l->length);
	}
}

static void break_frame(
	enum dataplane_fault fault, uint8_t *frame, size_t length)
{
	uint8_t *ip = frame + ETHERNET_BYTES;

	switch (fault) {
	case FAULT_SUM:
		frame[length - 1] ^= 0x10;
		break;
	case FAULT_HEADER:
		ip[10] ^= 0x10;
		break;
	case FAULT_MAC:
		frame[5] ^= 0x10;
		break;
	default:
		assert(fault == FAULT_PIECE);
		ip[6] |= 0x20; /* more of them follow */
		net_put16(ip + 10, 0);
		net_sum_store(ip + 10, net_sum(0, ip, IP4_BYTES));
	}
}

static uint8_t *fault_frame_get(struct dataplane_wire *wire)
{
	struct fault_wire *f = of(wire);

	return f->below->frame_get(f->below);
}

static void fault_frame_send(struct dataplane_wire *wire, size_t length)
{
	struct fault_wire *f = of(wire);
	/* It is the one that was given before, until it is sent. */
	uint8_t *frame = f->below->frame_get(f->below);
	enum dataplane_fault fault = draw(f, frame, length, in_rates);
	struct net_frame late = {
		.bytes = frame, .length = length, .checksum_good = true};
	uint8_t copy[DATAPLANE_WIRE_FRAME_BYTES];

	if (fault == FAULT_LATE && !make_late(f, f->in, &f->in_late, &late))
		fault = FAULT_NONE;
	f->counts.in[fault]++;
	if (fault >= FAULT_SUM)
		break_frame(fault, frame, length);
	if (fault == FAULT_TWICE)
		memcpy(copy, frame, length);
	if (fault != FAULT_LOST && fault != FAULT_LATE)
		f->below->frame_send(f->below, length);
	if (fault == FAULT_TWICE)
		send_copy(f, copy, length);
	if (fault != FAULT_LATE)
		pass(f->in, f->in_late);
	send_late(f);
}

static void fault_flush(struct dataplane_wire *wire)
{
	struct fault_wire *f = of(wire);

	send_late(f);
	f->below->flush(f->below);
}

/* --- of the server --- */

/* What was given the last time is free now. */
static void forget_given(struct fault_wire *f)
{
	for (uint32_t i = 0; f->given_count > 0 && i < LATE_COUNT; i++) {
		f->given_count -= f->out[i].given;
		f->out_late -= f->out[i].given;
		f->out[i].used &= !f->out[i].given;
		f->out[i].given = false;
	}
}

static uint32_t receive_late(
	struct fault_wire *f, struct net_frame *out, uint32_t room)
{
	uint32_t count = 0;
	struct late *l;

	while (count < room && (l = next_due(f, f->out, f->out_late))) {
		l->given = true;
		f->given_count++;
		out[count++] = (struct net_frame){.bytes = l->bytes,
			.length = l->length,
			.checksum_good = true};
	}
	return count;
}

static uint32_t fault_receive(
	struct dataplane_wire *wire, struct net_frame *out, uint32_t max)
{
	struct fault_wire *f = of(wire);
	struct net_frame frames[DATAPLANE_WIRE_BURST];
	uint32_t count, got;

	forget_given(f);
	count = receive_late(f, out, (max + 1) / 2);
	/* Some room is left for what comes twice. */
	got = max - count - (max - count) / 8;
	got = f->below->receive(f->below, frames,
		got < DATAPLANE_WIRE_BURST ? got : DATAPLANE_WIRE_BURST);
	f->counts.out_frames += got;
	for (uint32_t i = 0; i < got; i++) {
		enum dataplane_fault fault =
			draw(f, frames[i].bytes, frames[i].length, out_rates);

		if ((fault == FAULT_TWICE && count + (got - i) >= max) ||
			(fault == FAULT_LATE &&
				!make_late(
					f, f->out, &f->out_late, &frames[i])))
			fault = FAULT_NONE;
		f->counts.out[fault]++;
		if (fault == FAULT_LATE)
			continue;
		pass(f->out, f->out_late);
		if (fault != FAULT_LOST)
			out[count++] = frames[i];
		if (fault == FAULT_TWICE)
			out[count++] = frames[i];
	}
	return count;
}

/* --- life --- */

static uint32_t fault_buffers_out(const struct dataplane_wire *wire)
{
	const struct dataplane_wire *below = dataplane_fault_below(wire);

	return below->buffers_out ? below->buffers_out(below) : 0;
}

static void fault_close(struct dataplane_wire *wire)
{
	struct fault_wire *f = of(wire);

	f->below->close(f->below);
	free(f);
}

int dataplane_wire_fault(struct dataplane_wire *below, uint64_t seed,
	struct dataplane_wire **out, struct error *err)
{
	struct fault_wire *f = calloc(1, sizeof(*f));

	*out = NULL;
	if (!f)
		return error_set(err, ENOMEM, "no memory for a wire");
	f->wire = (struct dataplane_wire){.receive = fault_receive,
		.frame_get = fault_frame_get,
		.frame_send = fault_frame_send,
		.flush = fault_flush,
		.buffers_out = fault_buffers_out,
		.close = fault_close};
	memcpy(f->wire.device, below->device, sizeof(f->wire.device));
	f->below = below;
	f->random.state = seed;
	*out = &f->wire;
	return 0;
}

void dataplane_fault_set(struct dataplane_wire *wire, bool on)
{
	of(wire)->on = on;
}

const struct dataplane_faults *dataplane_fault_counts(
	const struct dataplane_wire *wire)
{
	return &((const struct fault_wire *)(const void *)wire)->counts;
}

const struct dataplane_wire *dataplane_fault_below(
	const struct dataplane_wire *wire)
{
	return ((const struct fault_wire *)(const void *)wire)->below;
}
