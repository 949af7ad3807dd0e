/* fake_vmm.c - a back end that checks the rules of vmm.h and fails on demand */
/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Reservations and mappings are spans in two search trees. The trees compare
 * spans by overlap: a span is "equal" to whatever it overlaps, so one lookup
 * answers both "what is mapped here" and "is anything in the way".
 */
#include <assert.h>
#include <errno.h>
#include <pthread.h>
#include <search.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "tests/fake/fake_vmm.h"

#define FIRST_ADDR (UINT64_C(1) << 44)

struct span {
	vmm_addr addr;
	uint64_t size_bytes;
	uint32_t handle; /* index; of mappings */
	bool accessible;
	uint64_t access_serial; /* of the set_access that made it so */
};

struct fake_handle {
	uint64_t size_bytes;
	struct vmm_handle inner;
	uint32_t mapping_count;
	bool released;
};

struct fake_vmm {
	pthread_mutex_t lock;
	struct vmm *inner; /* borrowed, or NULL */
	uint64_t granule_bytes;
	vmm_addr next_addr; /* without inner */
	void *reservations, *mappings; /* owned trees of struct span */
	struct fake_handle *handles; /* owned */
	uint32_t handle_count, handle_capacity;
	struct fake_vmm_live live;

	uint64_t calls[FAKE_CALL_COUNT];
	enum fake_vmm_call armed;
	uint64_t left; /* calls until the fault, 0 = not armed */
	bool has_failed;

	uint64_t serial; /* grows with set_access and work_begin */
	uint64_t work_serial; /* of the last work, 0 = none runs */
	struct mono now;
};

static struct fake_vmm *fake_of(const struct vmm *vmm)
{
	return vmm->context;
}

const char *fake_vmm_call_name(enum fake_vmm_call call)
{
	static const char *const names[] = {"reserve", "create", "map",
		"set_access", "fence", "copy_in", "copy_out", "clear",
		"unreserve", "release", "unmap", "now", "any"};

	assert(call <= FAKE_ANY);
	return names[call];
}

static int compare_spans(const void *left, const void *right)
{
	const struct span *a = left;
	const struct span *b = right;

	if (a->addr + a->size_bytes <= b->addr)
		return -1;
	return a->addr >= b->addr + b->size_bytes;
}

/* Any span of the tree that overlaps the range, or NULL. */
static struct span *find_span(
	void *const *tree, vmm_addr addr, uint64_t size_bytes)
{
	struct span key = {.addr = addr, .size_bytes = size_bytes};
	struct span **found = tfind(&key, tree, compare_spans);

	return found ? *found : NULL;
}

static bool insert_span(void **tree, const struct span *span)
{
	struct span *copy = malloc(sizeof(*copy));

	if (!copy)
		return false;
	*copy = *span;
	if (!tsearch(copy, tree, compare_spans)) {
		free(copy);
		return false;
	}
	return true;
}

static void remove_span(void **tree, struct span *span)
{
	tdelete(span, tree, compare_spans);
	free(span);
}

/* Enter a call; true when it has to fail. */
static bool begin(struct fake_vmm *fake, enum fake_vmm_call call)
{
	pthread_mutex_lock(&fake->lock);
	fake->calls[call]++;
	if (call >= FAKE_UNRESERVE || fake->left == 0 ||
		(fake->armed != call && fake->armed != FAKE_ANY))
		return false;
	if (--fake->left > 0)
		return false;
	fake->has_failed = true;
	return true;
}

static int end(struct fake_vmm *fake, int rc)
{
	pthread_mutex_unlock(&fake->lock);
	return rc;
}

static void check_aligned(const struct fake_vmm *fake, uint64_t value)
{
	assert(value % fake->granule_bytes == 0 && "multiple of granularity");
}

static struct fake_handle *handle_at(struct fake_vmm *fake, uint64_t id)
{
	assert(id >= 1 && id <= fake->handle_count && "handle was created");
	return &fake->handles[id - 1];
}

/* The mapping that begins at addr. */
static struct span *mapping_at(struct fake_vmm *fake, vmm_addr addr)
{
	struct span *span = find_span(&fake->mappings, addr, 1);

	assert(span && "range is mapped");
	assert(span->addr == addr && "range takes whole mappings");
	return span;
}

static int fake_reserve(struct vmm *vmm, size_t size_bytes, vmm_addr *out)
{
	struct fake_vmm *fake = fake_of(vmm);
	struct span span = {.size_bytes = size_bytes};
	bool fails = begin(fake, FAKE_RESERVE);

	assert(size_bytes > 0);
	check_aligned(fake, size_bytes);
	if (fails)
		return end(fake, -ENOMEM);
	if (fake->inner) {
		int rc = fake->inner->ops->reserve(
			fake->inner, size_bytes, &span.addr);

		if (rc != 0)
			return end(fake, rc);
	} else {
		span.addr = fake->next_addr;
		/* A gap, so that running over the end is noticed. */
		fake->next_addr += size_bytes + fake->granule_bytes;
	}
	check_aligned(fake, span.addr);
	assert(!find_span(&fake->reservations, span.addr, size_bytes));
	if (!insert_span(&fake->reservations, &span)) {
		if (fake->inner)
			fake->inner->ops->unreserve(
				fake->inner, span.addr, size_bytes);
		return end(fake, -ENOMEM);
	}
	fake->live.reservations++;
	fake->live.reserved_bytes += size_bytes;
	*out = span.addr;
	return end(fake, 0);
}

static void fake_unreserve(struct vmm *vmm, vmm_addr addr, size_t size_bytes)
{
	struct fake_vmm *fake = fake_of(vmm);
	struct span *span;

	begin(fake, FAKE_UNRESERVE);
	span = find_span(&fake->reservations, addr, 1);
	assert(span && span->addr == addr && "address was reserved");
	assert(span->size_bytes == size_bytes && "whole reservation");
	assert(!find_span(&fake->mappings, addr, size_bytes) &&
		"nothing is mapped in the reservation");
	if (fake->inner)
		fake->inner->ops->unreserve(fake->inner, addr, size_bytes);
	remove_span(&fake->reservations, span);
	fake->live.reservations--;
	fake->live.reserved_bytes -= size_bytes;
	end(fake, 0);
}

static bool grow_handles(struct fake_vmm *fake)
{
	uint32_t capacity =
		fake->handle_capacity ? 2 * fake->handle_capacity : 64;
	struct fake_handle *grown;

	if (fake->handle_count < fake->handle_capacity)
		return true;
	grown = reallocarray(fake->handles, capacity, sizeof(*grown));
	if (!grown)
		return false;
	fake->handles = grown;
	fake->handle_capacity = capacity;
	return true;
}

static int fake_create(
	struct vmm *vmm, size_t size_bytes, struct vmm_handle *out)
{
	struct fake_vmm *fake = fake_of(vmm);
	struct fake_handle handle = {.size_bytes = size_bytes};
	bool fails = begin(fake, FAKE_CREATE);

	assert(size_bytes > 0);
	check_aligned(fake, size_bytes);
	if (fails || !grow_handles(fake))
		return end(fake, -ENOMEM);
	if (fake->inner) {
		int rc = fake->inner->ops->create(
			fake->inner, size_bytes, &handle.inner);

		if (rc != 0)
			return end(fake, rc);
	}
	fake->handles[fake->handle_count++] = handle;
	fake->live.handles++;
	fake->live.handle_bytes += size_bytes;
	out->id = fake->handle_count;
	return end(fake, 0);
}

static void drop_handle(struct fake_vmm *fake, const struct fake_handle *handle)
{
	if (!handle->released || handle->mapping_count > 0)
		return;
	fake->live.handles--;
	fake->live.handle_bytes -= handle->size_bytes;
}

static void fake_release(struct vmm *vmm, struct vmm_handle id)
{
	struct fake_vmm *fake = fake_of(vmm);
	struct fake_handle *handle;

	begin(fake, FAKE_RELEASE);
	handle = handle_at(fake, id.id);
	assert(!handle->released && "handle is released once");
	handle->released = true;
	if (fake->inner)
		fake->inner->ops->release(fake->inner, handle->inner);
	drop_handle(fake, handle);
	end(fake, 0);
}

static int fake_map(
	struct vmm *vmm, vmm_addr addr, size_t size_bytes, struct vmm_handle id)
{
	struct fake_vmm *fake = fake_of(vmm);
	bool fails = begin(fake, FAKE_MAP);
	struct fake_handle *handle = handle_at(fake, id.id);
	const struct span *home = find_span(&fake->reservations, addr, 1);
	struct span span = {.addr = addr,
		.size_bytes = size_bytes,
		.handle = (uint32_t)id.id - 1};

	check_aligned(fake, addr);
	assert(!handle->released && "mapped handle is not released");
	assert(size_bytes == handle->size_bytes && "handle is mapped whole");
	assert(home && "address is reserved");
	assert(size_bytes <= home->addr + home->size_bytes - addr &&
		"mapping ends inside the reservation");
	assert(!find_span(&fake->mappings, addr, size_bytes) &&
		"nothing is mapped there");
	if (fails)
		return end(fake, -ENOMEM);
	if (fake->inner) {
		int rc = fake->inner->ops->map(
			fake->inner, addr, size_bytes, handle->inner);

		if (rc != 0)
			return end(fake, rc);
	}
	if (!insert_span(&fake->mappings, &span)) {
		if (fake->inner)
			fake->inner->ops->unmap(fake->inner, addr, size_bytes);
		return end(fake, -ENOMEM);
	}
	handle->mapping_count++;
	fake->live.mappings++;
	return end(fake, 0);
}

static int fake_set_access(struct vmm *vmm, vmm_addr addr, size_t size_bytes)
{
	struct fake_vmm *fake = fake_of(vmm);
	bool fails = begin(fake, FAKE_SET_ACCESS);
	vmm_addr stop = addr + size_bytes;
	vmm_addr at = addr;

	assert(size_bytes > 0);
	while (at < stop)
		at += mapping_at(fake, at)->size_bytes;
	assert(at == stop && "range takes whole mappings");
	if (fails)
		return end(fake, -ENOMEM);
	if (fake->inner) {
		int rc = fake->inner->ops->set_access(
			fake->inner, addr, size_bytes);

		if (rc != 0)
			return end(fake, rc);
	}
	fake->serial++;
	for (at = addr; at < stop;) {
		struct span *span = mapping_at(fake, at);

		if (!span->accessible)
			span->access_serial = fake->serial;
		span->accessible = true;
		at += span->size_bytes;
	}
	return end(fake, 0);
}

static void fake_unmap(struct vmm *vmm, vmm_addr addr, size_t size_bytes)
{
	struct fake_vmm *fake = fake_of(vmm);
	vmm_addr stop = addr + size_bytes;
	vmm_addr at = addr;

	begin(fake, FAKE_UNMAP);
	assert(size_bytes > 0);
	while (at < stop) {
		const struct span *span = mapping_at(fake, at);

		assert(!(span->accessible &&
			       span->access_serial < fake->work_serial) &&
			"unmapped under running work");
		at += span->size_bytes;
	}
	assert(at == stop && "range takes whole mappings");
	if (fake->inner)
		fake->inner->ops->unmap(fake->inner, addr, size_bytes);
	for (at = addr; at < stop;) {
		struct span *span = mapping_at(fake, at);
		struct fake_handle *handle = &fake->handles[span->handle];

		at += span->size_bytes;
		handle->mapping_count--;
		drop_handle(fake, handle);
		remove_span(&fake->mappings, span);
		fake->live.mappings--;
	}
	end(fake, 0);
}

static int fake_fence(struct vmm *vmm)
{
	struct fake_vmm *fake = fake_of(vmm);
	int rc = begin(fake, FAKE_FENCE) ? -EIO : 0;

	if (rc == 0 && fake->inner)
		rc = fake->inner->ops->fence(fake->inner);
	if (rc == 0)
		fake->work_serial = 0;
	return end(fake, rc);
}

static void check_accessible(
	struct fake_vmm *fake, vmm_addr addr, uint64_t size_bytes)
{
	vmm_addr at = addr;

	while (at < addr + size_bytes) {
		const struct span *span = find_span(&fake->mappings, at, 1);

		assert(span && "touched memory is mapped");
		assert(span->accessible && "touched memory has access");
		at = span->addr + span->size_bytes;
	}
}

static int fake_copy_in(
	struct vmm *vmm, vmm_addr to, const void *from, size_t size_bytes)
{
	struct fake_vmm *fake = fake_of(vmm);
	int rc = begin(fake, FAKE_COPY_IN) ? -EIO : 0;

	check_accessible(fake, to, size_bytes);
	if (rc == 0 && fake->inner)
		rc = fake->inner->ops->copy_in(
			fake->inner, to, from, size_bytes);
	return end(fake, rc);
}

static int fake_copy_out(
	struct vmm *vmm, void *to, vmm_addr from, size_t size_bytes)
{
	struct fake_vmm *fake = fake_of(vmm);
	int rc = begin(fake, FAKE_COPY_OUT) ? -EIO : 0;

	check_accessible(fake, from, size_bytes);
	if (rc == 0 && fake->inner)
		rc = fake->inner->ops->copy_out(
			fake->inner, to, from, size_bytes);
	else if (rc == 0)
		memset(to, 0, size_bytes);
	return end(fake, rc);
}

static int fake_clear(struct vmm *vmm, vmm_addr at, size_t size_bytes)
{
	struct fake_vmm *fake = fake_of(vmm);
	int rc = begin(fake, FAKE_CLEAR) ? -EIO : 0;

	check_accessible(fake, at, size_bytes);
	if (rc == 0 && fake->inner)
		rc = fake->inner->ops->clear(fake->inner, at, size_bytes);
	return end(fake, rc);
}

/* Advice: nothing that could fail, and no call that is counted. */
static void fake_prepare(struct vmm *vmm, vmm_addr at, size_t size_bytes)
{
	struct fake_vmm *fake = fake_of(vmm);

	pthread_mutex_lock(&fake->lock);
	check_accessible(fake, at, size_bytes);
	if (fake->inner)
		fake->inner->ops->prepare(fake->inner, at, size_bytes);
	pthread_mutex_unlock(&fake->lock);
}

static struct mono fake_now(struct vmm *vmm)
{
	struct fake_vmm *fake = fake_of(vmm);
	struct mono now;

	begin(fake, FAKE_NOW);
	now = fake->now;
	end(fake, 0);
	return now;
}

static void *fake_host_pointer(struct vmm *vmm, vmm_addr addr)
{
	struct fake_vmm *fake = fake_of(vmm);

	return fake->inner ? fake->inner->ops->host_pointer(fake->inner, addr)
			   : NULL;
}

static const struct vmm_ops fake_ops = {
	.name = "fake",
	.reserve = fake_reserve,
	.unreserve = fake_unreserve,
	.create = fake_create,
	.release = fake_release,
	.map = fake_map,
	.set_access = fake_set_access,
	.unmap = fake_unmap,
	.fence = fake_fence,
	.copy_in = fake_copy_in,
	.copy_out = fake_copy_out,
	.clear = fake_clear,
	.prepare = fake_prepare,
	.now = fake_now,
	.host_pointer = fake_host_pointer,
};

void fake_vmm_init(struct vmm *vmm, size_t granularity_bytes, struct vmm *inner)
{
	struct fake_vmm *fake = calloc(1, sizeof(*fake));

	assert(fake && is_power_of_two(granularity_bytes));
	assert(!inner || inner->granularity_bytes == granularity_bytes);
	pthread_mutex_init(&fake->lock, NULL);
	fake->inner = inner;
	fake->granule_bytes = granularity_bytes;
	fake->next_addr = FIRST_ADDR;
	*vmm = (struct vmm){.ops = &fake_ops,
		.context = fake,
		.granularity_bytes = granularity_bytes};
}

void fake_vmm_destroy(struct vmm *vmm)
{
	struct fake_vmm *fake = fake_of(vmm);

	tdestroy(fake->mappings, free);
	tdestroy(fake->reservations, free);
	free(fake->handles);
	pthread_mutex_destroy(&fake->lock);
	free(fake);
	*vmm = (struct vmm){0};
}

bool fake_vmm_check_empty(const struct vmm *vmm)
{
	const struct fake_vmm_live *live = &fake_of(vmm)->live;

	if (live->reservations == 0 && live->handles == 0 &&
		live->mappings == 0)
		return true;
	printf("left over: %u reservations, %u handles, %u mappings\n",
		live->reservations, live->handles, live->mappings);
	return false;
}

void fake_vmm_fail(struct vmm *vmm, enum fake_vmm_call call, uint64_t nth)
{
	struct fake_vmm *fake = fake_of(vmm);

	assert(call < FAKE_UNRESERVE || call == FAKE_ANY);
	fake->armed = call;
	fake->left = nth;
	fake->has_failed = false;
}

void fake_vmm_disarm(struct vmm *vmm)
{
	fake_vmm_fail(vmm, FAKE_ANY, 0);
}

bool fake_vmm_has_failed(const struct vmm *vmm)
{
	return fake_of(vmm)->has_failed;
}

uint64_t fake_vmm_calls(const struct vmm *vmm, enum fake_vmm_call call)
{
	const struct fake_vmm *fake = fake_of(vmm);
	uint64_t sum = 0;

	if (call != FAKE_ANY)
		return fake->calls[call];
	for (int i = 0; i < FAKE_UNRESERVE; i++)
		sum += fake->calls[i];
	return sum;
}

struct fake_vmm_live fake_vmm_live(const struct vmm *vmm)
{
	return fake_of(vmm)->live;
}

void fake_vmm_work_begin(struct vmm *vmm)
{
	struct fake_vmm *fake = fake_of(vmm);

	fake->work_serial = ++fake->serial;
}

bool fake_vmm_work_runs(const struct vmm *vmm)
{
	return fake_of(vmm)->work_serial != 0;
}

void fake_vmm_set_now(struct vmm *vmm, struct mono now)
{
	fake_of(vmm)->now = now;
}
