/* test_role_adapter.c - a rank's mail over its channel, and answers back */
/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include "control/role.h"
#include "tests/suite.h"

static void open_pair(int pair[2])
{
	CU_ASSERT_EQUAL_FATAL(
		socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair), 0);
}

static struct model_file file_of(const char *name, const char *text)
{
	struct model_file file = {.size_bytes = strlen(text)};

	snprintf(file.name, sizeof(file.name), "%s", name);
	file.fd = memfd_create(name, MFD_CLOEXEC);
	CU_ASSERT_EQUAL_FATAL(
		write(file.fd, text, strlen(text)), (ssize_t)strlen(text));
	return file;
}

static struct adapter_files files_of(uint32_t weight_count, bool config)
{
	struct adapter_files files;
	char name[32];

	adapter_files_init(&files);
	files.experts = file_of("expert_cfg.json", "{}");
	if (config)
		files.model.config = file_of("config.json", "{ }");
	files.model.weights =
		suite_calloc(weight_count, sizeof(*files.model.weights));
	for (; files.model.weight_count < weight_count;
		files.model.weight_count++) {
		snprintf(name, sizeof(name), "m%u.safetensors",
			files.model.weight_count);
		files.model.weights[files.model.weight_count] =
			file_of(name, name);
	}
	return files;
}

static struct engine_command command_of(struct adapter_files files)
{
	return (struct engine_command){.kind = ENGINE_ADAPTER_LOAD,
		.instance = 7,
		.serial = 9,
		.entry = 11,
		.weight = 13,
		.name = "tuned",
		.files = files};
}

static void check_files(uint32_t weight_count, bool config)
{
	struct engine_command sent = command_of(files_of(weight_count, config));
	struct engine_command got;
	struct role_message message;
	struct role_fds fds;
	int pair[2];

	open_pair(pair);
	/* Some are signed, and each has a hash of its own. */
	sent.files.experts.has_hash = config;
	memset(sent.files.experts.hash, 5, FILE_HASH_BYTES);
	for (uint32_t i = 0; i < weight_count; i++) {
		sent.files.model.weights[i].has_hash = i % 2 == 0;
		memset(sent.files.model.weights[i].hash, (int)i + 6,
			FILE_HASH_BYTES);
	}
	CU_ASSERT_EQUAL(role_adapter_send(pair[0], &sent), 0);
	CU_ASSERT_EQUAL_FATAL(role_receive(pair[1], &message, &fds), 1);
	CU_ASSERT_EQUAL(message.kind, ROLE_ADAPTER);
	CU_ASSERT_EQUAL_FATAL(role_adapter_take(&fds, &got), 0);
	CU_ASSERT_EQUAL(got.instance, 7);
	CU_ASSERT_EQUAL(got.serial, 9);
	CU_ASSERT_EQUAL(got.entry, 11);
	CU_ASSERT_EQUAL(got.weight, 13);
	CU_ASSERT_STRING_EQUAL(got.name, "tuned");
	CU_ASSERT_EQUAL(got.files.model.weight_count, weight_count);
	CU_ASSERT_EQUAL(got.files.model.config.fd >= 0, config);
	CU_ASSERT_EQUAL(got.files.experts.has_hash, config);
	CU_ASSERT_EQUAL(memcmp(got.files.experts.hash, sent.files.experts.hash,
				FILE_HASH_BYTES),
		0);
	for (uint32_t i = 0; i < weight_count; i++) {
		const struct model_file *file = &got.files.model.weights[i];
		char text[32] = "";

		CU_ASSERT_EQUAL(file->has_hash, i % 2 == 0);
		CU_ASSERT_EQUAL(file->hash[0], (uint8_t)(i + 6));
		CU_ASSERT_EQUAL(file->size_bytes,
			sent.files.model.weights[i].size_bytes);
		CU_ASSERT_TRUE(pread(file->fd, text, sizeof(text) - 1, 0) > 0);
		CU_ASSERT_STRING_EQUAL(text, file->name);
	}
	adapter_files_close(&got.files);
	adapter_files_close(&sent.files);
	close(pair[0]);
	close(pair[1]);
}

static void test_role_adapter__a_load_with_its_files(void)
{
	uint32_t before = suite_count_descriptors();

	check_files(1, false);
	check_files(2, true);
	check_files(ROLE_ADAPTER_FILE_COUNT_MAX - 1, false);
	check_files(ROLE_ADAPTER_FILE_COUNT_MAX - 2, true);
	CU_ASSERT_EQUAL(suite_count_descriptors(), before);
}

static void test_role_adapter__a_drop_has_none(void)
{
	struct engine_command sent = {.kind = ENGINE_ADAPTER_DROP,
		.instance = 1,
		.serial = 2,
		.now = true};
	struct engine_command got;
	struct role_message message;
	struct role_fds fds;
	int pair[2];

	adapter_files_init(&sent.files);
	open_pair(pair);
	CU_ASSERT_EQUAL(role_adapter_send(pair[0], &sent), 0);
	CU_ASSERT_EQUAL_FATAL(role_receive(pair[1], &message, &fds), 1);
	CU_ASSERT_EQUAL(role_adapter_take(&fds, &got), 0);
	CU_ASSERT_EQUAL(got.kind, ENGINE_ADAPTER_DROP);
	CU_ASSERT_TRUE(got.now);
	CU_ASSERT_EQUAL(got.files.experts.fd, -1);
	close(pair[0]);
	close(pair[1]);
}

static void test_role_adapter__too_many_files_are_named(void)
{
	struct adapter_files files =
		files_of(ROLE_ADAPTER_FILE_COUNT_MAX, false);
	struct error err = {0};

	CU_ASSERT_EQUAL(role_adapter_fits("tuned", &files, &err), -E2BIG);
	CU_ASSERT_PTR_NOT_NULL(strstr(err.text, "\"tuned\": has 65 files"));
	files.model.weight_count--;
	close(files.model.weights[files.model.weight_count].fd);
	CU_ASSERT_EQUAL(role_adapter_fits("tuned", &files, NULL), 0);
	adapter_files_close(&files);
}

/* A full channel says so, and a letter that is none is refused. */
static void test_role_adapter__full_and_foreign(void)
{
	struct engine_command command = command_of(files_of(2, true)), got;
	uint32_t before = suite_count_descriptors();
	struct role_message message;
	struct role_fds fds = {.fd = {0}, .count = 0};
	int pair[2], rc;

	open_pair(pair);
	do
		rc = role_adapter_send(pair[0], &command);
	while (rc == 0);
	CU_ASSERT_EQUAL(rc, -EAGAIN);
	CU_ASSERT_EQUAL(suite_count_descriptors(), before + 2);
	CU_ASSERT_EQUAL_FATAL(role_receive(pair[1], &message, &fds), 1);
	/* One file less than the letter says. */
	close(fds.fd[--fds.count]);
	CU_ASSERT_EQUAL(role_adapter_take(&fds, &got), -EINVAL);
	CU_ASSERT_EQUAL_FATAL(role_receive(pair[1], &message, &fds), 1);
	/* Not a letter, but one of the files. */
	rc = fds.fd[0];
	fds.fd[0] = fds.fd[1];
	fds.fd[1] = rc;
	CU_ASSERT_EQUAL(role_adapter_take(&fds, &got), -EINVAL);
	fds.count = 0;
	CU_ASSERT_EQUAL(role_adapter_take(&fds, &got), -EINVAL);
	close(pair[0]);
	close(pair[1]);
	CU_ASSERT_EQUAL(suite_count_descriptors(), before);
	adapter_files_close(&command.files);
}

/* --- answers ----------------------------------------------------------------------- */

static void *wait_for_control(void *arg)
{
	role_outbox_wait(arg);
	return NULL;
}

/* Far more than the channel takes, and nobody reads: none is lost. */
static void test_role_outbox__keeps_what_finds_no_room(void)
{
	struct role_message message = {.kind = ROLE_ADAPTER_ANSWER}, got;
	struct role_outbox *outbox = NULL;
	struct role_fds fds;
	pthread_t thread;
	int pair[2];

	open_pair(pair);
	CU_ASSERT_EQUAL_FATAL(role_outbox_create(pair[1], &outbox), 0);
	CU_ASSERT_EQUAL_FATAL(
		pthread_create(&thread, NULL, wait_for_control, outbox), 0);
	for (uint32_t i = 0; i < 1000; i++) {
		message.serial = i;
		role_outbox_put(outbox, &message);
	}
	for (uint32_t i = 0; i < 1000; i++) {
		CU_ASSERT_EQUAL_FATAL(role_receive(pair[0], &got, &fds), 1);
		CU_ASSERT_EQUAL(got.serial, i);
	}
	/* Something to read ends the wait. */
	CU_ASSERT_EQUAL(role_send(pair[0], ROLE_STOP, "", NULL), 0);
	pthread_join(thread, NULL);
	close(pair[0]);
	close(pair[1]);
	role_outbox_destroy(outbox);
}

int main(void)
{
	static const struct suite_case cases[] = {
		SUITE_CASE(role_adapter__a_load_with_its_files),
		SUITE_CASE(role_adapter__a_drop_has_none),
		SUITE_CASE(role_adapter__too_many_files_are_named),
		SUITE_CASE(role_adapter__full_and_foreign),
		SUITE_CASE(role_outbox__keeps_what_finds_no_room),
	};

	return SUITE_MAIN("role_adapter", cases);
}
