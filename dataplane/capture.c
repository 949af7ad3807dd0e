/* capture.c - frames of a polled port into a file (loop -> ring -> pcap) */
/* SPDX-License-Identifier: Apache-2.0 */
#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "dataplane/capture.h"

#define BLOCK_BYTES ((size_t)64 << 10)
#define FRAME_BYTES_MAX ((size_t)32 << 10)
#define REST_NS (2 * NS_PER_MS) /* of the thread, when the ring is empty */
#define PCAP_MAGIC_NS 0xa1b23c4du
#define PCAP_ETHERNET 1

_Static_assert(FRAME_BYTES_MAX < BLOCK_BYTES, "a frame fits a block");

/* Before each frame in the ring. */
struct entry {
	uint64_t serial; /* of the capture that it is for */
	uint64_t time_ns;
	uint64_t length;
};

struct pcap_file {
	uint32_t magic;
	uint16_t major, minor;
	uint32_t zone, accuracy, length_max, link;
};

struct pcap_frame {
	uint32_t seconds, ns, length, wire_length;
};

_Static_assert(
	sizeof(struct pcap_file) == 24 && sizeof(struct pcap_frame) == 16,
	"as on disk");

/* --- the ring ------------------------------------------------------------------- */

static void copy_in(
	struct capture_tap *c, uint64_t at, const void *from, size_t length)
{
	size_t begin = at % CAPTURE_RING_BYTES;
	size_t first = CAPTURE_RING_BYTES - begin;

	if (first > length)
		first = length;
	memcpy(c->ring + begin, from, first);
	memcpy(c->ring, (const uint8_t *)from + first, length - first);
}

static void copy_out(
	const struct capture_tap *c, uint64_t at, void *to, size_t length)
{
	size_t begin = at % CAPTURE_RING_BYTES;
	size_t first = CAPTURE_RING_BYTES - begin;

	if (first > length)
		first = length;
	memcpy(to, c->ring + begin, first);
	memcpy((uint8_t *)to + first, c->ring, length - first);
}

void capture_put(struct capture_tap *c, const void *frame, size_t length,
	struct mono now)
{
	/* Pairs with the release in capture_start(): the ring is there. */
	struct entry entry = {
		.serial = atomic_load_explicit(
			&c->capture->serial, memory_order_acquire),
		.time_ns = now.ns,
		.length = length};
	uint64_t head = atomic_load_explicit(&c->head, memory_order_relaxed);
	uint64_t tail;

	if (entry.serial == 0)
		return;
	/* Pairs with the release in drain(). */
	tail = atomic_load_explicit(&c->tail, memory_order_acquire);
	if (length > FRAME_BYTES_MAX ||
		CAPTURE_RING_BYTES - (head - tail) < sizeof(entry) + length) {
		counter_add(&c->counters->dropped, 1);
		return;
	}
	copy_in(c, head, &entry, sizeof(entry));
	copy_in(c, head + sizeof(entry), frame, length);
	/* Pairs with the acquire in drain(). */
	atomic_store_explicit(
		&c->head, head + sizeof(entry) + length, memory_order_release);
}

/* --- the file -------------------------------------------------------------------- */

static int write_all(int fd, const uint8_t *bytes, size_t length)
{
	while (length > 0) {
		ssize_t n = write(fd, bytes, length);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		bytes += n;
		length -= (size_t)n;
	}
	return 0;
}

static int write_block(struct capture *c)
{
	int rc = write_all(c->fd, c->block, c->block_bytes);

	c->block_bytes = 0;
	counter_set(&c->counters->bytes, c->written_bytes);
	return rc;
}

static int write_head(struct capture *c)
{
	static const struct pcap_file head = {.magic = PCAP_MAGIC_NS,
		.major = 2,
		.minor = 4,
		.length_max = FRAME_BYTES_MAX,
		.link = PCAP_ETHERNET};

	memcpy(c->block, &head, sizeof(head));
	c->block_bytes = c->written_bytes = sizeof(head);
	return write_block(c);
}

/* The entry whose frame lies at `at`. 1: there is no room for it. */
static int take(struct capture *c, const struct capture_tap *tap,
	const struct entry *entry, uint64_t at)
{
	uint64_t ns = entry->time_ns + c->epoch_ns;
	const struct pcap_frame head = {.seconds = (uint32_t)(ns / NS_PER_S),
		.ns = (uint32_t)(ns % NS_PER_S),
		.length = (uint32_t)entry->length,
		.wire_length = (uint32_t)entry->length};
	size_t bytes = sizeof(head) + entry->length;
	int rc = 0;

	if (c->max_bytes - c->written_bytes < bytes)
		return 1;
	if (BLOCK_BYTES - c->block_bytes < bytes)
		rc = write_block(c);
	memcpy(c->block + c->block_bytes, &head, sizeof(head));
	copy_out(tap, at, c->block + c->block_bytes + sizeof(head),
		entry->length);
	c->block_bytes += bytes;
	c->written_bytes += bytes;
	counter_add(&c->counters->frames, 1);
	return rc;
}

/* 0: all that was there; 1: the file is full; -errno. */
static int drain_tap(struct capture *c, struct capture_tap *tap)
{
	/* Pairs with the release in capture_put(). */
	uint64_t head = atomic_load_explicit(&tap->head, memory_order_acquire);
	uint64_t tail = atomic_load_explicit(&tap->tail, memory_order_relaxed);
	int rc = 0;

	while (rc == 0 && tail != head) {
		struct entry entry;

		copy_out(tap, tail, &entry, sizeof(entry));
		tail += sizeof(entry);
		/* One of an earlier capture came as that one ended. */
		if (entry.serial == c->own_serial)
			rc = take(c, tap, &entry, tail);
		tail += entry.length;
		/* Pairs with the acquire in capture_put(). */
		atomic_store_explicit(&tap->tail, tail, memory_order_release);
	}
	return rc;
}

static int drain(struct capture *c)
{
	int rc = 0;

	for (uint32_t i = 0; rc == 0 && i < c->tap_count; i++)
		rc = drain_tap(c, &c->taps[i]);
	return rc ? rc : write_block(c);
}

static void *write_frames(void *arg)
{
	static const struct timespec rest = {.tv_nsec = REST_NS};
	struct capture *c = arg;
	bool ending = false;
	int rc = 0;

	while (rc == 0 && !ending) {
		/* Read first: what came before the end is drained. */
		ending = atomic_load(&c->ending);
		rc = drain(c);
		if (rc == 0 && !ending)
			(void)nanosleep(&rest, NULL);
	}
	atomic_store(&c->serial, 0);
	if (rc == 1 && write_block(c))
		rc = -EIO;
	close(c->fd);
	counter_set(&c->counters->state, rc == 0   ? CAPTURE_STOPPED
					 : rc == 1 ? CAPTURE_FULL
						   : CAPTURE_FAILED);
	return NULL;
}

/* --- start and stop -------------------------------------------------------------- */

static void join(struct capture *c)
{
	if (!c->started)
		return;
	atomic_store(&c->ending, true);
	pthread_join(c->thread, NULL);
	c->started = false;
}

static uint64_t epoch_ns(void)
{
	struct timespec now = {0};

	(void)clock_gettime(CLOCK_REALTIME, &now);
	return (uint64_t)now.tv_sec * NS_PER_S + (uint64_t)now.tv_nsec -
	       mono_now().ns;
}

static bool make_rings(struct capture *c)
{
	bool made = true;

	for (uint32_t i = 0; i < c->tap_count; i++) {
		if (!c->taps[i].ring)
			c->taps[i].ring = malloc(CAPTURE_RING_BYTES);
		made = made && c->taps[i].ring;
	}
	return made;
}

static int begin(struct capture *c, uint64_t serial, struct error *err)
{
	int rc;

	if (!c->block)
		c->block = malloc(BLOCK_BYTES);
	if (!make_rings(c) || !c->block)
		return error_set(err, ENOMEM, "no memory for a capture");
	rc = write_head(c);
	if (rc)
		return error_set(err, -rc, "the file cannot be written: %s",
			strerror(-rc));
	c->own_serial = serial;
	c->epoch_ns = epoch_ns();
	atomic_store(&c->ending, false);
	counter_set(&c->counters->serial, serial);
	counter_set(&c->counters->frames, 0);
	/* The loops', which do not count now. */
	for (uint32_t i = 0; i < c->tap_count; i++)
		counter_set(&c->taps[i].counters->dropped, 0);
	counter_set(&c->counters->state, CAPTURE_RUNS);
	rc = pthread_create(&c->thread, NULL, write_frames, c);
	if (rc) {
		counter_set(&c->counters->state, CAPTURE_FAILED);
		return error_set(
			err, rc, "cannot start a thread: %s", strerror(rc));
	}
	c->started = true;
	/* Pairs with the acquire in capture_put(). */
	atomic_store_explicit(&c->serial, serial, memory_order_release);
	return 0;
}

int capture_start(struct capture *c, int fd, uint64_t max_bytes,
	uint64_t serial, struct error *err)
{
	int rc;

	assert(serial != 0);
	pthread_mutex_lock(&c->lock);
	if (counter_read(&c->counters->state) == CAPTURE_RUNS) {
		rc = error_set(err, EBUSY, "a capture runs already");
	} else if (max_bytes < CAPTURE_BYTES_MIN) {
		rc = error_set(err, EINVAL, "%llu bytes; at least %d",
			(unsigned long long)max_bytes, CAPTURE_BYTES_MIN);
	} else {
		join(c); /* of one that has ended by itself */
		c->fd = fd;
		c->max_bytes = max_bytes;
		rc = begin(c, serial, err);
	}
	pthread_mutex_unlock(&c->lock);
	if (rc)
		close(fd);
	return rc;
}

int capture_stop(struct capture *c, struct error *err)
{
	int rc = 0;

	pthread_mutex_lock(&c->lock);
	if (!c->started)
		rc = error_set(err, ENOENT, "no capture runs");
	atomic_store(&c->serial, 0);
	join(c);
	pthread_mutex_unlock(&c->lock);
	return rc;
}

int capture_create(struct capture_counters *const *counters, uint32_t count,
	struct capture **out)
{
	struct capture *c = aligned_alloc(64, sizeof(*c));

	assert(count > 0 && count <= FRONT_COUNT_MAX);
	*out = c;
	if (!c)
		return -ENOMEM;
	memset(c, 0, sizeof(*c));
	c->counters = counters[0];
	c->tap_count = count;
	for (uint32_t i = 0; i < count; i++) {
		c->taps[i].capture = c;
		c->taps[i].counters = counters[i];
	}
	pthread_mutex_init(&c->lock, NULL);
	if (counter_read(&c->counters->state) == CAPTURE_RUNS)
		counter_set(&c->counters->state, CAPTURE_FAILED);
	return 0;
}

void capture_destroy(struct capture *c)
{
	if (!c)
		return;
	(void)capture_stop(c, NULL);
	pthread_mutex_destroy(&c->lock);
	for (uint32_t i = 0; i < c->tap_count; i++)
		free(c->taps[i].ring);
	free(c->block);
	free(c);
}
