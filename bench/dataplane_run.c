/* dataplane_run.c - a server, its wire and its clients, turned together */
/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bench/dataplane_fault.h"
#include "bench/dataplane_run.h"

#define ADDRESS_KERNEL 0x0a090002u /* 10.9.0.2 */
#define ADDRESS_POLLED 0x0a090003u
#define SAMPLE_COUNT_MAX ((size_t)4 << 20)
#define PATIENCE_NS (60 * NS_PER_S)
#define AT_ONCE 256u /* connections that are being opened; answers asked */
#define STEP_MASK (DATAPLANE_STEP_COUNT - 1)

/* --- what the client tells --- */

static void take_latency(struct dataplane_run *run, uint32_t seed, uint32_t k)
{
	const struct dataplane_world *w = &run->world;
	uint64_t token_ns = dataplane_world_token_ns(w, seed, k);
	uint64_t now_ns = run->client.now_ns;

	if (token_ns == 0 || token_ns > now_ns)
		return;
	if (run->sample_count < run->sample_room)
		run->samples[run->sample_count++] =
			(uint32_t)(now_ns - token_ns < UINT32_MAX
					   ? now_ns - token_ns
					   : UINT32_MAX);
	if (w->engine_of[seed] == 0)
		run->last_ns[(w->first_step[seed] + k) & STEP_MASK] = now_ns;
}

static void on_event(void *arg, uint32_t i, uint32_t k)
{
	struct dataplane_run *run = arg;

	/* The last one only says why it ended. */
	if (k >= run->setup.tokens)
		return;
	run->token_count++;
	if (k == 0 && run->on_first)
		run->on_first(run, i);
	if (run->on_token)
		run->on_token(run, i);
	if (run->timed)
		take_latency(run, i % run->setup.seed_count, k);
}

static void on_done(void *arg, uint32_t i)
{
	struct dataplane_run *run = arg;

	run->done_count++;
	if (run->on_done)
		run->on_done(run, i);
}

bool dataplane_run_closes(const struct dataplane_run *run, uint32_t i)
{
	uint32_t every = run->setup.close_every;

	return every > 0 && i % every == every - 1;
}

static size_t make_request(void *arg, uint32_t i, char *out)
{
	const struct dataplane_run *run = arg;
	char body[256];
	int length = snprintf(body, sizeof(body),
		"{\"model\":\"" DATAPLANE_MODEL_NAME "\",\"prompt\":\"a\","
		"\"seed\":%u,\"max_tokens\":%u,\"stream\":true,"
		"\"ignore_eos\":true}",
		i % run->setup.seed_count, run->setup.tokens);

	if (run->client.plain)
		return (size_t)snprintf(out, FAR_FRAME_PAYLOAD_MAX,
			"GET /v1/models HTTP/1.1\r\nhost: a\r\n\r\n");
	return (size_t)snprintf(out, FAR_FRAME_PAYLOAD_MAX,
		"POST /v1/completions HTTP/1.1\r\nhost: a\r\n"
		"content-type: application/json\r\n%s"
		"content-length: %d\r\n\r\n%s",
		dataplane_run_closes(run, i) ? "connection: close\r\n" : "",
		length, body);
}

/* --- life --- */

static int open_wire(const struct dataplane_place *place,
	struct dataplane_run *run, char *device, struct error *err)
{
	int rc;

	if (run->setup.way <= DATAPLANE_MEMIF) {
		rc = run->setup.way == DATAPLANE_MEMIF
			     ? dataplane_wire_memif(&run->wire, err)
			     : dataplane_wire_ring(&run->wire, err);
		if (rc == 0)
			snprintf(device, NIC_DEVICE_BYTES, "%s",
				run->wire->device);
		return rc;
	}
	snprintf(device, NIC_DEVICE_BYTES, "net_af_packet0,iface=%s",
		place->nic);
	return dataplane_wire_packet(place->wire, &run->wire, err);
}

static int open_fault(struct dataplane_run *run, struct error *err)
{
	struct dataplane_wire *harmful;
	int rc = dataplane_wire_fault(
		run->wire, run->setup.fault_seed, &harmful, err);

	if (rc == 0)
		run->wire = harmful;
	return rc;
}

static int greet(struct dataplane_run *run, struct error *err)
{
	uint64_t until = mono_now().ns + PATIENCE_NS, asked = 0;

	while (!dataplane_client_knows_server(&run->client)) {
		uint64_t now = mono_now().ns;

		if (now > until)
			return error_set(err, ETIMEDOUT,
				"the server does not say its MAC");
		if (now - asked > 100 * NS_PER_MS) {
			dataplane_client_greet(&run->client);
			asked = now;
		}
		dataplane_run_turn(run);
	}
	dataplane_run_for(run, 0.01);
	return 0;
}

static int open_all(const struct dataplane_place *place,
	struct dataplane_run *run, struct error *err)
{
	bool kernel = run->setup.way == DATAPLANE_KERNEL;
	char device[NIC_DEVICE_BYTES];
	struct dataplane_world_setup world = {.model = place->model,
		.address = kernel ? ADDRESS_KERNEL : ADDRESS_POLLED,
		.connection_count = run->setup.ends + run->setup.ends / 8 + 64,
		.stream_count = run->setup.streams,
		.output_max = run->setup.tokens,
		.tls = run->setup.way == DATAPLANE_RING_TLS};
	int rc = open_wire(place, run, device, err);

	world.device = kernel ? NULL : device;
	if (rc == 0 && run->setup.fault_seed)
		rc = open_fault(run, err);
	if (rc == 0)
		rc = dataplane_world_open(&world, &run->world, err);
	if (rc == 0)
		rc = dataplane_client_init(&run->client, run->wire,
			world.address, run->setup.ends, err);
	if (rc == 0 && world.tls)
		rc = dataplane_tls_create(
			run->setup.ends, &run->client.tls, err);
	if (rc)
		return rc;
	run->client.net.no_sack = run->setup.fault_seed != 0;
	run->client.hooks = (struct dataplane_hooks){.arg = run,
		.event = on_event,
		.done = on_done,
		.request = make_request};
	return greet(run, err);
}

int dataplane_run_open(const struct dataplane_place *place,
	const struct dataplane_run_setup *setup, struct dataplane_run *run,
	struct error *err)
{
	int rc;

	*run = (struct dataplane_run){
		.setup = *setup, .sample_room = SAMPLE_COUNT_MAX};
	if (run->setup.seed_count == 0)
		run->setup.seed_count = setup->streams;
	run->samples = malloc(run->sample_room * sizeof(*run->samples));
	run->last_ns = calloc(DATAPLANE_STEP_COUNT, sizeof(*run->last_ns));
	rc = run->samples && run->last_ns
		     ? open_all(place, run, err)
		     : error_set(err, ENOMEM, "no memory for samples");
	if (rc)
		dataplane_run_close(run);
	return rc;
}

void dataplane_run_close(struct dataplane_run *run)
{
	struct net_frame frame;

	/* Frames of the server's go back before it does. */
	while (run->wire && run->wire->receive(run->wire, &frame, 1) > 0)
		;
	dataplane_world_close(&run->world);
	if (run->wire)
		run->wire->close(run->wire);
	dataplane_client_release(&run->client);
	free(run->samples);
	free(run->last_ns);
	*run = (struct dataplane_run){0};
}

/* --- turns --- */

void dataplane_run_turn(struct dataplane_run *run)
{
	dataplane_world_turn(&run->world);
	dataplane_client_turn(&run->client);
}

void dataplane_run_for(struct dataplane_run *run, double seconds)
{
	uint64_t until = mono_now().ns + (uint64_t)(seconds * 1e9);

	do
		dataplane_run_turn(run);
	while (run->client.now_ns < until);
}

int dataplane_run_connect(struct dataplane_run *run, uint32_t from, uint32_t to,
	struct error *err)
{
	uint32_t before = run->client.open_count, next = from;
	uint64_t until = mono_now().ns + PATIENCE_NS;

	while (run->client.open_count - before < to - from) {
		while (next < to &&
			next - from - (run->client.open_count - before) <
				AT_ONCE)
			dataplane_client_open(&run->client, next++);
		dataplane_run_turn(run);
		if (run->client.now_ns > until)
			return error_set(err, ETIMEDOUT,
				"%u of %u connections are open",
				run->client.open_count - before, to - from);
	}
	return 0;
}

static int await(struct dataplane_run *run, uint32_t most, struct error *err)
{
	uint64_t moved_ns = mono_now().ns, seen = run->client.segments_in;

	while (run->client.asked_count > most) {
		dataplane_run_turn(run);
		if (run->client.segments_in != seen)
			moved_ns = run->client.now_ns;
		seen = run->client.segments_in;
		if (run->client.refused > 0)
			return error_set(err, EPROTO,
				"%llu answers are refusals",
				(unsigned long long)run->client.refused);
		if (run->client.now_ns > moved_ns + PATIENCE_NS)
			return error_set(err, ETIMEDOUT,
				"%u answers do not come",
				run->client.asked_count);
	}
	return 0;
}

int dataplane_run_ask(struct dataplane_run *run, uint32_t from, uint32_t to,
	bool wait, struct error *err)
{
	int rc = 0;

	for (uint32_t i = from; i < to && rc == 0; i++) {
		dataplane_client_ask(&run->client, i);
		if ((i - from) % AT_ONCE == AT_ONCE - 1)
			dataplane_run_turn(run);
	}
	return rc == 0 && wait ? await(run, 0, err) : rc;
}

int dataplane_run_settle(struct dataplane_run *run, struct error *err)
{
	return await(run, 0, err);
}

/* --- samples --- */

void dataplane_run_reset(struct dataplane_run *run)
{
	run->sample_count = 0;
	run->token_count = run->done_count = 0;
	memset(run->last_ns, 0, DATAPLANE_STEP_COUNT * sizeof(*run->last_ns));
}

static int by_value(const void *a, const void *b)
{
	uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;

	return (x > y) - (x < y);
}

double dataplane_percentile(uint32_t *values, size_t count, double percent)
{
	size_t at = (size_t)((double)count * percent / 100);

	if (count == 0)
		return 0;
	qsort(values, count, sizeof(*values), by_value);
	return values[at < count ? at : count - 1];
}
