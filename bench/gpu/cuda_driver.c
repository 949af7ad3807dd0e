/* cuda_driver.c - NVIDIA's driver library as a table of functions */
/* SPDX-License-Identifier: Apache-2.0 */
#include "cuda_driver.h"

#include <dlfcn.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

/* Two steps, so that cuda.h's own macros name the versioned symbol. */
#define TEXT(name) #name
#define SYMBOL(name) TEXT(name)

#define ROW(member, function)                                                  \
	{SYMBOL(function), offsetof(struct cuda_driver, member)},
static const struct {
	const char *symbol;
	size_t offset;
} rows[] = {CUDA_DRIVER_CALLS(ROW)};
#undef ROW

static void *open_first(const char *const *paths)
{
	for (; *paths != NULL; paths++) {
		void *library = dlopen(*paths, RTLD_NOW | RTLD_LOCAL);

		if (library != NULL)
			return library;
	}
	return NULL;
}

int cuda_driver_open(
	struct cuda_driver *driver, char *message, size_t message_size)
{
	const char *const *paths = cuda_driver_paths();
	void *library = open_first(paths);

	memset(driver, 0, sizeof(*driver));
	if (library == NULL) {
		snprintf(message, message_size,
			"the CUDA driver library %s cannot be opened",
			paths[0]);
		return -ENOENT;
	}
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		void *symbol = dlsym(library, rows[i].symbol);

		if (symbol == NULL) {
			snprintf(message, message_size,
				"the CUDA driver has no %s", rows[i].symbol);
			dlclose(library);
			return -ENOSYS;
		}
		memcpy((char *)driver + rows[i].offset, &symbol,
			sizeof(symbol));
	}
	return 0;
}
