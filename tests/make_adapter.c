/* make_adapter.c - a random ESFT adapter for a model (directory -> directory) */
/* SPDX-License-Identifier: Apache-2.0 */
/* usage: make_adapter MODEL SEED f32|bf16|f16 OUT */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "control/model_dir.h"
#include "tests/adapter_case.h"

static int copy_file(const char *directory, const struct model_file *from)
{
	uint8_t *bytes = malloc(from->size_bytes + 1);
	char path[512];
	FILE *out;
	int rc = 1;

	snprintf(path, sizeof(path), "%s/%s", directory, from->name);
	out = fopen(path, "wxe");
	if (out && bytes &&
		model_file_read(from, 0, from->size_bytes, bytes, NULL) == 0)
		rc = fwrite(bytes, 1, from->size_bytes, out) !=
		     from->size_bytes;
	free(bytes);
	return !out || fclose(out) || rc;
}

static int write_adapter(const struct model_config *config, char **argv)
{
	struct adapter_case_options options = {
		.seed = strtoull(argv[2], NULL, 10),
		.type = strcmp(argv[3], "f32") == 0   ? DTYPE_F32
			: strcmp(argv[3], "f16") == 0 ? DTYPE_F16
						      : DTYPE_BF16,
	};
	struct adapter_files files;
	struct adapter_case a;
	int rc;

	options.file_count = 1 + (uint32_t)(options.seed % 3);
	options.with_model_prefix = options.seed % 2 > 0;
	adapter_case_make(&a, config, &options);
	adapter_case_open(&a, &files);
	rc = mkdir(argv[4], 0755) || copy_file(argv[4], &files.experts);
	for (uint32_t i = 0; rc == 0 && i < files.model.weight_count; i++)
		rc = copy_file(argv[4], &files.model.weights[i]);
	adapter_files_close(&files);
	adapter_case_release(&a);
	return rc;
}

int main(int argc, char **argv)
{
	struct generation_config generation;
	static struct model_config config;
	struct model_files files;
	struct error err = {0};
	int rc;

	if (argc != 5)
		return 2;
	if (model_dir_open_config(argv[1], &files, &err) ||
		model_read_config(&files, &config, &generation, &err)) {
		fprintf(stderr, "make_adapter: %s\n", err.text);
		return 1;
	}
	model_files_close(&files);
	rc = write_adapter(&config, argv);
	if (rc)
		perror("make_adapter");
	return rc;
}
