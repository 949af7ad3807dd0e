/* segment.c - the shared memory that joins the roles of a node */
/* SPDX-License-Identifier: Apache-2.0 */
#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/check.h"
#include "base/segment.h"

#define SEGMENT_MAGIC UINT32_C(0x68645347) /* "GSdh" */
#define SEGMENT_VERSION 2u
#define AREA_BYTES ((size_t)4096)
/* No role can make a mapping of another end early. */
#define SIZE_SEALS (F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL)

/* The first page; written by create, copied once by attach. */
struct segment_header {
	uint32_t magic;
	uint32_t version;
	uint64_t size_bytes;
	struct segment_shape shape;
	/* Sizes of what lies inside: both sides were built alike. */
	uint32_t slot_bytes, page_bytes;
	uint32_t front_counter_bytes, engine_counter_bytes;
	uint32_t table_bytes, books_bytes;
	uint32_t reserved;
};

_Static_assert(sizeof(struct segment_header) == 64, "compared as bytes");
_Static_assert(sizeof(struct role_beat) == CACHE_LINE_BYTES, "own line");
_Static_assert(sizeof(struct wake) == CACHE_LINE_BYTES, "own line");

static bool shape_ok(const struct segment_shape *shape)
{
	return shape->slot_count >= 1 &&
	       shape->slot_count <= REQUEST_SLOT_COUNT_MAX &&
	       shape->page_count >= 1 &&
	       shape->page_count <= PAYLOAD_PAGE_COUNT_MAX &&
	       shape->ring_count >= 2 &&
	       shape->ring_count <= SEGMENT_RING_COUNT_MAX &&
	       is_power_of_two(shape->ring_count) && shape->rank_count >= 1 &&
	       shape->rank_count <= RANK_COUNT_MAX && shape->front_count >= 1 &&
	       shape->front_count <= FRONT_COUNT_MAX &&
	       shape->front_count <= shape->slot_count &&
	       shape->front_count <= shape->page_count;
}

/* The other fronts are behind all that have an index of their own. */
static uint32_t role_count(const struct segment_shape *shape)
{
	return ROLE_INDEX_RANK0 + shape->rank_count + shape->front_count - 1;
}

static size_t pair_rings(const struct segment_shape *shape)
{
	return (size_t)2 * shape->rank_count * shape->front_count;
}

static size_t whole_areas(size_t size)
{
	return div_up(size, AREA_BYTES) * AREA_BYTES;
}

/* Bytes of the counter block of each writer. */
static size_t front_counter_area(void)
{
	return whole_areas(sizeof(struct front_counters));
}

static size_t engine_counter_area(void)
{
	return whole_areas(sizeof(struct engine_counters));
}

static size_t table_area(void)
{
	return whole_areas(sizeof(struct adapter_table));
}

static size_t books_area(void)
{
	return whole_areas(sizeof(struct rank_books));
}

/* Offsets of a shape within bounds; nothing here can wrap. */
static void lay_out(const struct segment_shape *shape, struct segment *out)
{
	size_t roles = role_count(shape);
	size_t ring_total = pair_rings(shape) + roles;

	out->shape = *shape;
	out->front = 0;
	out->beats = AREA_BYTES;
	out->wakes = out->beats + whole_areas(roles * sizeof(struct role_beat));
	out->counters = out->wakes + whole_areas(roles * sizeof(struct wake));
	out->adapters = out->counters +
			shape->front_count * front_counter_area() +
			shape->rank_count * engine_counter_area();
	out->rings =
		out->adapters + table_area() + shape->rank_count * books_area();
	out->ring_stride = whole_areas(ring_size(shape->ring_count));
	out->slots = out->rings + ring_total * out->ring_stride;
	out->pages = out->slots + whole_areas(shape->slot_count *
					      sizeof(struct request_slot));
	out->size_bytes =
		out->pages + (size_t)shape->page_count * PAYLOAD_PAGE_BYTES;
}

int segment_size(const struct segment_shape *shape, size_t *out)
{
	struct segment segment;

	if (!shape_ok(shape))
		return -EINVAL;
	lay_out(shape, &segment);
	*out = segment.size_bytes;
	return 0;
}

static struct segment_header header_of(const struct segment *segment)
{
	return (struct segment_header){
		.magic = SEGMENT_MAGIC,
		.version = SEGMENT_VERSION,
		.size_bytes = segment->size_bytes,
		.shape = segment->shape,
		.slot_bytes = sizeof(struct request_slot),
		.page_bytes = PAYLOAD_PAGE_BYTES,
		.front_counter_bytes = sizeof(struct front_counters),
		.engine_counter_bytes = sizeof(struct engine_counters),
		.table_bytes = sizeof(struct adapter_table),
		.books_bytes = sizeof(struct rank_books),
	};
}

static int map(int fd, struct segment *segment, struct error *err)
{
	void *base = mmap(NULL, segment->size_bytes, PROT_READ | PROT_WRITE,
		MAP_SHARED, fd, 0);

	if (base == MAP_FAILED)
		return error_set(err, errno,
			"cannot map a segment of %zu bytes: %s",
			segment->size_bytes, strerror(errno));
	segment->base = base;
	return 0;
}

static struct ring *ring_at(const struct segment *segment, size_t index)
{
	return (struct ring *)((char *)segment->base + segment->rings +
			       index * segment->ring_stride);
}

/* A new memory file is zero: slots are free, counters and beats are nought. */
static void fill(const struct segment *segment)
{
	struct segment_header header = header_of(segment);
	size_t total =
		pair_rings(&segment->shape) + role_count(&segment->shape);

	_Static_assert(FRONT_FREE == 0 && ENGINE_IDLE == 0, "zero is free");
	_Static_assert(BEAT_ABSENT == 0, "zero is absent");
	for (size_t i = 0; i < total; i++) {
		int rc = ring_init(ring_at(segment, i),
			segment->shape.ring_count, segment->ring_stride);

		assert(rc == 0);
		(void)rc;
	}
	memcpy(segment->base, &header, sizeof(header));
}

static int size_and_seal(int fd, size_t size)
{
	if (ftruncate(fd, (off_t)size))
		return -errno;
	if (fcntl(fd, F_ADD_SEALS, SIZE_SEALS))
		return -errno;
	return 0;
}

static void forget_bells(struct segment *segment)
{
	for (uint32_t i = 0; i < FRONT_COUNT_MAX; i++)
		segment->bell_fds[i] = -1;
}

static void close_bells(const struct segment *segment)
{
	for (uint32_t i = 0; segment->owns_bells && i < FRONT_COUNT_MAX; i++)
		if (segment->bell_fds[i] >= 0)
			close(segment->bell_fds[i]);
}

/* Blocking: a ring's read of one waits until it is rung. */
static int make_bells(struct segment *segment, struct error *err)
{
	forget_bells(segment);
	segment->owns_bells = true;
	for (uint32_t i = 0; i < segment->shape.front_count; i++) {
		segment->bell_fds[i] = eventfd(0, EFD_CLOEXEC);
		if (segment->bell_fds[i] < 0)
			return error_set(
				err, errno, "eventfd: %s", strerror(errno));
	}
	return 0;
}

int segment_create(const struct segment_shape *shape, struct segment *out,
	int *out_fd, struct error *err)
{
	int fd, rc;

	memset(out, 0, sizeof(*out));
	if (!shape_ok(shape))
		return error_set(err, EINVAL,
			"a segment of %u slots, %u pages, rings of %u, %u "
			"ranks, %u fronts is out of bounds",
			shape->slot_count, shape->page_count, shape->ring_count,
			shape->rank_count, shape->front_count);
	lay_out(shape, out);
	fd = memfd_create("heddle-segment", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	if (fd < 0)
		return error_set(err, errno, "cannot make a memory file: %s",
			strerror(errno));
	rc = size_and_seal(fd, out->size_bytes);
	if (rc)
		error_set(err, -rc, "cannot size a segment of %zu bytes: %s",
			out->size_bytes, strerror(-rc));
	else
		rc = make_bells(out, err);
	if (rc == 0)
		rc = map(fd, out, err);
	if (rc) {
		close(fd);
		segment_detach(out);
		return rc;
	}
	fill(out);
	*out_fd = fd;
	return 0;
}

static int check_header(const struct segment_header *header, uint64_t size,
	struct segment *out, struct error *err)
{
	struct segment_header wanted;

	if (header->magic != SEGMENT_MAGIC ||
		header->version != SEGMENT_VERSION)
		return error_set(err, EINVAL,
			"this memory is no segment of this version");
	if (!shape_ok(&header->shape))
		return error_set(
			err, EINVAL, "the segment's shape is out of bounds");
	lay_out(&header->shape, out);
	wanted = header_of(out);
	if (memcmp(&wanted, header, sizeof(wanted)) != 0 ||
		size != out->size_bytes)
		return error_set(err, EINVAL,
			"the segment has %llu bytes where its shape needs %zu, "
			"or was made by another build",
			(unsigned long long)size, out->size_bytes);
	return 0;
}

int segment_attach(int fd, struct segment *out, struct error *err)
{
	struct segment_header header;
	struct stat st;
	ssize_t got;
	int rc;

	memset(out, 0, sizeof(*out));
	if (fstat(fd, &st))
		return error_set(err, errno, "cannot look at the segment: %s",
			strerror(errno));
	if ((fcntl(fd, F_GET_SEALS) & SIZE_SEALS) != SIZE_SEALS)
		return error_set(err, EINVAL,
			"this memory is no segment: its size is not sealed");
	got = pread(fd, &header, sizeof(header), 0);
	if (got != (ssize_t)sizeof(header))
		return error_set(
			err, EINVAL, "this memory is too small for a segment");
	rc = check_header(&header, (uint64_t)st.st_size, out, err);
	if (rc == 0)
		rc = map(fd, out, err);
	if (rc)
		memset(out, 0, sizeof(*out));
	forget_bells(out);
	return rc;
}

void segment_detach(struct segment *segment)
{
	if (segment->base)
		munmap(segment->base, segment->size_bytes);
	close_bells(segment);
	memset(segment, 0, sizeof(*segment));
}

/* --- fronts -------------------------------------------------------------- */

struct segment segment_view(const struct segment *segment, uint32_t front)
{
	struct segment view = *segment;

	assert(front < segment->shape.front_count);
	view.front = front;
	return view;
}

/* Equal shares; the last one has what is left over. */
static struct segment_share share_of(
	const struct segment *segment, uint32_t all)
{
	uint32_t fronts = segment->shape.front_count;
	struct segment_share share = {.count = all / fronts};

	share.first = segment->front * share.count;
	if (segment->front == fronts - 1)
		share.count = all - share.first;
	return share;
}

struct segment_share segment_slot_share(const struct segment *segment)
{
	return share_of(segment, segment->shape.slot_count);
}

struct segment_share segment_page_share(const struct segment *segment)
{
	return share_of(segment, segment->shape.page_count);
}

uint32_t segment_slot_front(const struct segment *segment, uint32_t slot_index)
{
	const struct segment_shape *shape = &segment->shape;
	uint32_t front;

	assert(slot_index < shape->slot_count);
	if (shape->front_count == 1)
		return 0;
	front = slot_index / (shape->slot_count / shape->front_count);
	return front < shape->front_count ? front : shape->front_count - 1;
}

/* The role's place: that of another front is behind the ranks. */
static uint32_t role_place(const struct segment *segment, uint32_t role)
{
	assert(role < ROLE_INDEX_RANK0 + segment->shape.rank_count);
	if (role != ROLE_INDEX_FRONT || segment->front == 0)
		return role;
	return ROLE_INDEX_RANK0 + segment->shape.rank_count + segment->front -
	       1;
}

/* --- places -------------------------------------------------------------- */

static void *place(const struct segment *segment, size_t offset)
{
	return (char *)segment->base + offset;
}

struct request_slot *segment_slot(const struct segment *segment, uint32_t index)
{
	assert(index < segment->shape.slot_count);
	return place(segment,
		segment->slots + (size_t)index * sizeof(struct request_slot));
}

struct payload_page *segment_page(const struct segment *segment, uint32_t index)
{
	assert(index < segment->shape.page_count);
	return place(
		segment, segment->pages + (size_t)index * PAYLOAD_PAGE_BYTES);
}

struct role_beat *segment_beat(const struct segment *segment, uint32_t role)
{
	return place(
		segment, segment->beats + role_place(segment, role) *
						  sizeof(struct role_beat));
}

struct wake *segment_wake(const struct segment *segment, uint32_t role)
{
	return place(segment, segment->wakes + role_place(segment, role) *
						       sizeof(struct wake));
}

int segment_bell(const struct segment *segment)
{
	return segment->bell_fds[segment->front];
}

void segment_ring_bell(const struct segment *segment)
{
	wake_ring(
		segment_wake(segment, ROLE_INDEX_FRONT), segment_bell(segment));
}

static size_t pair_at(const struct segment *segment, uint32_t rank)
{
	assert(rank < segment->shape.rank_count);
	return (size_t)2 * (segment->front * segment->shape.rank_count + rank);
}

struct ring *segment_request_ring(const struct segment *segment, uint32_t rank)
{
	return ring_at(segment, pair_at(segment, rank));
}

struct ring *segment_token_ring(const struct segment *segment, uint32_t rank)
{
	return ring_at(segment, pair_at(segment, rank) + 1);
}

struct ring *segment_control_ring(const struct segment *segment, uint32_t role)
{
	return ring_at(segment,
		pair_rings(&segment->shape) + role_place(segment, role));
}

struct front_counters *segment_front_counters(const struct segment *segment)
{
	return place(segment,
		segment->counters + segment->front * front_counter_area());
}

/* Whole words: so the block is made. */
static void add_words(
	struct front_counters *sum, const struct front_counters *one)
{
	uint64_t *to = (uint64_t *)sum;
	const uint64_t *from = (const uint64_t *)one;

	_Static_assert(sizeof(*sum) % sizeof(*to) == 0, "words alone");
	for (size_t i = 0; i < sizeof(*sum) / sizeof(*to); i++)
		to[i] += counter_read(&from[i]);
}

void segment_front_total(
	const struct segment *segment, struct front_counters *out)
{
	struct front_counters *first;
	struct segment view = segment_view(segment, 0);

	first = segment_front_counters(&view);
	memset(out, 0, sizeof(*out));
	for (uint32_t i = 0; i < segment->shape.front_count; i++) {
		view = segment_view(segment, i);
		add_words(out, segment_front_counters(&view));
	}
	out->nic.port_count = counter_read(&first->nic.port_count);
	out->nic.port_active = counter_read(&first->nic.port_active);
	out->nic.link_up = counter_read(&first->nic.link_up);
	out->capture.serial = counter_read(&first->capture.serial);
	out->capture.state = counter_read(&first->capture.state);
}

struct engine_counters *segment_engine_counters(
	const struct segment *segment, uint32_t rank)
{
	assert(rank < segment->shape.rank_count);
	return place(segment,
		segment->counters +
			segment->shape.front_count * front_counter_area() +
			rank * engine_counter_area());
}

struct adapter_table *segment_adapter_table(const struct segment *segment)
{
	return place(segment, segment->adapters);
}

struct rank_books *segment_rank_books(
	const struct segment *segment, uint32_t rank)
{
	assert(rank < segment->shape.rank_count);
	return place(segment,
		segment->adapters + table_area() + rank * books_area());
}
