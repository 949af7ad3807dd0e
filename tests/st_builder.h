/* st_builder.h - safetensors files for tests (tensors -> memfd) */
/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Why:   tests need small weight files, right ones and wrong ones, without a
 *        Python package.
 * Use:   struct st_builder b;
 *        st_init(&b);
 *        st_add(&b, "w", "BF16", 2, (uint64_t[]){ 2, 3 })->data = values;
 *        st_layout(&b);
 *        fd = st_memfd(&b);
 *        st_release(&b);
 *        Between st_layout() and st_memfd() every field of a tensor may be
 *        made wrong; what is written is what the fields say.
 * Ownership: the builder owns its tensors, and borrows data until the file
 *        has been made. Pointers to tensors live until the next st_add().
 * Errors: none are returned; a test that cannot make its input aborts.
 */
#ifndef HEDDLE_TESTS_ST_BUILDER_H
#define HEDDLE_TESTS_ST_BUILDER_H

#include <stddef.h>
#include <stdint.h>

#define ST_RANK_MAX 10

struct st_tensor {
	char name[640];
	char type[16]; /* as the format writes it: "BF16", "F8_E4M3" */
	uint32_t rank;
	uint64_t shape[ST_RANK_MAX];
	uint64_t begin, end; /* in the data section; set by st_layout() */
	const void *data; /* end - begin bytes, NULL = zeros */
};

struct st_builder {
	struct st_tensor *tensors;
	size_t count, capacity;
	const char *metadata; /* JSON text of __metadata__, NULL = none */
};

void st_init(struct st_builder *b);
void st_release(struct st_builder *b);

/* shape may be NULL when rank is 0. */
struct st_tensor *st_add(struct st_builder *b, const char *name,
	const char *type, uint32_t rank, const uint64_t *shape);

/* The tensor of that name, NULL = none. */
struct st_tensor *st_find(struct st_builder *b, const char *name);

/* Take a tensor out; its bytes are those of st_layout() or later. */
void st_remove(struct st_builder *b, struct st_tensor *tensor);

/* One after the other, in the order of st_add(). */
void st_layout(struct st_builder *b);

/* Bytes of the data section, after st_layout(). */
uint64_t st_data_bytes(const struct st_builder *b);

/* The JSON text, NUL-terminated, to be freed by the caller. */
char *st_header(const struct st_builder *b);

/*
 * A file in memory: header length, header, data of the tensors, up to
 * `data_bytes` in all. length_field is what the file says of its header.
 */
int st_memfd_raw(const struct st_builder *b, const char *header,
	size_t header_length, uint64_t length_field, uint64_t data_bytes);

/* The same with everything right. */
int st_memfd(const struct st_builder *b);

/* A file in memory with this content. */
int st_memfd_bytes(const void *bytes, size_t size);

uint64_t st_fd_size(int fd);

#endif
