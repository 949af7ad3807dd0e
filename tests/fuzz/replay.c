/* replay.c - run a fuzz target over corpus folders (files -> exit status) */
/* SPDX-License-Identifier: Apache-2.0 */
/* usage: replay_NAME FOLDER...   0 = every file was run, 1 = none or error */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tests/fuzz/fuzz.h"

/* A buffer of exactly the size, so that a sanitizer sees the end. */
static int run_file(const char *path)
{
	struct stat st;
	int fd = open(path, O_RDONLY | O_CLOEXEC), rc = -1;
	uint8_t *data = NULL;

	if (fd < 0 || fstat(fd, &st))
		goto out;
	data = malloc((size_t)st.st_size + (st.st_size == 0));
	if (!data || read(fd, data, (size_t)st.st_size) != st.st_size)
		goto out;
	LLVMFuzzerTestOneInput(data, (size_t)st.st_size);
	rc = 0;
out:
	if (rc)
		fprintf(stderr, "%s: %s\n", path, strerror(errno));
	free(data);
	if (fd >= 0)
		close(fd);
	return rc;
}

/* The number of files that were run, or -1. */
static int run_folder(const char *folder)
{
	DIR *list = opendir(folder);
	const struct dirent *entry;
	char path[4096];
	int count = 0;

	if (!list) {
		fprintf(stderr, "%s: %s\n", folder, strerror(errno));
		return -1;
	}
	while (count >= 0 && (entry = readdir(list))) {
		if (entry->d_name[0] == '.')
			continue;
		snprintf(path, sizeof(path), "%s/%s", folder, entry->d_name);
		count = run_file(path) ? -1 : count + 1;
	}
	closedir(list);
	return count;
}

int main(int argc, char **argv)
{
	for (int i = 1; i < argc; i++) {
		int count = run_folder(argv[i]);

		if (count <= 0)
			return 1;
		printf("%s: %d inputs\n", argv[i], count);
	}
	return argc < 2;
}
