/* safetensors.c - the header of one weight file (bytes -> checked tensors) */
/* SPDX-License-Identifier: Apache-2.0 */
#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/check.h"
#include "base/json_text.h"
#include "engine/safetensors.h"

#define LENGTH_BYTES SAFETENSORS_LENGTH_BYTES
#define METADATA_KEY "__metadata__"

/*
 * One tensor of rank 8 needs one object, two arrays and 15 separators (a
 * comma and a colon around it, 3 colons and 2 commas between its fields, 7
 * and 1 commas in the arrays); 16 leave room for __metadata__. A hostile
 * header that uses all of it costs the parser less than 0.5 GB.
 */
static const struct json_bounds header_bounds = {
	.object_max = SAFETENSORS_TENSOR_COUNT_MAX + 2,
	.array_max = (size_t)2 * SAFETENSORS_TENSOR_COUNT_MAX,
	.separator_max = (size_t)16 * SAFETENSORS_TENSOR_COUNT_MAX,
};

/* Every type of the format; those without a dtype cannot be loaded. */
static const struct {
	const char *name;
	unsigned bits;
	enum dtype type;
} types[] = {
	{"F32", 32, DTYPE_F32},
	{"BF16", 16, DTYPE_BF16},
	{"F16", 16, DTYPE_F16},
	{"F8_E4M3", 8, DTYPE_F8_E4M3},
	{"BOOL", 8, DTYPE_COUNT},
	{"U8", 8, DTYPE_COUNT},
	{"I8", 8, DTYPE_COUNT},
	{"U16", 16, DTYPE_COUNT},
	{"I16", 16, DTYPE_COUNT},
	{"U32", 32, DTYPE_COUNT},
	{"I32", 32, DTYPE_COUNT},
	{"U64", 64, DTYPE_COUNT},
	{"I64", 64, DTYPE_COUNT},
	{"F64", 64, DTYPE_COUNT},
	{"C64", 64, DTYPE_COUNT},
	{"F8_E5M2", 8, DTYPE_COUNT},
	{"F8_E8M0", 8, DTYPE_COUNT},
	{"F6_E2M3", 6, DTYPE_COUNT},
	{"F6_E3M2", 6, DTYPE_COUNT},
	{"F4", 4, DTYPE_COUNT},
};

/* A reason about one tensor; the name is printable or was refused before. */
static int refuse(const char *name, const char *reason, struct error *err)
{
	return error_set(err, EINVAL, "tensor \"%s\": %s", name, reason);
}

/*
 * Published names are plain ASCII. Nothing else gets into a log line, and
 * two names that look alike cannot differ.
 */
static int check_name(const char *name, struct error *err)
{
	size_t length = strlen(name);

	if (length == 0)
		return error_set(err, EINVAL, "a tensor has an empty name");
	if (length > SAFETENSORS_NAME_BYTES_MAX)
		return error_set(err, EINVAL,
			"tensor \"%.60s...\": name of %zu bytes, at most %d",
			name, length, SAFETENSORS_NAME_BYTES_MAX);
	for (size_t i = 0; i < length; i++)
		if (name[i] < 0x20 || name[i] > 0x7e)
			return error_set(err, EINVAL,
				"tensor \"%s\": byte 0x%02x in its name", name,
				(unsigned char)name[i]);
	return 0;
}

static bool u64_ok(const json_t *value, uint64_t *out)
{
	if (!json_is_integer(value) || json_integer_value(value) < 0)
		return false;
	*out = (uint64_t)json_integer_value(value);
	return true;
}

static int read_type(const json_t *value, struct safetensors_tensor *tensor,
	unsigned *out_bits, struct error *err)
{
	const char *text = json_string_value(value);

	if (!text)
		return refuse(tensor->name, "dtype is no string", err);
	for (size_t i = 0; i < sizeof(types) / sizeof(types[0]); i++) {
		if (strcmp(text, types[i].name) != 0)
			continue;
		memcpy(tensor->type_name, types[i].name, strlen(text) + 1);
		tensor->type = types[i].type;
		*out_bits = types[i].bits;
		return 0;
	}
	return error_set(err, EINVAL, "tensor \"%s\": unknown dtype \"%.20s\"",
		tensor->name, text);
}

/* The shape, and what it needs in bytes. */
static int read_shape(const json_t *value, unsigned bits,
	struct safetensors_tensor *tensor, uint64_t *out_bytes,
	struct error *err)
{
	size_t rank = json_array_size(value), total = bits;

	if (!json_is_array(value))
		return refuse(tensor->name, "shape is no array", err);
	if (rank > SAFETENSORS_RANK_MAX)
		return error_set(err, EINVAL,
			"tensor \"%s\": rank %zu, at most %d", tensor->name,
			rank, SAFETENSORS_RANK_MAX);
	for (size_t i = 0; i < rank; i++) {
		uint64_t *dim = &tensor->shape[i];

		if (!u64_ok(json_array_get(value, i), dim))
			return refuse(tensor->name,
				"shape holds what is no size", err);
		if (!mul_ok(total, *dim, &total))
			return refuse(tensor->name, "shape overflows", err);
	}
	if (total % 8)
		return refuse(tensor->name, "shape is no whole bytes", err);
	tensor->rank = (uint32_t)rank;
	*out_bytes = total / 8;
	return 0;
}

static int read_offsets(const json_t *value, uint64_t data_size_bytes,
	uint64_t need_bytes, struct safetensors_tensor *tensor,
	struct error *err)
{
	uint64_t begin, end;

	if (json_array_size(value) != 2 ||
		!u64_ok(json_array_get(value, 0), &begin) ||
		!u64_ok(json_array_get(value, 1), &end))
		return refuse(
			tensor->name, "data_offsets are no two offsets", err);
	if (begin > end)
		return refuse(tensor->name, "data_offsets are reversed", err);
	if (end > data_size_bytes)
		return error_set(err, EINVAL,
			"tensor \"%s\": data_offsets end at %llu, the file "
			"holds %llu bytes of data",
			tensor->name, (unsigned long long)end,
			(unsigned long long)data_size_bytes);
	if (end - begin != need_bytes)
		return error_set(err, EINVAL,
			"tensor \"%s\": data_offsets span %llu bytes, the "
			"shape needs %llu",
			tensor->name, (unsigned long long)(end - begin),
			(unsigned long long)need_bytes);
	tensor->offset_bytes = begin;
	tensor->size_bytes = need_bytes;
	return 0;
}

static int read_tensor(const json_t *value, uint64_t data_size_bytes,
	struct safetensors_tensor *tensor, struct error *err)
{
	uint64_t need_bytes = 0;
	unsigned bits = 0;
	int rc;

	if (!json_is_object(value))
		return refuse(tensor->name, "is no object", err);
	if (json_object_size(value) != 3)
		return refuse(tensor->name,
			"has other fields than dtype, shape and data_offsets",
			err);
	rc = read_type(json_object_get(value, "dtype"), tensor, &bits, err);
	if (rc)
		return rc;
	rc = read_shape(json_object_get(value, "shape"), bits, tensor,
		&need_bytes, err);
	if (rc)
		return rc;
	return read_offsets(json_object_get(value, "data_offsets"),
		data_size_bytes, need_bytes, tensor, err);
}

static int check_metadata(json_t *value, struct error *err)
{
	const char *key;
	json_t *text;

	if (!json_is_object(value))
		return error_set(err, EINVAL, METADATA_KEY " is no object");
	json_object_foreach(value, key,
		text) if (!json_is_string(text)) return error_set(err, EINVAL,
		METADATA_KEY ": \"%.60s\" is no string", key);
	return 0;
}

static int read_tensors(json_t *root, uint64_t data_size_bytes,
	struct safetensors_header *out, struct error *err)
{
	const char *name;
	json_t *value;
	int rc;

	json_object_foreach(root, name, value)
	{
		struct safetensors_tensor *tensor = &out->tensors[out->count];

		if (!strcmp(name, METADATA_KEY)) {
			rc = check_metadata(value, err);
			if (rc)
				return rc;
			continue;
		}
		rc = check_name(name, err);
		if (rc)
			return rc;
		tensor->name = strdup(name);
		if (!tensor->name)
			return error_set(err, ENOMEM, "no memory for a name");
		out->count++;
		rc = read_tensor(value, data_size_bytes, tensor, err);
		if (rc)
			return rc;
	}
	return 0;
}

/* Empty tensors lie before what begins at the same offset. */
static int compare_offset(const void *a, const void *b)
{
	const struct safetensors_tensor *x = a, *y = b;

	if (x->offset_bytes != y->offset_bytes)
		return x->offset_bytes < y->offset_bytes ? -1 : 1;
	if (x->size_bytes != y->size_bytes)
		return x->size_bytes < y->size_bytes ? -1 : 1;
	return strcmp(x->name, y->name);
}

/* Exactly the data section: no gap, no overlap, nothing beyond. */
static int check_cover(const struct safetensors_header *header,
	uint64_t data_size_bytes, struct error *err)
{
	uint64_t end = 0;

	for (uint32_t i = 0; i < header->count; i++) {
		const struct safetensors_tensor *tensor = &header->tensors[i];

		if (tensor->offset_bytes != end)
			return error_set(err, EINVAL,
				"tensor \"%s\": begins at %llu, %s at %llu",
				tensor->name,
				(unsigned long long)tensor->offset_bytes,
				tensor->offset_bytes < end
					? "overlaps the one that ends"
					: "leaves a gap after the one that "
					  "ends",
				(unsigned long long)end);
		end += tensor->size_bytes;
	}
	if (end != data_size_bytes)
		return error_set(err, EINVAL,
			"%llu bytes of data that no tensor covers",
			(unsigned long long)(data_size_bytes - end));
	return 0;
}

static int fill_header(json_t *root, uint64_t data_size_bytes,
	struct safetensors_header *out, struct error *err)
{
	size_t count = json_object_size(root);
	int rc;

	if (count > SAFETENSORS_TENSOR_COUNT_MAX + 1)
		return error_set(err, EINVAL, "%zu tensors, at most %u", count,
			SAFETENSORS_TENSOR_COUNT_MAX);
	if (count == 0)
		return check_cover(out, data_size_bytes, err);
	out->tensors = calloc(count, sizeof(*out->tensors));
	if (!out->tensors)
		return error_set(
			err, ENOMEM, "no memory for %zu tensors", count);
	rc = read_tensors(root, data_size_bytes, out, err);
	if (rc)
		return rc;
	qsort(out->tensors, out->count, sizeof(*out->tensors), compare_offset);
	rc = check_cover(out, data_size_bytes, err);
	if (rc)
		return rc;
	for (uint32_t i = 0; i < out->count; i++)
		out->tensors[i].offset_bytes += out->data_offset_bytes;
	return 0;
}

int safetensors_parse(const char *json, size_t length, uint64_t data_size_bytes,
	struct safetensors_header *out, struct error *err)
{
	struct safetensors_header header = {0};
	json_t *root;
	int rc;

	assert(json && out);
	if (length > (size_t)SAFETENSORS_HEADER_BYTES_MAX)
		return error_set(err, EINVAL, "header of %zu bytes, at most %u",
			length, SAFETENSORS_HEADER_BYTES_MAX);
	if (length == 0 || json[0] != '{')
		return error_set(err, EINVAL, "header does not begin with {");
	if (data_size_bytes > (uint64_t)INT64_MAX)
		return error_set(err, EINVAL, "data of more than 2^63 bytes");
	rc = json_text_parse(json, length, &header_bounds, &root, err);
	if (rc) {
		error_prefix(err, "header");
		return rc;
	}
	header.data_offset_bytes = LENGTH_BYTES + length;
	rc = fill_header(root, data_size_bytes, &header, err);
	json_decref(root);
	if (rc)
		safetensors_release(&header);
	else
		*out = header;
	return rc;
}

/* Exactly `size` bytes at `offset`; the file was measured just before. */
static int read_exactly(
	int fd, void *out, size_t size, off_t offset, struct error *err)
{
	char *to = out;

	while (size > 0) {
		ssize_t n = pread(fd, to, size, offset);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return error_set(err, EIO, "cannot be read: %s",
				strerror(errno));
		if (n == 0)
			return error_set(err, EIO, "shrank while it was read");
		to += n;
		offset += n;
		size -= (size_t)n;
	}
	return 0;
}

static int read_header(int fd, uint64_t file_bytes, uint64_t length,
	struct safetensors_header *out, struct error *err)
{
	char *json = malloc(length);
	int rc;

	if (!json)
		return error_set(err, ENOMEM,
			"no memory for a header of %llu bytes",
			(unsigned long long)length);
	rc = read_exactly(fd, json, length, LENGTH_BYTES, err);
	if (rc == 0)
		rc = safetensors_parse(json, length,
			file_bytes - LENGTH_BYTES - length, out, err);
	free(json);
	return rc;
}

int safetensors_header_length(const uint8_t prefix[SAFETENSORS_LENGTH_BYTES],
	uint64_t file_bytes, uint64_t *out, struct error *err)
{
	uint64_t length = 0;

	if (file_bytes < LENGTH_BYTES)
		return error_set(err, EINVAL, "truncated: %llu bytes",
			(unsigned long long)file_bytes);
	for (int i = LENGTH_BYTES - 1; i >= 0; i--)
		length = length << 8 | prefix[i];
	if (length == 0 || length > (uint64_t)SAFETENSORS_HEADER_BYTES_MAX)
		return error_set(err, EINVAL,
			"header length %llu, expected 1 to %u",
			(unsigned long long)length,
			SAFETENSORS_HEADER_BYTES_MAX);
	if (length > file_bytes - LENGTH_BYTES)
		return error_set(err, EINVAL,
			"truncated: header of %llu bytes in a file of %llu",
			(unsigned long long)length,
			(unsigned long long)file_bytes);
	*out = length;
	return 0;
}

static int read_file(int fd, struct safetensors_header *out, struct error *err)
{
	uint8_t prefix[LENGTH_BYTES] = {0};
	uint64_t file_bytes, length = 0;
	struct stat st;
	int rc = 0;

	if (fstat(fd, &st))
		return error_set(
			err, EIO, "cannot be measured: %s", strerror(errno));
	file_bytes = (uint64_t)st.st_size;
	if (file_bytes >= LENGTH_BYTES)
		rc = read_exactly(fd, prefix, sizeof(prefix), 0, err);
	if (rc == 0)
		rc = safetensors_header_length(
			prefix, file_bytes, &length, err);
	if (rc)
		return rc;
	assert(length > 0);
	return read_header(fd, file_bytes, length, out, err);
}

int safetensors_read(int fd, const char *file_name,
	struct safetensors_header *out, struct error *err)
{
	int rc = read_file(fd, out, err);

	if (rc)
		error_prefix(err, "%s", file_name);
	return rc;
}

int safetensors_check_size(const struct safetensors_header *header,
	const char *file_name, uint64_t opened_bytes, struct error *err)
{
	uint64_t size = header->data_offset_bytes;

	if (header->count > 0) {
		const struct safetensors_tensor *last =
			&header->tensors[header->count - 1];

		size = last->offset_bytes + last->size_bytes;
	}
	if (size == opened_bytes)
		return 0;
	return error_set(err, EINVAL,
		"%s: changed: %llu bytes when it was opened, now %llu",
		file_name, (unsigned long long)opened_bytes,
		(unsigned long long)size);
}

void safetensors_release(struct safetensors_header *header)
{
	for (uint32_t i = 0; i < header->count; i++)
		free(header->tensors[i].name);
	free(header->tensors);
	*header = (struct safetensors_header){0};
}
