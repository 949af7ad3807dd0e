/* fuzz_safetensors.c - any bytes as a weight file (file -> checked header) */
/* SPDX-License-Identifier: Apache-2.0 */
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "engine/safetensors.h"
#include "tests/fuzz/fuzz.h"
#include "tests/st_builder.h"

static void require(bool holds)
{
	if (!holds)
		abort();
}

/* What the header promises of every file that it accepts. */
static void check(const struct safetensors_header *header, uint64_t size)
{
	uint64_t end = header->data_offset_bytes;

	for (uint32_t i = 0; i < header->count; i++) {
		const struct safetensors_tensor *t = &header->tensors[i];
		size_t length = strlen(t->name);
		uint64_t elements = 1;

		require(length > 0 && length <= SAFETENSORS_NAME_BYTES_MAX);
		require(t->offset_bytes == end);
		require(t->rank <= SAFETENSORS_RANK_MAX);
		for (uint32_t r = 0; r < t->rank; r++)
			require(!__builtin_mul_overflow(
				elements, t->shape[r], &elements));
		if (t->type != DTYPE_COUNT)
			require(t->size_bytes ==
				elements * dtype_size(t->type));
		end += t->size_bytes;
	}
	require(end == size);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct safetensors_header header = {0};
	struct error err = {0};
	int fd = st_memfd_bytes(data, size);

	if (safetensors_read(fd, "input", &header, &err) == 0) {
		check(&header, size);
		require(!error_is_set(&err));
		safetensors_release(&header);
	} else {
		require(error_is_set(&err) && err.text[0]);
	}
	close(fd);
	return 0;
}
