/* dataplane_world.c - the whole dataplane and engines that pretend (-> turns) */
/* SPDX-License-Identifier: Apache-2.0 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "bench/dataplane_tls.h"
#include "bench/dataplane_world.h"
#include "bench/node.h"

#define ROW_COUNT 4096u /* of an engine: a step's limit */
#define POSITION_COUNT 1048576u
#define SERVER_PORT 80
#define MTU_BYTES 1500
#define BACKLOG 4096
#define STALL_NS (2 * NS_PER_MS) /* TCP's probe_slack_ns: it may be late */
#define LONG_NS (3600 * NS_PER_S) /* no limit of time is what is measured */

/* --- set-up --- */

static int open_socket(uint32_t address, uint16_t port, struct error *err)
{
	const struct sockaddr_in at = {.sin_family = AF_INET,
		.sin_port = htons(port),
		.sin_addr.s_addr = htonl(address)};
	const int yes = 1;
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

	if (fd < 0 ||
		setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof(yes)) ||
		bind(fd, (const struct sockaddr *)&at, sizeof(at)) ||
		listen(fd, BACKLOG)) {
		error_set(err, errno, "a socket at %s, port %u: %s",
			inet_ntoa(at.sin_addr), port, strerror(errno));
		if (fd >= 0)
			close(fd);
		return -err->code;
	}
	return fd;
}

static void set_limits(
	const struct dataplane_world_setup *setup, struct front_limits *limits)
{
	*limits = (struct front_limits){
		.connection_count = setup->connection_count,
		.request_body_bytes = 65536,
		.header_bytes = 8192,
		.header_count = 64,
		.pipelined_count = 1,
		.prompt_list_count = 1,
		.output_default = 16,
		.header_timeout_ns = LONG_NS,
		.body_timeout_ns = LONG_NS,
		.idle_timeout_ns = LONG_NS,
		.stall_timeout_ns = LONG_NS,
		.request_timeout_ns = LONG_NS,
		.drain_timeout_ns = NS_PER_MS,
		.retry_after_ms = 1};
}

static void set_link(
	const struct dataplane_world_setup *setup, struct stream_nic_link *link)
{
	uint32_t address = htonl(setup->address);

	link->port.mtu_bytes = MTU_BYTES;
	snprintf(link->port.device, sizeof(link->port.device), "%s",
		setup->device);
	link->prefix4_bits = 16;
	memcpy(link->ip4, &address, 4);
	link->cores[0] = -1;
	link->spin_ns = LONG_NS;
	link->sleep_ns = NS_PER_MS;
}

static int make_setup(const struct dataplane_world_setup *setup,
	struct dataplane_world *world, struct error *err)
{
	struct front_setup *s = calloc(1, sizeof(*s));
	char path[512];

	world->setup = s;
	if (!s)
		return error_set(err, ENOMEM, "no memory");
	set_limits(setup, &s->limits);
	s->model = (struct front_model){.name = {DATAPLANE_MODEL_NAME},
		.name_count = 1,
		.created_s = 1700000000,
		.vocab = 1024,
		.position_count = POSITION_COUNT,
		.temperature = 1,
		.top_p = 1,
		.repetition_penalty = 1};
	s->text_worker_count = 1;
	s->tokenizer_config_fd = s->chat_template_fd = -1;
	snprintf(path, sizeof(path), "%s/tokenizer.json", setup->model);
	s->tokenizer_fd = world->tokenizer_fd =
		open(path, O_RDONLY | O_CLOEXEC);
	if (s->tokenizer_fd < 0)
		return error_set(err, errno, "%s: %s", path, strerror(errno));
	world->admin_fd = open_socket(INADDR_LOOPBACK, 0, err);
	if (world->admin_fd < 0)
		return -err->code;
	if (setup->tls && dataplane_tls_identity(
				  &world->certificate_fd, &world->key_fd, err))
		return -err->code;
	s->certificate_fd = world->certificate_fd;
	s->certificate_key_fd = world->key_fd;
	s->listener_count = 2;
	s->listeners[0] = (struct front_listener){.fd = -1,
		.tcp_port = SERVER_PORT,
		.service = FRONT_API,
		.tls = setup->tls};
	s->listeners[1] = (struct front_listener){
		.fd = world->admin_fd, .service = FRONT_ADMIN};
	s->polled = setup->device != NULL;
	if (s->polled) {
		set_link(setup, &s->link);
		return 0;
	}
	world->api_fd = open_socket(setup->address, SERVER_PORT, err);
	s->listeners[0].fd = world->api_fd;
	return world->api_fd < 0 ? -err->code : 0;
}

static uint32_t power_of_two(uint32_t least)
{
	uint32_t value = 1;

	while (value < least)
		value *= 2;
	return value;
}

static int make_segment(const struct dataplane_world_setup *setup,
	struct dataplane_world *world, struct error *err)
{
	/*
	 * Who asks again may come before the last slot is free. A page of the
	 * prompt, those of the log.
	 */
	uint32_t slots = 2 * setup->stream_count + 16;
	uint32_t pages = 2 + setup->output_max / PAYLOAD_RECORDS_PER_PAGE;
	const struct segment_shape shape = {.slot_count = slots,
		.page_count = slots * (pages + 1),
		.ring_count = power_of_two(2 * ROW_COUNT),
		.rank_count = world->engine_count,
		.front_count = 1};

	return segment_create(&shape, &world->segment, &world->segment_fd, err);
}

/* The longest run of ids that are whole words of plain text. */
static void choose_ids(
	const struct tokenizer *tok, struct engine_null_options *options)
{
	uint32_t first = 0, count = tokenizer_vocab_size(tok);

	for (uint32_t id = 0; id <= count; id++) {
		size_t length = 0;
		const char *text =
			id < count ? tokenizer_token_bytes(tok, id, &length)
				   : NULL;
		bool plain = text && length > 0 &&
			     !tokenizer_is_special(tok, id) &&
			     !tokenizer_is_control(tok, id);

		for (size_t i = 0; plain && i < length; i++)
			plain = text[i] >= ' ' && text[i] <= '~';
		if (plain)
			continue;
		if (id - first > options->id_count) {
			options->id_count = id - first;
			options->first_id = first;
		}
		first = id + 1;
	}
}

static int open_engines(struct dataplane_world *world, struct error *err)
{
	static const uint32_t never;
	struct engine_null_options options = {.row_count = ROW_COUNT,
		.vocab = 1024,
		.position_count = POSITION_COUNT};

	choose_ids(world->front->tok, &options);
	for (uint32_t i = 0; i < world->engine_count; i++) {
		const struct engine_place place = {
			&world->segment, i, NULL, &never};
		struct null_engine *null = &world->engines[i].null;
		int rc = null_open(&place, &options, null, err);

		if (rc)
			return rc;
		rank_beat(&null->rank, 0, mono_now());
		rank_set_state(&null->rank, BEAT_READY);
	}
	return 0;
}

static void *run_front(void *arg)
{
	struct dataplane_world *world = arg;

	(void)front_run(world->front, &world->thread_err);
	return NULL;
}

static int open_all(const struct dataplane_world_setup *setup,
	struct dataplane_world *world, struct error *err)
{
	int rc = make_setup(setup, world, err);

	if (rc == 0)
		rc = make_segment(setup, world, err);
	world->engines = calloc(world->engine_count, sizeof(*world->engines));
	world->first_step =
		calloc(setup->stream_count, sizeof(*world->first_step));
	world->engine_of =
		calloc(setup->stream_count, sizeof(*world->engine_of));
	if (rc == 0 &&
		(!world->engines || !world->first_step || !world->engine_of))
		rc = error_set(err, ENOMEM, "no memory");
	if (rc == 0)
		rc = front_create(
			world->setup, &world->segment, &world->front, err);
	/* The loop has the sockets now. */
	if (rc == 0)
		world->admin_fd = world->api_fd = -1;
	if (rc == 0)
		rc = open_engines(world, err);
	if (rc == 0 && !world->polled)
		rc = pthread_create(&world->thread, NULL, run_front, world)
			     ? error_set(err, EAGAIN, "no thread")
			     : 0;
	world->threaded = rc == 0 && !world->polled;
	return rc;
}

int dataplane_world_open(const struct dataplane_world_setup *setup,
	struct dataplane_world *out, struct error *err)
{
	int rc;

	*out = (struct dataplane_world){.segment_fd = -1,
		.admin_fd = -1,
		.api_fd = -1,
		.tokenizer_fd = -1,
		.certificate_fd = -1,
		.key_fd = -1,
		.stream_count = setup->stream_count,
		.engine_count =
			(setup->stream_count + ROW_COUNT - 1) / ROW_COUNT,
		.polled = setup->device != NULL};
	if (out->engine_count > DATAPLANE_RANK_COUNT_MAX)
		return error_set(err, EINVAL, "%u streams are too many",
			setup->stream_count);
	rc = open_all(setup, out, err);
	if (rc)
		dataplane_world_close(out);
	return rc;
}

static void close_fd(int fd)
{
	if (fd >= 0)
		close(fd);
}

void dataplane_world_close(struct dataplane_world *world)
{
	if (world->threaded) {
		front_stop(world->front);
		front_stop(world->front);
		pthread_join(world->thread, NULL);
	}
	for (uint32_t i = 0; world->engines && i < world->engine_count; i++)
		if (world->engines[i].null.running)
			null_close(&world->engines[i].null);
	front_destroy(world->front);
	if (world->segment.base)
		segment_detach(&world->segment);
	close_fd(world->segment_fd);
	close_fd(world->admin_fd);
	close_fd(world->api_fd);
	close_fd(world->tokenizer_fd);
	close_fd(world->certificate_fd);
	close_fd(world->key_fd);
	free(world->setup);
	free(world->engines);
	free(world->first_step);
	free(world->engine_of);
	*world = (struct dataplane_world){0};
}

/* --- turns --- */

void dataplane_world_pace(struct dataplane_world *world, uint32_t step_us)
{
	for (uint32_t i = 0; i < world->engine_count; i++)
		world->engines[i].null.options.step_us = step_us;
}

void dataplane_world_gate(struct dataplane_world *world, bool closed)
{
	world->gate_closed = closed;
}

void dataplane_world_forget(struct dataplane_world *world, uint32_t seed)
{
	if (world->first_step[seed])
		world->started_count--;
	world->first_step[seed] = 0;
}

uint64_t dataplane_world_published(const struct dataplane_world *world)
{
	uint64_t sum = 0;

	for (uint32_t i = 0; i < world->engine_count; i++)
		sum += segment_engine_counters(&world->segment, i)->rows_total;
	return sum;
}

/* Of the streams that have got their first token by the step just made. */
static void note_started(struct dataplane_world *world, uint32_t at)
{
	const struct dataplane_engine *e = &world->engines[at];

	if (world->started_count == world->stream_count)
		return;
	for (uint32_t i = 0; i < e->null.running_count; i++) {
		const struct rank_request *r =
			&e->null.rank.requests[e->null.running[i]];
		uint64_t seed = r->params.seed;

		if (r->output_count != 1 || seed >= world->stream_count ||
			world->first_step[seed])
			continue;
		world->first_step[seed] = (uint32_t)e->step_count;
		world->engine_of[seed] = (uint8_t)at;
		world->started_count++;
	}
}

static void turn_engine(struct dataplane_world *world, uint32_t at)
{
	struct dataplane_engine *e = &world->engines[at];
	uint64_t before = e->null.last_end_ns;
	struct mono now = mono_now();

	null_turn(&e->null, now);
	if (e->null.last_end_ns == before)
		return;
	e->step_count++;
	e->step_ns[e->step_count % DATAPLANE_STEP_COUNT] = now.ns;
	note_started(world, at);
}

static uint64_t thread_ns(clockid_t clock)
{
	struct timespec t = {0};

	(void)clock_gettime(clock, &t);
	return (uint64_t)t.tv_sec * NS_PER_S + (uint64_t)t.tv_nsec;
}

static uint64_t sent_again(const struct dataplane_world *world)
{
	struct tcp *tcp = net_stack_tcp(stream_nic_stack(&world->front->loop));

	return tcp_get_counters(tcp)->out_retransmitted;
}

void dataplane_world_turn(struct dataplane_world *world)
{
	struct mono from;
	uint64_t before, took, again;
	uint32_t work;

	for (uint32_t i = 0; i < world->engine_count && !world->gate_closed;
		i++)
		turn_engine(world, i);
	if (!world->polled)
		return;
	if (world->wall_from_ns == 0) {
		world->wall_from_ns = mono_now().ns;
		world->cpu_from_ns = thread_ns(CLOCK_THREAD_CPUTIME_ID);
	}
	before = stream_nic_busy_turns(&world->front->loop);
	again = sent_again(world);
	from = mono_now();
	front_clock(world->front);
	work = front_turn(world->front, (struct mono){0});
	took = mono_diff(mono_now(), from);
	if (work > 0 || stream_nic_busy_turns(&world->front->loop) != before)
		world->busy_ns += took;
	if (took < STALL_NS)
		world->again_quick += sent_again(world) - again;
}

uint64_t dataplane_world_token_ns(
	const struct dataplane_world *world, uint32_t seed, uint32_t k)
{
	const struct dataplane_engine *e;
	uint64_t step;

	if (seed >= world->stream_count || world->first_step[seed] == 0)
		return 0;
	e = &world->engines[world->engine_of[seed]];
	step = (uint64_t)world->first_step[seed] + k;
	if (step > e->step_count ||
		e->step_count - step >= DATAPLANE_STEP_COUNT)
		return 0;
	return e->step_ns[step % DATAPLANE_STEP_COUNT];
}

static uint64_t pthread_ns(pthread_t thread)
{
	clockid_t clock;

	return pthread_getcpuclockid(thread, &clock) ? 0 : thread_ns(clock);
}

/*
 * Of a polled one the part of its thread's time that its busy turns have had
 * of the clock on the wall: who else runs on this processor takes of both
 * alike.
 */
void dataplane_world_cpu(
	struct dataplane_world *world, struct dataplane_cpu *out)
{
	*out = (struct dataplane_cpu){.stolen_s = bench_stolen_s()};
	for (uint32_t i = 0; i < world->front->worker_count; i++) {
		const struct text_worker *w = &world->front->workers[i].text;

		out->text_ns += pthread_ns(w->in_thread);
		out->text_ns += pthread_ns(w->out_thread);
	}
	if (!world->polled) {
		out->net_ns = pthread_ns(world->thread);
	} else if (world->wall_from_ns) {
		uint64_t wall = mono_now().ns - world->wall_from_ns;
		uint64_t cpu =
			thread_ns(CLOCK_THREAD_CPUTIME_ID) - world->cpu_from_ns;

		out->net_ns = (uint64_t)((double)world->busy_ns * (double)cpu /
					 (double)wall);
	}
}

void dataplane_world_usage(
	const struct dataplane_world *world, struct dataplane_usage *out)
{
	const struct front *front = world->front;

	*out = (struct dataplane_usage){
		.buffers = (uint32_t)front->counters->nic.buffers_used,
		.connections = front->counters->connections_open,
		.exchanges = front->exchange_used,
		.slots = front->slot_used,
		.pages = front->page_used,
		.body_bytes = front->body_bytes};
	tcp_get_usage(net_stack_tcp(stream_nic_stack(&front->loop)), &out->tcp);
}
