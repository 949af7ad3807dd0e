/* role_adapter.c - a rank's mail over its channel (control <-> rank) */
/* SPDX-License-Identifier: Apache-2.0 */
#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/log.h"
#include "control/model_dir.h"
#include "control/role.h"

#define LETTER_MAGIC UINT32_C(0x6864414c) /* "LAdh" */
#define LETTER_SEALS (F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE | F_SEAL_SEAL)

struct letter_file {
	char name[sizeof(((struct model_file *)0)->name)];
	uint64_t size_bytes;
	uint32_t has_hash;
	uint8_t hash[FILE_HASH_BYTES];
};

/* The content of the memory file, read once. */
struct letter {
	uint32_t magic;
	uint32_t size_bytes; /* of this struct: same build on both sides */
	uint32_t kind, instance, serial, entry, weight, now;
	char name[ADAPTER_NAME_BYTES];
	uint32_t has_config;
	/* expert_cfg.json, config.json where there is one, weights */
	uint32_t file_count;
	struct letter_file files[ROLE_ADAPTER_FILE_COUNT_MAX];
};

/* --- control's side ----------------------------------------------------------------- */

static uint32_t file_count(const struct adapter_files *files)
{
	return (files->model.config.fd >= 0 ? 2 : 1) +
	       files->model.weight_count;
}

int role_adapter_fits(
	const char *name, const struct adapter_files *files, struct error *err)
{
	uint32_t count = file_count(files);

	if (count <= ROLE_ADAPTER_FILE_COUNT_MAX)
		return 0;
	return error_set(err, E2BIG,
		"adapter \"%s\": has %u files, and at most %d can be handed to "
		"a rank",
		name, count, ROLE_ADAPTER_FILE_COUNT_MAX);
}

static int add_file(const struct model_file *file, struct letter *letter,
	struct role_fds *fds)
{
	struct letter_file *to = &letter->files[letter->file_count];
	int rc = model_file_reopen(file, &fds->fd[fds->count], NULL);

	if (rc)
		return rc;
	fds->count++;
	letter->file_count++;
	memcpy(to->name, file->name, sizeof(to->name));
	to->size_bytes = file->size_bytes;
	to->has_hash = file->has_hash;
	memcpy(to->hash, file->hash, sizeof(to->hash));
	return 0;
}

static int add_files(const struct adapter_files *files, struct letter *letter,
	struct role_fds *fds)
{
	int rc = add_file(&files->experts, letter, fds);

	letter->has_config = files->model.config.fd >= 0;
	if (rc == 0 && letter->has_config)
		rc = add_file(&files->model.config, letter, fds);
	for (uint32_t i = 0; rc == 0 && i < files->model.weight_count; i++)
		rc = add_file(&files->model.weights[i], letter, fds);
	return rc;
}

static int write_letter(const struct letter *letter, int *out_fd)
{
	int fd = memfd_create("heddle-letter", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	ssize_t written;

	if (fd < 0)
		return -errno;
	written = write(fd, letter, sizeof(*letter));
	if (written != (ssize_t)sizeof(*letter) ||
		fcntl(fd, F_ADD_SEALS, LETTER_SEALS)) {
		int rc = written < 0 ? -errno : -ENOSPC;

		close(fd);
		return rc;
	}
	*out_fd = fd;
	return 0;
}

int role_adapter_send(int channel, const struct engine_command *command)
{
	const struct role_message message = {.kind = ROLE_ADAPTER};
	struct letter *letter = calloc(1, sizeof(*letter));
	/* The letter goes first, and is written last. */
	struct role_fds fds = {.fd = {-1}, .count = 1};
	int rc = 0;

	if (!letter)
		return -ENOMEM;
	letter->magic = LETTER_MAGIC;
	letter->size_bytes = sizeof(*letter);
	letter->kind = command->kind;
	letter->instance = command->instance;
	letter->serial = command->serial;
	letter->entry = command->entry;
	letter->weight = command->weight;
	letter->now = command->now;
	memcpy(letter->name, command->name, sizeof(letter->name));
	if (command->kind == ENGINE_ADAPTER_LOAD) {
		assert(file_count(&command->files) <=
			ROLE_ADAPTER_FILE_COUNT_MAX);
		rc = add_files(&command->files, letter, &fds);
	}
	if (rc == 0)
		rc = write_letter(letter, &fds.fd[0]);
	free(letter);
	if (rc == 0)
		rc = role_send_message(channel, &message, &fds);
	if (fds.fd[0] < 0) {
		fds.fd[0] = fds.fd[fds.count - 1];
		fds.count--;
	}
	role_fds_close(&fds);
	return rc;
}

/* --- the rank's side ---------------------------------------------------------------- */

static bool letter_ok(const struct letter *letter, const struct role_fds *fds)
{
	uint32_t least = letter->has_config ? 3 : 2;

	if (letter->magic != LETTER_MAGIC ||
		letter->size_bytes != sizeof(*letter) ||
		letter->kind > ENGINE_ADAPTER_WEIGHT || letter->instance < 1 ||
		letter->instance >= INSTANCE_COUNT_MAX || letter->serial == 0 ||
		letter->entry >= ADAPTER_ENTRY_COUNT_MAX ||
		letter->file_count > ROLE_ADAPTER_FILE_COUNT_MAX ||
		fds->count != 1 + letter->file_count ||
		letter->name[sizeof(letter->name) - 1] != '\0')
		return false;
	if (letter->kind != ENGINE_ADAPTER_LOAD)
		return letter->file_count == 0;
	return letter->file_count >= least;
}

static void take_file(const struct letter *letter, struct role_fds *fds,
	uint32_t index, struct model_file *out)
{
	const struct letter_file *file = &letter->files[index];

	memcpy(out->name, file->name, sizeof(out->name));
	out->name[sizeof(out->name) - 1] = '\0';
	out->size_bytes = file->size_bytes;
	out->has_hash = file->has_hash != 0;
	memcpy(out->hash, file->hash, sizeof(out->hash));
	out->fd = fds->fd[1 + index];
	fds->fd[1 + index] = -1;
}

static int take_files(const struct letter *letter, struct role_fds *fds,
	struct adapter_files *out)
{
	uint32_t first = letter->has_config ? 2 : 1;
	uint32_t count = letter->file_count - first;

	out->model.weights = calloc(count, sizeof(*out->model.weights));
	if (!out->model.weights)
		return -ENOMEM;
	out->model.weight_count = count;
	take_file(letter, fds, 0, &out->experts);
	if (letter->has_config)
		take_file(letter, fds, 1, &out->model.config);
	for (uint32_t i = 0; i < count; i++)
		take_file(letter, fds, first + i, &out->model.weights[i]);
	return 0;
}

int role_adapter_take(struct role_fds *fds, struct engine_command *out)
{
	struct letter *letter = malloc(sizeof(*letter));
	int rc = -EINVAL;

	memset(out, 0, sizeof(*out));
	adapter_files_init(&out->files);
	if (!letter)
		rc = -ENOMEM;
	else if (fds->count > 0 &&
		 pread(fds->fd[0], letter, sizeof(*letter), 0) ==
			 (ssize_t)sizeof(*letter) &&
		 fcntl(fds->fd[0], F_GET_SEALS) == LETTER_SEALS &&
		 letter_ok(letter, fds))
		rc = letter->kind == ENGINE_ADAPTER_LOAD
			     ? take_files(letter, fds, &out->files)
			     : 0;
	if (rc == 0) {
		out->kind = (enum engine_command_kind)letter->kind;
		out->instance = letter->instance;
		out->serial = letter->serial;
		out->entry = letter->entry;
		out->weight = letter->weight;
		out->now = letter->now != 0;
		memcpy(out->name, letter->name, sizeof(out->name));
	}
	free(letter);
	for (uint32_t i = 0; i < fds->count; i++)
		if (fds->fd[i] >= 0)
			close(fds->fd[i]);
	fds->count = 0;
	return rc;
}

/* --- answers that found no room ------------------------------------------------------- */

/* Control has no more commands than this unanswered. */
#define OUTBOX_COUNT_MAX 1024u
_Static_assert(OUTBOX_COUNT_MAX >= 4 * INSTANCE_COUNT_MAX, "all fit");

struct role_outbox {
	pthread_mutex_t lock;
	int channel, event_fd;
	/* a ring, owned; its pages are touched only where it fills */
	struct role_message *kept;
	uint32_t head, count;
};

int role_outbox_create(int channel, struct role_outbox **out)
{
	struct role_outbox *outbox = calloc(1, sizeof(*outbox));

	if (!outbox)
		return -ENOMEM;
	outbox->channel = channel;
	outbox->event_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	outbox->kept = calloc(OUTBOX_COUNT_MAX, sizeof(*outbox->kept));
	if (outbox->event_fd < 0 || !outbox->kept ||
		pthread_mutex_init(&outbox->lock, NULL)) {
		if (outbox->event_fd >= 0)
			close(outbox->event_fd);
		free(outbox->kept);
		free(outbox);
		return -ENOMEM;
	}
	*out = outbox;
	return 0;
}

void role_outbox_destroy(struct role_outbox *outbox)
{
	if (!outbox)
		return;
	pthread_mutex_destroy(&outbox->lock);
	close(outbox->event_fd);
	free(outbox->kept);
	free(outbox);
}

/* What goes out, in order; the lock is held. */
static void flush(struct role_outbox *outbox)
{
	while (outbox->count > 0 &&
		role_send_message(outbox->channel, &outbox->kept[outbox->head],
			NULL) != -EAGAIN) {
		/* Anything else: control is gone, and soon we are too. */
		outbox->head = (outbox->head + 1) % OUTBOX_COUNT_MAX;
		outbox->count--;
	}
}

void role_outbox_put(
	struct role_outbox *outbox, const struct role_message *message)
{
	static const uint64_t one = 1;
	bool waits;

	pthread_mutex_lock(&outbox->lock);
	if (outbox->count < OUTBOX_COUNT_MAX) {
		outbox->kept[(outbox->head + outbox->count) %
			     OUTBOX_COUNT_MAX] = *message;
		outbox->count++;
	} else {
		log_error("control does not listen: an answer is lost");
	}
	flush(outbox);
	waits = outbox->count > 0;
	pthread_mutex_unlock(&outbox->lock);
	if (waits && write(outbox->event_fd, &one, sizeof(one)) < 0)
		log_warn("eventfd");
}

void role_outbox_wait(struct role_outbox *outbox)
{
	for (;;) {
		struct pollfd fds[2] = {{outbox->channel, POLLIN, 0},
			{outbox->event_fd, POLLIN, 0}};
		uint64_t rung;

		pthread_mutex_lock(&outbox->lock);
		flush(outbox);
		if (outbox->count > 0)
			fds[0].events = POLLIN | POLLOUT;
		pthread_mutex_unlock(&outbox->lock);
		if (poll(fds, 2, -1) < 0 && errno != EINTR)
			return;
		if (fds[1].revents)
			(void)!read(outbox->event_fd, &rung, sizeof(rung));
		if (fds[0].revents & ~POLLOUT)
			return;
	}
}
