/* matrix.h - put the bytes of a matrix where they stay (file order -> layout) */
/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Why:   the base's tensors and an adapter's experts are written by the same
 *        code, so the same values have the same bytes in memory.
 * Pieces: bytes come as a file delivers them, in pieces of any length that may
 *        begin and end inside an element; each piece writes the places of its
 *        own bytes and no others, so pieces may come in any order.
 * Ownership: everything is borrowed for the call.
 * Threads: any number at once, each with its own bytes.
 */
#ifndef HEDDLE_ENGINE_MATRIX_H
#define HEDDLE_ENGINE_MATRIX_H

#include <stdint.h>

#include "gpu/cpu/panels.h"
#include "memmgr/vmm.h"

struct matrix_place {
	struct vmm *vmm; /* not WEIGHT_ROWS: the host's */
	vmm_addr to;
	struct panels panels;
};

/*
 * Bytes [offset, offset + length) of the matrix, counted in row-major order,
 * to their places; 0 or the error of copy_in.
 */
int matrix_put(const struct matrix_place *place, uint64_t offset,
	const uint8_t *data, size_t length);

#endif
