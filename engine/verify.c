/* verify.c - are kept weights still what was written? (pages -> verdict) */
/* SPDX-License-Identifier: Apache-2.0 */
#include <assert.h>
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/clock.h"
#include "engine/verify.h"

/*
 * Read so much, then leave core and memory to others for so long: 200 MB/s.
 * Not by the idle class: of a process that is killed each thread must run once
 * more to end, and nobody hears of its death before the last one has, which on
 * a busy machine takes an idle one seconds.
 */
#define CHUNK_BYTES ((size_t)256 << 10)
#define PAUSE_NS (5 * NS_PER_MS / 4)
#define LANES 8

struct verify {
	const struct model *model; /* borrowed */
	struct verify_sum *kept; /* borrowed */
	struct wake *wake; /* borrowed */
	pthread_t thread;
	uint32_t quit; /* atomic */
	uint32_t failed; /* atomic */
};

uint64_t verify_add(uint64_t sum, const void *bytes, size_t size_bytes)
{
	uint64_t lane[LANES], word[LANES];
	const uint8_t *at = bytes;

	assert(size_bytes % sizeof(word) == 0);
	for (uint64_t i = 0; i < LANES; i++)
		lane[i] = sum + i;
	/* Each step is a bijection: no change of one word goes unseen. */
	for (size_t done = 0; done < size_bytes; done += sizeof(word)) {
		memcpy(word, at + done, sizeof(word));
		for (int i = 0; i < LANES; i++)
			lane[i] = (lane[i] ^ word[i]) *
				  UINT64_C(0x9e3779b97f4a7c15);
	}
	for (int i = 0; i < LANES; i++) {
		sum = (sum ^ lane[i] ^ lane[i] >> 32) *
		      UINT64_C(0xd6e8feb86659fd93);
		sum ^= sum >> 29;
	}
	return sum;
}

/* False: told to end. */
static bool add_range(struct verify *v, uint32_t extent, uint64_t *sum)
{
	const struct page_pool *pool = v->model->pool;
	const uint8_t *at = v->model->vmm->ops->host_pointer(v->model->vmm,
		page_pool_address(pool, page_pool_extent_page(pool, extent)));
	size_t left = page_pool_extent_page_count(pool, extent) *
		      page_pool_page_size(pool);
	const struct timespec pause = {.tv_nsec = PAUSE_NS};

	while (left > 0) {
		size_t part = left < CHUNK_BYTES ? left : CHUNK_BYTES;

		if (__atomic_load_n(&v->quit, __ATOMIC_ACQUIRE))
			return false;
		*sum = verify_add(*sum, at, part);
		at += part;
		left -= part;
		if (left > 0)
			nanosleep(&pause, NULL);
	}
	return true;
}

static void *run(void *arg)
{
	struct verify *v = arg;
	uint32_t extents = page_pool_extent_count(v->model->pool);
	uint64_t sum = 0;

	for (uint32_t i = 0; i < extents; i++)
		if (!add_range(v, i, &sum))
			return NULL;
	if (!__atomic_load_n(&v->kept->known, __ATOMIC_ACQUIRE)) {
		v->kept->sum = sum;
		__atomic_store_n(&v->kept->known, 1, __ATOMIC_RELEASE);
	} else if (v->kept->sum != sum) {
		__atomic_store_n(&v->failed, 1, __ATOMIC_RELEASE);
		wake_post(v->wake);
	}
	return NULL;
}

int verify_start(const struct model *model, struct verify_sum *kept,
	struct wake *wake, struct verify **out, struct error *err)
{
	struct verify *v = calloc(1, sizeof(*v));
	int rc;

	if (!v)
		return error_set(err, ENOMEM, "no memory to verify weights");
	v->model = model;
	v->kept = kept;
	v->wake = wake;
	rc = pthread_create(&v->thread, NULL, run, v);
	if (rc) {
		free(v);
		return error_set(
			err, rc, "cannot start a thread: %s", strerror(rc));
	}
	*out = v;
	return 0;
}

void verify_stop(struct verify *v)
{
	if (!v)
		return;
	__atomic_store_n(&v->quit, 1, __ATOMIC_RELEASE);
	pthread_join(v->thread, NULL);
	free(v);
}

bool verify_failed(const struct verify *v)
{
	return __atomic_load_n(&v->failed, __ATOMIC_ACQUIRE) != 0;
}
