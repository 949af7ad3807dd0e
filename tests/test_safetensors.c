/* test_safetensors.c - headers of weight files, right and wrong */
/* SPDX-License-Identifier: Apache-2.0 */
#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "engine/safetensors.h"
#include "tests/fake/fake_os.h"
#include "tests/st_builder.h"
#include "tests/suite.h"

static int parse(const char *json, uint64_t data_bytes,
	struct safetensors_header *out, struct error *err)
{
	*err = (struct error){0};
	*out = (struct safetensors_header){0};
	return safetensors_parse(json, strlen(json), data_bytes, out, err);
}

/* ---- what is right ---- */

static void test_parse__in_order_of_offset(void)
{
	const char *json = "{\"__metadata__\":{\"format\":\"pt\"},"
			   "\"b\":{\"dtype\":\"F32\",\"shape\":[],"
			   "\"data_offsets\":[12,16]},"
			   "\"a\":{\"data_offsets\":[0,12],\"dtype\":\"BF16\","
			   "\"shape\":[2,3]}}   ";
	struct safetensors_header header;
	struct error err;

	CU_ASSERT_EQUAL(parse(json, 16, &header, &err), 0);
	CU_ASSERT_EQUAL_FATAL(header.count, 2);
	CU_ASSERT_EQUAL(header.data_offset_bytes, 8 + strlen(json));
	CU_ASSERT_STRING_EQUAL(header.tensors[0].name, "a");
	CU_ASSERT_STRING_EQUAL(header.tensors[0].type_name, "BF16");
	CU_ASSERT_EQUAL(header.tensors[0].type, DTYPE_BF16);
	CU_ASSERT_EQUAL(header.tensors[0].rank, 2);
	CU_ASSERT_EQUAL(header.tensors[0].shape[0], 2);
	CU_ASSERT_EQUAL(header.tensors[0].shape[1], 3);
	CU_ASSERT_EQUAL(header.tensors[0].offset_bytes, 8 + strlen(json));
	CU_ASSERT_EQUAL(header.tensors[0].size_bytes, 12);
	CU_ASSERT_EQUAL(header.tensors[1].rank, 0);
	CU_ASSERT_EQUAL(header.tensors[1].offset_bytes, 20 + strlen(json));
	safetensors_release(&header);
	CU_ASSERT_PTR_NULL(header.tensors);
}

static void test_parse__nothing_in_it(void)
{
	struct safetensors_header header;
	struct error err;

	CU_ASSERT_EQUAL(parse("{}", 0, &header, &err), 0);
	CU_ASSERT_EQUAL(header.count, 0);
	safetensors_release(&header);
	CU_ASSERT_EQUAL(parse("{\"__metadata__\":{}}", 0, &header, &err), 0);
	CU_ASSERT_EQUAL(header.count, 0);
	safetensors_release(&header);
	CU_ASSERT_EQUAL(parse("{}", 1, &header, &err), -EINVAL);
}

/* Tensors of no bytes may stand anywhere between the others. */
static void test_parse__empty_tensors(void)
{
	const char *json = "{\"z\":{\"dtype\":\"F32\",\"shape\":[0],"
			   "\"data_offsets\":[4,4]},"
			   "\"y\":{\"dtype\":\"F32\",\"shape\":[1],"
			   "\"data_offsets\":[0,4]},"
			   "\"x\":{\"dtype\":\"F32\",\"shape\":[1],"
			   "\"data_offsets\":[4,8]},"
			   "\"w\":{\"dtype\":\"F32\",\"shape\":[7,0,3],"
			   "\"data_offsets\":[4,4]},"
			   "\"v\":{\"dtype\":\"F32\",\"shape\":[0],"
			   "\"data_offsets\":[8,8]},"
			   "\"u\":{\"dtype\":\"F32\",\"shape\":[0],"
			   "\"data_offsets\":[0,0]}}";
	struct safetensors_header header;
	struct error err;
	char order[8] = "";

	CU_ASSERT_EQUAL(parse(json, 8, &header, &err), 0);
	CU_ASSERT_EQUAL_FATAL(header.count, 6);
	for (uint32_t i = 0; i < header.count; i++)
		order[i] = header.tensors[i].name[0];
	CU_ASSERT_STRING_EQUAL(order, "uywzxv");
	safetensors_release(&header);
}

/* Every type of the format, and how large eight of it are. */
static const struct {
	const char *name;
	enum dtype type;
	unsigned bytes; /* of 8 elements */
} types[] = {
	{"F32", DTYPE_F32, 32},
	{"BF16", DTYPE_BF16, 16},
	{"F16", DTYPE_F16, 16},
	{"F8_E4M3", DTYPE_F8_E4M3, 8},
	{"BOOL", DTYPE_COUNT, 8},
	{"U8", DTYPE_COUNT, 8},
	{"I8", DTYPE_COUNT, 8},
	{"U16", DTYPE_COUNT, 16},
	{"I16", DTYPE_COUNT, 16},
	{"U32", DTYPE_COUNT, 32},
	{"I32", DTYPE_COUNT, 32},
	{"U64", DTYPE_COUNT, 64},
	{"I64", DTYPE_COUNT, 64},
	{"F64", DTYPE_COUNT, 64},
	{"C64", DTYPE_COUNT, 64},
	{"F8_E5M2", DTYPE_COUNT, 8},
	{"F8_E8M0", DTYPE_COUNT, 8},
	{"F6_E2M3", DTYPE_COUNT, 6},
	{"F6_E3M2", DTYPE_COUNT, 6},
	{"F4", DTYPE_COUNT, 4},
};

static void test_parse__every_type(void)
{
	for (size_t i = 0; i < sizeof(types) / sizeof(types[0]); i++) {
		struct safetensors_header header;
		struct error err;
		char json[128];

		snprintf(json, sizeof(json),
			"{\"t\":{\"dtype\":\"%s\",\"shape\":[2,4],"
			"\"data_offsets\":[0,%u]}}",
			types[i].name, types[i].bytes);
		CU_ASSERT_EQUAL(parse(json, types[i].bytes, &header, &err), 0);
		CU_ASSERT_EQUAL_FATAL(header.count, 1);
		CU_ASSERT_EQUAL(header.tensors[0].type, types[i].type);
		CU_ASSERT_STRING_EQUAL(
			header.tensors[0].type_name, types[i].name);
		safetensors_release(&header);
	}
}

/* ---- what is wrong in the JSON ---- */

/* With one tensor "t" of 8 bytes of data; %s is put into its place. */
struct wrong {
	const char *json;
	const char *expect;
};

#define T(dtype, shape, offsets)                                               \
	"{\"t\":{\"dtype\":" dtype ",\"shape\":" shape                         \
	",\"data_offsets\":" offsets "}}"
#define NAMED(name)                                                            \
	"{\"" name "\":{\"dtype\":\"F32\",\"shape\":[2],"                      \
	"\"data_offsets\":[0,8]}}"
#define TWO(a, b)                                                              \
	"{\"a\":{\"dtype\":\"U8\",\"shape\":" a "},"                           \
	"\"b\":{\"dtype\":\"U8\",\"shape\":" b "}}"

static const struct wrong wrongs[] = {
	/* the text */
	{"", "does not begin with {"},
	{" {}", "does not begin with {"},
	{"[]", "does not begin with {"},
	{"{", "header: line 1 column 1"},
	{T("\"F32\"", "[2]", "[0,8]") "x", "end of file expected"},
	{T("\"F32\"", "[2]", "[0,8]") "{}", "end of file expected"},
	{"{\"t\":1,\"t\":2}", "duplicate object key"},
	{"{\"t\":{\"dtype\":\"F32\",\"dtype\":\"F32\"}}",
		"duplicate object key"},
	{NAMED("\\u0000"), "NUL byte in object key"},
	{NAMED("a\\u0000b"), "NUL byte in object key"},
	{NAMED("a\nb"), "unexpected newline"},
	{NAMED("a\tb"), "control character 0x9"},
	{NAMED("\xff"), "unable to decode byte 0xff"},
	{NAMED("\xc0\x80"), "unable to decode byte 0xc0"},
	/* names */
	{NAMED(""), "empty name"},
	{NAMED("a\\u001bb"), "tensor \"a?b\": byte 0x1b in its name"},
	{NAMED("a\\u007fb"), "byte 0x7f in its name"},
	{NAMED("a\\nb"), "byte 0x0a in its name"},
	{NAMED("\xc3\xa9"), "byte 0xc3 in its name"},
	/* fields */
	{"{\"t\":[]}", "tensor \"t\": is no object"},
	{"{\"t\":null}", "tensor \"t\": is no object"},
	{"{\"t\":{\"dtype\":\"F32\",\"shape\":[2]}}", "other fields than"},
	{"{\"t\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8],"
	 "\"x\":1}}",
		"other fields than"},
	{"{\"t\":{\"type\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]}}",
		"dtype is no string"},
	{"{\"t\":{\"dtype\":\"F32\",\"form\":[2],\"data_offsets\":[0,8]}}",
		"shape is no array"},
	{"{\"t\":{\"dtype\":\"F32\",\"shape\":[2],\"offsets\":[0,8]}}",
		"no two offsets"},
	/* types */
	{T("1", "[2]", "[0,8]"), "dtype is no string"},
	{T("\"F31\"", "[2]", "[0,8]"), "unknown dtype \"F31\""},
	{T("\"f32\"", "[2]", "[0,8]"), "unknown dtype \"f32\""},
	{T("\"\"", "[2]", "[0,8]"), "unknown dtype"},
	{T("\"F32AAAAAAAAAAAAAAAAAAAAAAAAAAAA\"", "[2]", "[0,8]"),
		"unknown dtype \"F32AAAAAAAAAAAAAAAAA\""},
	{T("\"F4\"", "[1]", "[0,8]"), "no whole bytes"},
	{T("\"F6_E2M3\"", "[3]", "[0,8]"), "no whole bytes"},
	/* shapes */
	{T("\"F32\"", "2", "[0,8]"), "shape is no array"},
	{T("\"F32\"", "[2.0]", "[0,8]"), "what is no size"},
	{T("\"F32\"", "[-2]", "[0,8]"), "what is no size"},
	{T("\"F32\"", "[\"2\"]", "[0,8]"), "what is no size"},
	{T("\"F32\"", "[[2]]", "[0,8]"), "what is no size"},
	{T("\"F32\"", "[9223372036854775808]", "[0,8]"), "too big integer"},
	{T("\"F32\"", "[9223372036854775807]", "[0,8]"), "overflows"},
	{T("\"F32\"", "[4294967296,4294967296]", "[0,8]"), "overflows"},
	{T("\"F32\"", "[4611686018427387904,4]", "[0,8]"), "overflows"},
	{T("\"U8\"", "[4294967296,4294967296,0]", "[0,0]"), "overflows"},
	{T("\"U8\"", "[1,1,1,1,1,1,1,1,8]", "[0,8]"), "rank 9, at most 8"},
	{T("\"F32\"", "[3]", "[0,8]"), "span 8 bytes, the shape needs 12"},
	{T("\"F32\"", "[1]", "[0,8]"), "span 8 bytes, the shape needs 4"},
	{T("\"F32\"", "[0]", "[0,8]"), "span 8 bytes, the shape needs 0"},
	/* offsets */
	{T("\"F32\"", "[2]", "[8,0]"), "data_offsets are reversed"},
	{T("\"F32\"", "[2]", "[0]"), "no two offsets"},
	{T("\"F32\"", "[2]", "[0,8,8]"), "no two offsets"},
	{T("\"F32\"", "[2]", "{}"), "no two offsets"},
	{T("\"F32\"", "[2]", "[0.0,8]"), "no two offsets"},
	{T("\"F32\"", "[2]", "[0,8.0]"), "no two offsets"},
	{T("\"F32\"", "[2]", "[-8,0]"), "no two offsets"},
	{T("\"F32\"", "[2]", "[0,8e0]"), "no two offsets"},
	{T("\"F32\"", "[2]", "[0,18446744073709551615]"), "too big integer"},
	{T("\"F32\"", "[2]", "[0,9223372036854775807]"),
		"end at 9223372036854775807, the file holds 8"},
	{T("\"F32\"", "[2]", "[1,9]"), "end at 9, the file holds 8"},
	{T("\"F32\"", "[1]", "[4,8]"), "begins at 4, leaves a gap"},
	{T("\"F32\"", "[1]", "[0,4]"), "4 bytes of data that no tensor"},
	{"{}", "8 bytes of data that no tensor"},
	{TWO("[4],\"data_offsets\":[0,4]", "[5],\"data_offsets\":[3,8]"),
		"tensor \"b\": begins at 3, overlaps the one that ends at 4"},
	{TWO("[4],\"data_offsets\":[0,4]", "[3],\"data_offsets\":[5,8]"),
		"tensor \"b\": begins at 5, leaves a gap"},
	{TWO("[8],\"data_offsets\":[0,8]", "[8],\"data_offsets\":[0,8]"),
		"tensor \"b\": begins at 0, overlaps"},
	{TWO("[8],\"data_offsets\":[0,8]", "[0],\"data_offsets\":[4,4]"),
		"tensor \"b\": begins at 4, overlaps"},
	{TWO("[4],\"data_offsets\":[0,4]", "[2],\"data_offsets\":[4,6]"),
		"2 bytes of data that no tensor covers"},
	/* metadata */
	{"{\"__metadata__\":[]}", "__metadata__ is no object"},
	{"{\"__metadata__\":null}", "__metadata__ is no object"},
	{"{\"__metadata__\":{\"a\":1}}", "__metadata__: \"a\" is no string"},
	{"{\"__metadata__\":{\"a\":{\"b\":\"c\"}}}", "\"a\" is no string"},
};

static void test_parse__refusals(void)
{
	for (size_t i = 0; i < sizeof(wrongs) / sizeof(wrongs[0]); i++) {
		struct safetensors_header header;
		struct error err;
		int rc = parse(wrongs[i].json, 8, &header, &err);

		if (rc != -EINVAL || !strstr(err.text, wrongs[i].expect))
			printf("\n    %zu: got %d \"%s\", expected \"%s\"\n", i,
				rc, err.text, wrongs[i].expect);
		CU_ASSERT_EQUAL(rc, -EINVAL);
		CU_ASSERT_PTR_NOT_NULL(strstr(err.text, wrongs[i].expect));
		CU_ASSERT_PTR_NULL(header.tensors);
	}
}

static void test_parse__nul_byte_in_the_text(void)
{
	static const char json[] = "{}\0 ";
	struct safetensors_header header;
	struct error err = {0};

	CU_ASSERT_EQUAL(
		safetensors_parse(json, sizeof(json) - 1, 0, &header, &err),
		-EINVAL);
}

static void check_name_length(size_t length, int expect)
{
	struct safetensors_header header;
	struct st_builder b;
	struct error err;
	char name[600];
	char *json;

	memset(name, 'n', length);
	name[length] = '\0';
	st_init(&b);
	st_add(&b, name, "F32", 0, NULL);
	st_layout(&b);
	json = st_header(&b);
	CU_ASSERT_EQUAL(parse(json, 4, &header, &err), expect);
	safetensors_release(&header);
	free(json);
	st_release(&b);
}

static void test_parse__longest_name(void)
{
	check_name_length(512, 0);
	check_name_length(513, -EINVAL);
}

/* All of these are refused before the parser allocates anything. */
static void test_parse__too_many_values(void)
{
	static const char many[] = {'{', '[', ',', ':'};
	size_t size = (size_t)32 * SAFETENSORS_TENSOR_COUNT_MAX;
	char *json = malloc(size);

	assert(json);
	json[0] = '{';
	for (size_t i = 0; i < sizeof(many); i++) {
		struct safetensors_header header;
		struct error err = {0};
		int rc;

		memset(json + 1, many[i], size - 1);
		fake_os_reset();
		rc = safetensors_parse(json, size, 0, &header, &err);
		CU_ASSERT_EQUAL(rc, -EINVAL);
		CU_ASSERT_PTR_NOT_NULL(strstr(err.text, "header: more than"));
		CU_ASSERT_EQUAL(fake_os_calls(FAKE_OS_ALLOCATE), 0);
	}
	free(json);
}

/* Values that are no tensors cost the least text. */
static void test_parse__too_many_tensors(void)
{
	char *json = malloc((size_t)16 * SAFETENSORS_TENSOR_COUNT_MAX);
	struct safetensors_header header;
	struct error err;
	char *at = json;

	assert(json);
	for (uint32_t i = 0; i < SAFETENSORS_TENSOR_COUNT_MAX + 2; i++)
		at += sprintf(at, "%c\"%u\":0", i > 0 ? ',' : '{', i);
	memcpy(at, "}", 2);
	CU_ASSERT_EQUAL(parse(json, 0, &header, &err), -EINVAL);
	CU_ASSERT_STRING_EQUAL(err.text, "262146 tensors, at most 262144");
	free(json);
}

static void test_parse__sizes_beyond_all_limits(void)
{
	struct safetensors_header header;
	struct error err = {0};

	CU_ASSERT_EQUAL(
		safetensors_parse("{}", 100000001, 0, &header, &err), -EINVAL);
	CU_ASSERT_PTR_NOT_NULL(strstr(err.text, "header of 100000001 bytes"));
	error_clear(&err);
	CU_ASSERT_EQUAL(
		safetensors_parse("{}", 2, UINT64_MAX, &header, &err), -EINVAL);
	CU_ASSERT_PTR_NOT_NULL(strstr(err.text, "more than 2^63"));
}

/* In a string they are text: escapes must not end it early. */
static void test_parse__structure_in_strings_is_text(void)
{
	size_t size = (size_t)20 * SAFETENSORS_TENSOR_COUNT_MAX;
	const char *begin = "{\"__metadata__\":{\"a\":\"\\\\\\\"";
	const char *end = "\\\"\"}}";
	char *json = malloc(size + 64);
	struct safetensors_header header;
	struct error err;

	assert(json);
	memcpy(json, begin, strlen(begin) + 1);
	memset(json + strlen(begin), ',', size);
	memcpy(json + strlen(begin) + size, end, strlen(end) + 1);
	CU_ASSERT_EQUAL(parse(json, 0, &header, &err), 0);
	safetensors_release(&header);
	free(json);
}

/* ---- files ---- */

static struct st_builder two_tensors(void)
{
	struct st_builder b;

	st_init(&b);
	st_add(&b, "a", "BF16", 2, (uint64_t[]){3, 5});
	st_add(&b, "b", "F32", 1, (uint64_t[]){7});
	b.metadata = "{\"format\":\"pt\"}";
	st_layout(&b);
	return b;
}

static void test_read__finds_the_data(void)
{
	struct st_builder b = two_tensors();
	float values[7] = {1, 2, 3, 4, 5, 6, 7}, got[7];
	struct safetensors_header header;
	struct error err = {0};
	int fd;

	b.tensors[1].data = values;
	fd = st_memfd(&b);
	CU_ASSERT_EQUAL(safetensors_read(fd, "x", &header, &err), 0);
	CU_ASSERT_EQUAL_FATAL(header.count, 2);
	CU_ASSERT_EQUAL(pread(fd, got, sizeof(got),
				(off_t)header.tensors[1].offset_bytes),
		sizeof(got));
	for (int i = 0; i < 7; i++)
		CU_ASSERT_EQUAL(got[i], values[i]);
	safetensors_release(&header);
	close(fd);
	st_release(&b);
}

struct wrong_file {
	uint64_t length_field; /* what the file says; 0 = `as_is` decides */
	size_t file_bytes; /* cut to this, 0 = whole */
	int more_bytes; /* than the whole */
	bool as_is; /* length_field is right */
	const char *expect;
};

static const struct wrong_file wrong_files[] = {
	{0, 0, 0, false, "header length 0, expected 1 to 100000000"},
	{100000001, 0, 0, false, "header length 100000001, expected"},
	{UINT64_MAX, 0, 0, false, "header length 18446744073709551615"},
	{100000000, 0, 0, false, "truncated: header of 100000000 bytes"},
	{5, 0, 0, false, "header: line 1"},
	{0, 7, 0, true, "truncated: 7 bytes"},
	{0, 8, 0, true, "in a file of 8"},
	{0, 20, 0, true, "in a file of 20"},
	{0, 0, -1, true, "end at 58, the file holds 57"},
	{0, 0, 1, true, "1 bytes of data that no tensor covers"},
};

static void test_read__refusals(void)
{
	struct st_builder b = two_tensors();
	char *json = st_header(&b);
	size_t length = strlen(json);

	for (size_t i = 0; i < sizeof(wrong_files) / sizeof(wrong_files[0]);
		i++) {
		const struct wrong_file *w = &wrong_files[i];
		struct safetensors_header header;
		struct error err = {0};
		int fd = st_memfd_raw(&b, json, length,
			w->as_is ? length : w->length_field, st_data_bytes(&b));

		off_t size = (off_t)(8 + length + st_data_bytes(&b));

		if (w->file_bytes > 0)
			size = (off_t)w->file_bytes;
		CU_ASSERT_EQUAL(ftruncate(fd, size + w->more_bytes), 0);
		CU_ASSERT_EQUAL(
			safetensors_read(fd, "w.st", &header, &err), -EINVAL);
		if (!strstr(err.text, w->expect))
			printf("\n    %zu: %s\n", i, err.text);
		CU_ASSERT_PTR_NOT_NULL(strstr(err.text, w->expect));
		CU_ASSERT_EQUAL(strncmp(err.text, "w.st: ", 6), 0);
		close(fd);
	}
	free(json);
	st_release(&b);
}

static void test_read__interrupted(void)
{
	struct st_builder b = two_tensors();
	struct safetensors_header header;
	struct error err = {0};
	int fd = st_memfd(&b);

	fake_os_reset();
	fake_os_fail(FAKE_OS_READ, 2, EINTR);
	CU_ASSERT_EQUAL(safetensors_read(fd, "x", &header, &err), 0);
	CU_ASSERT(fake_os_has_failed());
	fake_os_disarm();
	CU_ASSERT_EQUAL(header.count, 2);
	safetensors_release(&header);
	close(fd);
	st_release(&b);
}

static void test_read__not_readable(void)
{
	struct safetensors_header header;
	struct error err = {0};

	CU_ASSERT_EQUAL(safetensors_read(-1, "w.st", &header, &err), -EIO);
	CU_ASSERT_PTR_NOT_NULL(strstr(err.text, "w.st: cannot be measured"));
}

/* What a call returns after the armed fault, or without one. */
static int expected_rc(void)
{
	if (!fake_os_has_failed())
		return 0;
	return fake_os_failed_call() == FAKE_OS_ALLOCATE ? -ENOMEM : -EIO;
}

/* Each call fails in turn: an error, and nothing is left behind. */
static void test_read__nth_call_fails(void)
{
	struct st_builder b = two_tensors();
	int fd = st_memfd(&b), rc;
	uint64_t n = 0;

	do {
		struct safetensors_header header;
		struct error err = {0};

		fake_os_reset();
		fake_os_fail(FAKE_OS_ANY, ++n, EIO);
		rc = safetensors_read(fd, "w.st", &header, &err);
		CU_ASSERT_EQUAL(rc, expected_rc());
		CU_ASSERT_EQUAL(err.code, rc);
		if (rc == 0)
			safetensors_release(&header);
		CU_ASSERT(fake_os_check_empty());
	} while (fake_os_has_failed() && n < 100000);
	fake_os_disarm();
	CU_ASSERT(n > 20);
	close(fd);
	st_release(&b);
}

static const struct suite_case cases[] = {
	SUITE_CASE(parse__in_order_of_offset),
	SUITE_CASE(parse__nothing_in_it),
	SUITE_CASE(parse__empty_tensors),
	SUITE_CASE(parse__every_type),
	SUITE_CASE(parse__refusals),
	SUITE_CASE(parse__nul_byte_in_the_text),
	SUITE_CASE(parse__longest_name),
	SUITE_CASE(parse__too_many_values),
	SUITE_CASE(parse__too_many_tensors),
	SUITE_CASE(parse__sizes_beyond_all_limits),
	SUITE_CASE(parse__structure_in_strings_is_text),
	SUITE_CASE(read__finds_the_data),
	SUITE_CASE(read__refusals),
	SUITE_CASE(read__interrupted),
	SUITE_CASE(read__not_readable),
	SUITE_CASE(read__nth_call_fails),
};

int main(void)
{
	return SUITE_MAIN("safetensors", cases);
}
