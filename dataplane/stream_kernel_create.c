/* stream_kernel_create.c - limits into memory, and back (config -> loop) */
/* SPDX-License-Identifier: Apache-2.0 */
#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/check.h"
#include "dataplane/stream_kernel_private.h"
#include "dataplane/stream_tls.h"

#define PAGE_BYTES 4096
#define STREAM_COUNT_MAX (1u << 20)
#define STREAM_BYTES_MAX (1u << 30) /* of one stream, each way */
#define BUFFER_COUNT_MAX 32768 /* ids of provided buffers are 16 bits */

static int check_limits(
	const struct stream_kernel_config *config, struct error *err)
{
	const struct stream_limits *limits = &config->limits;

	if ((config->listener_count == 0 && !config->sleeps_only) ||
		config->listener_count > STREAM_LISTENER_COUNT_MAX)
		return error_set(err, EINVAL, "listeners: 1 to %d, not %u",
			STREAM_LISTENER_COUNT_MAX, config->listener_count);
	if (limits->stream_count < config->listener_count ||
		limits->stream_count > STREAM_COUNT_MAX)
		return error_set(err, EINVAL,
			"streams: at least one per listener and at most %u, "
			"not %u",
			STREAM_COUNT_MAX, limits->stream_count);
	if (limits->send_bytes == 0 || limits->send_bytes > STREAM_BYTES_MAX)
		return error_set(err, EINVAL,
			"send bytes per stream: 1 to %u, not %zu",
			STREAM_BYTES_MAX, limits->send_bytes);
	if (limits->receive_bytes == 0 ||
		limits->receive_bytes > STREAM_BYTES_MAX)
		return error_set(err, EINVAL,
			"receive bytes per stream: 1 to %u, not %zu",
			STREAM_BYTES_MAX, limits->receive_bytes);
	if (limits->user_timeout_ns == 0)
		return error_set(err, EINVAL, "user timeout: not 0");
	return 0;
}

static uint32_t power_of_two_from(uint32_t count)
{
	uint32_t power = 1;

	while (power < count)
		power *= 2;
	return power;
}

/*
 * A quarter of the bytes is for receiving, as most of what comes is consumed
 * at once; at least two buffers. The rest is
 * for sending; at least so much that one stream can fill its own bound.
 */
static int size_pools(
	struct stream_kernel *k, size_t *out_blocks, struct error *err)
{
	const struct stream_limits *limits = &k->limits;
	size_t buffers = limits->total_bytes / 4 / limits->receive_bytes;
	size_t most = (size_t)limits->stream_count * 2;
	size_t blocks, blocks_max,
		blocks_each = div_up(limits->send_bytes, STREAM_BLOCK_ROOM) + 1;
	size_t least =
		2 * limits->receive_bytes + blocks_each * STREAM_BLOCK_BYTES;

	if (limits->total_bytes < least)
		return error_set(err, EINVAL,
			"bytes of all streams: at least %zu for these limits, "
			"not %zu",
			least, limits->total_bytes);
	if (most > BUFFER_COUNT_MAX)
		most = BUFFER_COUNT_MAX;
	if (buffers < 2)
		buffers = 2;
	if (buffers > most)
		buffers = most < 2 ? 2 : most;
	blocks = (limits->total_bytes - buffers * limits->receive_bytes) /
		 STREAM_BLOCK_BYTES;
	blocks_max = blocks_each * limits->stream_count;
	*out_blocks = blocks < blocks_max ? blocks : blocks_max;
	k->buffer_count = (uint32_t)buffers;
	k->posted_max = k->buffer_count;
	if (k->posted_max > STREAM_POSTED_COUNT_MAX)
		k->posted_max = STREAM_POSTED_COUNT_MAX;
	k->posted_ring_count = power_of_two_from(k->posted_max);
	return 0;
}

/* Nothing of it is touched before it is used, but for the small ring. */
static int map_pools(struct stream_kernel *k, size_t blocks, struct error *err)
{
	size_t ring_bytes = k->posted_ring_count * sizeof(struct io_uring_buf);
	size_t buffers_bytes = k->buffer_count * k->limits.receive_bytes;
	void *memory;

	/* Both were bounded by total_bytes, so that nothing overflows. */
	round_up_ok(ring_bytes, PAGE_BYTES, &ring_bytes);
	round_up_ok(buffers_bytes, PAGE_BYTES, &buffers_bytes);
	k->memory_bytes =
		ring_bytes + buffers_bytes + blocks * STREAM_BLOCK_BYTES;
	memory = mmap(NULL, k->memory_bytes, PROT_READ | PROT_WRITE,
		MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (memory == MAP_FAILED)
		return error_set(err, ENOMEM,
			"bytes of all streams: cannot map %zu: %s",
			k->memory_bytes, strerror(errno));
	k->memory = memory;
	k->posted = memory;
	k->buffers = k->memory + ring_bytes;
	k->fresh_blocks = k->buffers + buffers_bytes;
	k->free_block_count = blocks;
	for (uint32_t i = 0; i < k->buffer_count; i++)
		k->stock[i] = k->buffer_count - 1 - i;
	k->stock_count = k->buffer_count;
	return 0;
}

static int make_tables(struct stream_kernel *k, struct error *err)
{
	size_t bytes = k->limits.stream_count * sizeof(*k->streams);

	k->streams = aligned_alloc(CACHE_LINE_BYTES, bytes);
	k->messages = calloc(STREAM_MESSAGE_COUNT, sizeof(*k->messages));
	k->stock = calloc(k->buffer_count, sizeof(*k->stock));
	if (!k->streams || !k->messages || !k->stock)
		return error_set(err, ENOMEM, "no memory for %u streams",
			k->limits.stream_count);
	memset(k->streams, 0, bytes);
	for (uint32_t i = 0; i < k->limits.stream_count; i++) {
		struct kernel_stream *s = &k->streams[i];

		s->fd = -1;
		s->generation = 1;
		s->loop = k;
		s->queue = STREAM_ON_FREE;
		TAILQ_INSERT_TAIL(&k->free, s, link);
	}
	return 0;
}

/* Everything but sockets, in the reverse order of its making. */
static void release(struct stream_kernel *k)
{
	if (k->owns_wake && k->wake_fd >= 0)
		close(k->wake_fd);
	stream_ring_destroy(k);
	if (k->memory)
		munmap(k->memory, k->memory_bytes);
	free(k->stock);
	free(k->messages);
	free(k->streams);
	free(k);
}

/* Blocking: the ring's read waits for the first wake. */
static int take_wake(struct stream_kernel *k, int fd, struct error *err)
{
	k->owns_wake = fd <= 0;
	k->wake_fd = k->owns_wake ? eventfd(0, EFD_CLOEXEC) : fd;
	if (k->wake_fd < 0)
		return error_set(err, ENOMEM, "eventfd: %s", strerror(errno));
	return 0;
}

static int make(struct stream_kernel *k,
	const struct stream_kernel_config *config, struct error *err)
{
	size_t blocks = 0;
	int rc;

	k->wake_fd = -1;
	TAILQ_INIT(&k->free);
	TAILQ_INIT(&k->dirty);
	TAILQ_INIT(&k->starved);
	TAILQ_INIT(&k->lingering);
	k->limits = config->limits;
	k->handler = config->handler;
	k->arg = config->arg;
	k->bell_fd = config->bell_fd;
	poll_meter_init(&k->meter, config->poll);
	rc = stream_listeners_init(k, config, err);
	if (rc == 0)
		rc = size_pools(k, &blocks, err);
	if (rc == 0)
		rc = make_tables(k, err);
	if (rc == 0)
		rc = map_pools(k, blocks, err);
	if (rc == 0)
		rc = stream_ring_create(k, err);
	return rc ? rc : take_wake(k, config->wake_fd, err);
}

/* Without TLS. */
static int create(const struct stream_kernel_config *config,
	struct stream_loop *out, struct error *err)
{
	struct stream_kernel *k;
	int rc;

	k = calloc(1, sizeof(*k));
	if (!k)
		return error_set(err, ENOMEM, "streams: no memory");
	rc = make(k, config, err);
	if (rc) {
		release(k);
		return rc;
	}
	*out = (struct stream_loop){.ops = &stream_kernel_ops, .context = k};
	return 0;
}

static uint32_t tls_listeners(const struct stream_kernel_config *config)
{
	uint32_t listeners = 0;

	for (uint32_t i = 0; i < config->listener_count; i++)
		if (config->listeners[i].tls)
			listeners |= 1u << i;
	return listeners;
}

static int create_below(const void *of, const struct stream_limits *limits,
	struct stream_tls *tls, struct stream_loop *out, struct error *err)
{
	struct stream_kernel_config config =
		*(const struct stream_kernel_config *)of;

	config.limits = *limits;
	config.handler = stream_tls_event;
	config.arg = tls;
	return create(&config, out, err);
}

/* The sockets, and TLS on top of them. */
static int create_tls(const struct stream_kernel_config *config,
	uint32_t listeners, struct stream_loop *out, struct error *err)
{
	const struct stream_tls_config tls_config = {
		.identity = {config->certificate, config->key,
			config->certificate_length, config->key_length},
		.limits = config->limits,
		.listeners = listeners,
		.handler = config->handler,
		.arg = config->arg};

	return stream_tls_over(&tls_config, create_below, config, out, err);
}

int stream_kernel_create(const struct stream_kernel_config *config,
	struct stream_loop *out, struct error *err)
{
	int rc = check_limits(config, err);
	uint32_t listeners;

	if (rc)
		return rc;
	assert(config->handler);
	listeners = tls_listeners(config);
	return listeners ? create_tls(config, listeners, out, err)
			 : create(config, out, err);
}

void stream_kernel_destroy(struct stream_loop *loop)
{
	struct stream_kernel *k = loop->context;

	if (!k)
		return;
	stream_ring_destroy(k);
	for (uint32_t i = 0; i < k->limits.stream_count; i++)
		if (k->streams[i].fd >= 0)
			close(k->streams[i].fd);
	for (uint32_t i = 0; i < k->listener_count; i++)
		if (k->listeners[i].fd >= 0)
			close(k->listeners[i].fd);
	release(k);
	*loop = (struct stream_loop){0};
}
