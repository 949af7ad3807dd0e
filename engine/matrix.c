/* matrix.c - put the bytes of a matrix where they stay (file order -> layout) */
/* SPDX-License-Identifier: Apache-2.0 */
#include <assert.h>
#include <string.h>

#include "engine/matrix.h"

/*
 * Some bytes of element `at`, from byte `byte` of it on: a read ends anywhere
 * where a file does not align its data.
 */
static void put_bytes(const struct panels *panels, uint8_t *matrix, uint64_t at,
	size_t byte, const uint8_t *data, size_t length)
{
	size_t index = panels_index(panels, (uint32_t)(at / panels->cols),
		(uint32_t)(at % panels->cols));

	memcpy(matrix + index * dtype_size(panels->type) + byte, data, length);
}

int matrix_put(const struct matrix_place *place, uint64_t offset,
	const uint8_t *data, size_t length)
{
	const struct panels *panels = &place->panels;
	struct vmm *vmm = place->vmm;
	size_t size = dtype_size(panels->type);
	size_t head = (size - offset % size) % size, whole;
	uint8_t *matrix;

	if (panels->layout == WEIGHT_ROWS)
		return vmm->ops->copy_in(vmm, place->to + offset, data, length);
	matrix = vmm->ops->host_pointer(vmm, place->to);
	assert(matrix);
	if (head > length)
		head = length;
	if (head)
		put_bytes(panels, matrix, offset / size, offset % size, data,
			head);
	offset += head;
	data += head;
	whole = (length - head) / size;
	if (whole)
		panels_put(panels, matrix, offset / size, whole, data);
	if (length - head > whole * size)
		put_bytes(panels, matrix, offset / size + whole, 0,
			data + whole * size, length - head - whole * size);
	return 0;
}
