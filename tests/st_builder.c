/* st_builder.c - safetensors files for tests (tensors -> memfd) */
/* SPDX-License-Identifier: Apache-2.0 */
#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tests/st_builder.h"

void st_init(struct st_builder *b)
{
	*b = (struct st_builder){0};
}

void st_release(struct st_builder *b)
{
	free(b->tensors);
	st_init(b);
}

struct st_tensor *st_add(struct st_builder *b, const char *name,
	const char *type, uint32_t rank, const uint64_t *shape)
{
	struct st_tensor *tensor;

	assert(rank <= ST_RANK_MAX);
	if (b->count == b->capacity) {
		b->capacity = b->capacity ? 2 * b->capacity : 64;
		b->tensors = reallocarray(
			b->tensors, b->capacity, sizeof(*b->tensors));
		assert(b->tensors);
	}
	tensor = &b->tensors[b->count++];
	*tensor = (struct st_tensor){.rank = rank};
	snprintf(tensor->name, sizeof(tensor->name), "%s", name);
	snprintf(tensor->type, sizeof(tensor->type), "%s", type);
	if (rank > 0)
		memcpy(tensor->shape, shape, rank * sizeof(shape[0]));
	return tensor;
}

struct st_tensor *st_find(struct st_builder *b, const char *name)
{
	for (size_t i = 0; i < b->count; i++)
		if (!strcmp(b->tensors[i].name, name))
			return &b->tensors[i];
	return NULL;
}

void st_remove(struct st_builder *b, struct st_tensor *tensor)
{
	size_t at = (size_t)(tensor - b->tensors);

	assert(at < b->count);
	b->count--;
	memmove(tensor, tensor + 1, (b->count - at) * sizeof(*tensor));
}

/* The last number in the type's name, but for the fp8 kinds. */
static unsigned type_bits(const char *type)
{
	if (!strncmp(type, "F8_", 3) || !strcmp(type, "BOOL"))
		return 8;
	if (!strncmp(type, "F6_", 3))
		return 6;
	return (unsigned)strtoul(type + strcspn(type, "0123456789"), NULL, 10);
}

void st_layout(struct st_builder *b)
{
	uint64_t end = 0;

	for (size_t i = 0; i < b->count; i++) {
		struct st_tensor *tensor = &b->tensors[i];
		uint64_t bits = type_bits(tensor->type);

		for (uint32_t r = 0; r < tensor->rank; r++)
			bits *= tensor->shape[r];
		tensor->begin = end;
		end += bits / 8;
		tensor->end = end;
	}
}

uint64_t st_data_bytes(const struct st_builder *b)
{
	uint64_t end = 0;

	for (size_t i = 0; i < b->count; i++)
		if (b->tensors[i].end > end)
			end = b->tensors[i].end;
	return end;
}

static void print_tensor(FILE *out, const struct st_tensor *tensor)
{
	fprintf(out, "\"%s\":{\"dtype\":\"%s\",\"shape\":[", tensor->name,
		tensor->type);
	for (uint32_t r = 0; r < tensor->rank; r++)
		fprintf(out, "%s%llu", r > 0 ? "," : "",
			(unsigned long long)tensor->shape[r]);
	fprintf(out, "],\"data_offsets\":[%llu,%llu]}",
		(unsigned long long)tensor->begin,
		(unsigned long long)tensor->end);
}

char *st_header(const struct st_builder *b)
{
	char *text = NULL;
	size_t size = 0;
	FILE *out = open_memstream(&text, &size);
	const char *separator = "{";

	assert(out);
	if (b->metadata) {
		fprintf(out, "{\"__metadata__\":%s", b->metadata);
		separator = ",";
	}
	for (size_t i = 0; i < b->count; i++) {
		fputs(separator, out);
		print_tensor(out, &b->tensors[i]);
		separator = ",";
	}
	fputs(*separator == '{' ? "{}" : "}", out);
	fclose(out);
	assert(text);
	return text;
}

static void write_at(int fd, const void *bytes, size_t size, uint64_t offset)
{
	ssize_t n = pwrite(fd, bytes, size, (off_t)offset);

	assert(n == (ssize_t)size);
	(void)n;
}

static int new_memfd(uint64_t size)
{
	int fd = memfd_create("test", MFD_CLOEXEC);

	assert(fd >= 0);
	if (ftruncate(fd, (off_t)size))
		abort();
	return fd;
}

int st_memfd_raw(const struct st_builder *b, const char *header,
	size_t header_length, uint64_t length_field, uint64_t data_bytes)
{
	uint64_t data = sizeof(length_field) + header_length;
	int fd = new_memfd(data + data_bytes);

	/* Little-endian, as the machines that this runs on. */
	write_at(fd, &length_field, sizeof(length_field), 0);
	write_at(fd, header, header_length, sizeof(length_field));
	for (size_t i = 0; i < b->count; i++) {
		const struct st_tensor *tensor = &b->tensors[i];

		if (tensor->data)
			write_at(fd, tensor->data, tensor->end - tensor->begin,
				data + tensor->begin);
	}
	return fd;
}

int st_memfd(const struct st_builder *b)
{
	char *header = st_header(b);
	size_t length = strlen(header);
	int fd = st_memfd_raw(b, header, length, length, st_data_bytes(b));

	free(header);
	return fd;
}

int st_memfd_bytes(const void *bytes, size_t size)
{
	int fd = new_memfd(size);

	write_at(fd, bytes, size, 0);
	return fd;
}

uint64_t st_fd_size(int fd)
{
	struct stat st;

	if (fstat(fd, &st))
		abort();
	return (uint64_t)st.st_size;
}
