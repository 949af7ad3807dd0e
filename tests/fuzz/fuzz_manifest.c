/* fuzz_manifest.c - any bytes as heddle-manifest.json (text -> list) */
/* SPDX-License-Identifier: Apache-2.0 */
#include <stdlib.h>
#include <string.h>

#include "control/manifest.h"
#include "tests/fuzz/fuzz.h"

static void require(bool holds)
{
	if (!holds)
		abort();
}

/* What whoever opens these files relies on. */
static void check(const struct manifest *manifest)
{
	require(manifest->count > 0 &&
		manifest->count <= MANIFEST_FILE_COUNT_MAX);
	for (uint32_t i = 0; i < manifest->count; i++) {
		const struct manifest_file *file = &manifest->files[i];

		require(memchr(file->name, '\0', sizeof(file->name)) != NULL);
		require(file->name[0] && !strchr(file->name, '/'));
		require(strcmp(file->name, ".") != 0 &&
			strcmp(file->name, "..") != 0);
		require(i == 0 ||
			strcmp(manifest->files[i - 1].name, file->name) < 0);
		require(manifest_find(manifest, file->name) == file);
		require(file->size_bytes <= (uint64_t)INT64_MAX);
	}
	require(manifest->name[0] == '\0' ||
		adapter_name_ok(manifest->name, strlen(manifest->name)));
}

/* Written and read again it is the same. */
static void check_again(const struct manifest *manifest)
{
	struct manifest again;
	struct error err = {0};
	size_t length;
	char *text;

	require(manifest_format(manifest, &text, &length, &err) == 0);
	require(manifest_parse(text, length, &again, &err) == 0);
	free(text);
	require(again.count == manifest->count &&
		strcmp(again.name, manifest->name) == 0 &&
		again.has_key == manifest->has_key &&
		memcmp(again.key, manifest->key, sizeof(again.key)) == 0);
	for (uint32_t i = 0; i < again.count; i++) {
		const struct manifest_file *a = &again.files[i];
		const struct manifest_file *b = &manifest->files[i];

		require(strcmp(a->name, b->name) == 0 &&
			a->size_bytes == b->size_bytes &&
			memcmp(a->hash, b->hash, sizeof(a->hash)) == 0);
	}
	manifest_release(&again);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct manifest manifest;
	struct error err = {0};
	/* On the heap, so that a read past the end is seen. */
	char *text = malloc(size + (size == 0));

	require(text != NULL);
	memcpy(text, data, size);
	if (manifest_parse(text, size, &manifest, &err) == 0) {
		require(!error_is_set(&err));
		check(&manifest);
		check_again(&manifest);
		manifest_release(&manifest);
	} else {
		require(error_is_set(&err) && err.text[0]);
		require(manifest.count == 0 && !manifest.files);
	}
	free(text);
	return 0;
}
