/* manifest.c - what an adapter's files are, in signed words (text -> list) */
/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/json_text.h"
#include "control/manifest.h"

#define FORM "heddle-manifest"
#define FORM_VERSION 1

static const struct json_bounds bounds = {
	.object_max = MANIFEST_FILE_COUNT_MAX + 1,
	.array_max = 1,
	.separator_max = (size_t)6 * MANIFEST_FILE_COUNT_MAX + 16,
};

/* --- hexadecimal digits ------------------------------------------------------------- */

void manifest_hex(const uint8_t *bytes, size_t count, char *out)
{
	static const char digits[] = "0123456789abcdef";

	for (size_t i = 0; i < count; i++) {
		out[2 * i] = digits[bytes[i] >> 4];
		out[2 * i + 1] = digits[bytes[i] & 15];
	}
	out[2 * count] = '\0';
}

/* One way to write it: lower case. */
static int digit_value(char digit)
{
	if (digit >= '0' && digit <= '9')
		return digit - '0';
	return digit >= 'a' && digit <= 'f' ? digit - 'a' + 10 : -1;
}

static bool parse_hex(const char *text, uint8_t *out, size_t count)
{
	if (strlen(text) != 2 * count)
		return false;
	for (size_t i = 0; i < count; i++) {
		int high = digit_value(text[2 * i]);
		int low = digit_value(text[2 * i + 1]);

		if (high < 0 || low < 0)
			return false;
		out[i] = (uint8_t)(high << 4 | low);
	}
	return true;
}

/* --- files ---------------------------------------------------------------------------- */

static int check_file_name(const char *name, struct error *err)
{
	const char *why = NULL;

	if (name[0] == '\0' ||
		strlen(name) >= sizeof(((struct manifest_file *)0)->name))
		why = "has to have 1 to 255 bytes";
	else if (strchr(name, '/'))
		why = "holds a slash: a file is in the directory itself";
	else if (strcmp(name, ".") == 0 || strcmp(name, "..") == 0)
		why = "is a directory";
	else if (strcmp(name, MANIFEST_NAME) == 0 ||
		 strcmp(name, MANIFEST_SIGNATURE_NAME) == 0)
		why = "cannot be in itself";
	return why ? error_set(err, EINVAL, "file name \"%.64s\" %s", name, why)
		   : 0;
}

/* Where it is, or would be. */
static uint32_t place_of(const struct manifest *manifest, const char *name)
{
	uint32_t low = 0, high = manifest->count;

	while (low < high) {
		uint32_t middle = low + (high - low) / 2;

		if (strcmp(manifest->files[middle].name, name) < 0)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

const struct manifest_file *manifest_find(
	const struct manifest *manifest, const char *name)
{
	uint32_t at = place_of(manifest, name);

	return at < manifest->count &&
			       strcmp(manifest->files[at].name, name) == 0
		       ? &manifest->files[at]
		       : NULL;
}

/* Room for one more. */
static int grow(struct manifest *manifest, struct error *err)
{
	struct manifest_file *grown;

	if (manifest->count == MANIFEST_FILE_COUNT_MAX)
		return error_set(err, EINVAL, "lists more than %u files",
			MANIFEST_FILE_COUNT_MAX);
	/* In powers of two. */
	if (manifest->count & (manifest->count - 1))
		return 0;
	grown = reallocarray(manifest->files,
		manifest->count ? (size_t)2 * manifest->count : 1,
		sizeof(*grown));
	if (!grown)
		return error_set(err, ENOMEM, "no memory for a list of files");
	manifest->files = grown;
	return 0;
}

int manifest_add(struct manifest *manifest, const struct manifest_file *file,
	struct error *err)
{
	uint32_t at;
	int rc = check_file_name(file->name, err);

	if (rc)
		return rc;
	if (manifest_find(manifest, file->name))
		return error_set(err, EINVAL, "file \"%.64s\" is there twice",
			file->name);
	rc = grow(manifest, err);
	if (rc)
		return rc;
	at = place_of(manifest, file->name);
	memmove(&manifest->files[at + 1], &manifest->files[at],
		(manifest->count - at) * sizeof(*file));
	manifest->files[at] = *file;
	manifest->count++;
	return 0;
}

void manifest_release(struct manifest *manifest)
{
	free(manifest->files);
	*manifest = (struct manifest){0};
}

/* --- text -> list ------------------------------------------------------------------------ */

/* Nothing but these keys, ended by NULL. */
static int check_keys(
	json_t *object, const char *const *known, struct error *err)
{
	const char *key;
	json_t *value;

	json_object_foreach(object, key, value)
	{
		uint32_t i = 0;

		while (known[i] && strcmp(known[i], key) != 0)
			i++;
		if (!known[i])
			return error_set(
				err, EINVAL, "\"%.64s\" is not known", key);
	}
	return 0;
}

static int take_file(
	json_t *object, struct manifest_file *out, struct error *err)
{
	static const char *const known[] = {"name", "size", "sha256", NULL};
	const char *name = json_string_value(json_object_get(object, "name"));
	const char *hash = json_string_value(json_object_get(object, "sha256"));
	const json_t *size = json_object_get(object, "size");
	int rc;

	if (!json_is_object(object))
		return error_set(err, EINVAL, "is no object");
	rc = check_keys(object, known, err);
	if (rc)
		return rc;
	if (!name)
		return error_set(err, EINVAL, "has no \"name\"");
	rc = check_file_name(name, err);
	if (rc)
		return rc;
	if (!json_is_integer(size) || json_integer_value(size) < 0)
		return error_set(err, EINVAL,
			"\"%.64s\" has no \"size\" of 0 bytes or more", name);
	if (!hash || !parse_hex(hash, out->hash, sizeof(out->hash)))
		return error_set(err, EINVAL,
			"\"%.64s\" has no \"sha256\" of 64 digits, 0 to f",
			name);
	memcpy(out->name, name, strlen(name) + 1);
	out->size_bytes = (uint64_t)json_integer_value(size);
	return 0;
}

static int take_files(
	const json_t *array, struct manifest *out, struct error *err)
{
	if (!json_is_array(array) || json_array_size(array) == 0)
		return error_set(err, EINVAL, "has no list of \"files\"");
	for (size_t i = 0; i < json_array_size(array); i++) {
		struct manifest_file file = {0};
		int rc = take_file(json_array_get(array, i), &file, err);

		if (rc == 0)
			rc = manifest_add(out, &file, err);
		if (rc)
			return error_prefix(err, "files[%zu]", i);
	}
	return 0;
}

static int take_name(
	const json_t *value, struct manifest *out, struct error *err)
{
	const char *name = json_string_value(value);

	if (!value)
		return 0;
	if (!name || !adapter_name_ok(name, strlen(name)))
		return error_set(
			err, EINVAL, "\"name\" is no name of an adapter");
	memcpy(out->name, name, strlen(name) + 1);
	return 0;
}

static int take_key(
	const json_t *value, struct manifest *out, struct error *err)
{
	const char *key = json_string_value(value);

	out->has_key = value != NULL;
	if (!value || (key && parse_hex(key, out->key, sizeof(out->key))))
		return 0;
	return error_set(err, EINVAL, "\"key\" is not of 64 digits, 0 to f");
}

static int take_all(json_t *root, struct manifest *out, struct error *err)
{
	static const char *const known[] = {FORM, "name", "key", "files", NULL};
	const json_t *form = json_object_get(root, FORM);
	int rc;

	if (!json_is_integer(form) || json_integer_value(form) != FORM_VERSION)
		return error_set(
			err, EINVAL, "\"" FORM "\" is not %d", FORM_VERSION);
	rc = check_keys(root, known, err);
	if (rc == 0)
		rc = take_name(json_object_get(root, "name"), out, err);
	if (rc == 0)
		rc = take_key(json_object_get(root, "key"), out, err);
	if (rc == 0)
		rc = take_files(json_object_get(root, "files"), out, err);
	return rc;
}

int manifest_parse(const char *text, size_t length, struct manifest *out,
	struct error *err)
{
	json_t *root;
	int rc;

	*out = (struct manifest){0};
	if (length > MANIFEST_BYTES_MAX)
		return error_set(err, EINVAL, "%zu bytes, at most %llu", length,
			(unsigned long long)MANIFEST_BYTES_MAX);
	rc = json_text_parse(text, length, &bounds, &root, err);
	if (rc)
		return rc;
	rc = take_all(root, out, err);
	json_decref(root);
	if (rc)
		manifest_release(out);
	return rc;
}

/* --- list -> text -------------------------------------------------------------------------- */

static json_t *file_json(const struct manifest_file *file)
{
	char hash[2 * FILE_HASH_BYTES + 1];

	manifest_hex(file->hash, sizeof(file->hash), hash);
	return json_pack("{s:s, s:I, s:s}", "name", file->name, "size",
		(json_int_t)file->size_bytes, "sha256", hash);
}

static json_t *to_json(const struct manifest *manifest)
{
	json_t *files = json_array();
	json_t *root =
		json_pack("{s:i, s:o}", FORM, FORM_VERSION, "files", files);
	char key[2 * MANIFEST_KEY_BYTES + 1];
	int bad = root == NULL;

	if (!bad && manifest->name[0])
		bad = json_object_set_new(
			root, "name", json_string(manifest->name));
	manifest_hex(manifest->key, sizeof(manifest->key), key);
	if (!bad && manifest->has_key)
		bad = json_object_set_new(root, "key", json_string(key));
	for (uint32_t i = 0; !bad && i < manifest->count; i++)
		bad = json_array_append_new(
			files, file_json(&manifest->files[i]));
	if (!bad)
		return root;
	json_decref(root);
	return NULL;
}

int manifest_format(const struct manifest *manifest, char **out,
	size_t *out_length, struct error *err)
{
	int rc = -ENOMEM;
	size_t length;
	json_t *root;

	for (uint32_t i = 0; i < manifest->count; i++) {
		json_t *name = json_string(manifest->files[i].name);

		json_decref(name);
		if (!name)
			return error_set(err, EINVAL,
				"file name \"%.64s\" is no UTF-8",
				manifest->files[i].name);
	}
	root = to_json(manifest);
	/* json_dumps() drops what its buffer has no memory for. */
	length = root ? json_dumpb(root, NULL, 0, JSON_INDENT(1)) : 0;
	*out = length > 0 ? malloc(length) : NULL;
	if (*out && json_dumpb(root, *out, length, JSON_INDENT(1)) == length)
		rc = 0;
	json_decref(root);
	*out_length = length;
	if (rc == 0)
		return 0;
	free(*out);
	*out = NULL;
	return error_set(err, ENOMEM, "no memory for a manifest");
}
