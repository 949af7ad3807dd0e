/* mail.c - what control asks of a rank while it serves (commands -> rank) */
/* SPDX-License-Identifier: Apache-2.0 */
#include <assert.h>
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>

#include "engine/mail.h"

#define MAIL_COUNT_MAX (4u * INSTANCE_COUNT_MAX)

struct letter {
	struct letter *next;
	struct engine_command command;
};

struct engine_mail {
	pthread_mutex_t lock;
	struct letter *first, **end;
	uint32_t count; /* read without the lock as a hint */
	struct wake *wake;
	void (*answer)(void *arg, const struct engine_answer *answer);
	void *arg;
};

int engine_mail_create(struct wake *wake,
	void (*answer)(void *arg, const struct engine_answer *answer),
	void *arg, struct engine_mail **out)
{
	struct engine_mail *mail = calloc(1, sizeof(*mail));

	if (!mail)
		return -ENOMEM;
	if (pthread_mutex_init(&mail->lock, NULL)) {
		free(mail);
		return -ENOMEM;
	}
	mail->end = &mail->first;
	mail->wake = wake;
	mail->answer = answer;
	mail->arg = arg;
	*out = mail;
	return 0;
}

void engine_mail_destroy(struct engine_mail *mail)
{
	struct engine_command command;

	if (!mail)
		return;
	while (engine_mail_take(mail, &command))
		adapter_files_close(&command.files);
	pthread_mutex_destroy(&mail->lock);
	free(mail);
}

int engine_mail_post(
	struct engine_mail *mail, const struct engine_command *command)
{
	struct letter *letter = malloc(sizeof(*letter));
	int rc = letter ? 0 : -ENOMEM;

	if (letter) {
		*letter = (struct letter){.command = *command};
		pthread_mutex_lock(&mail->lock);
		if (mail->count >= MAIL_COUNT_MAX) {
			rc = -EAGAIN;
		} else {
			*mail->end = letter;
			mail->end = &letter->next;
			__atomic_store_n(&mail->count, mail->count + 1,
				__ATOMIC_RELEASE);
		}
		pthread_mutex_unlock(&mail->lock);
	}
	if (rc) {
		struct adapter_files files = command->files;

		adapter_files_close(&files);
		free(letter);
		return rc;
	}
	wake_post(mail->wake);
	return 0;
}

bool engine_mail_pending(const struct engine_mail *mail)
{
	return __atomic_load_n(&mail->count, __ATOMIC_ACQUIRE) > 0;
}

bool engine_mail_take(struct engine_mail *mail, struct engine_command *out)
{
	struct letter *letter;

	if (!engine_mail_pending(mail))
		return false;
	pthread_mutex_lock(&mail->lock);
	letter = mail->first;
	if (letter) {
		mail->first = letter->next;
		if (!mail->first)
			mail->end = &mail->first;
		__atomic_store_n(
			&mail->count, mail->count - 1, __ATOMIC_RELAXED);
	}
	pthread_mutex_unlock(&mail->lock);
	if (!letter)
		return false;
	*out = letter->command;
	free(letter);
	return true;
}

void engine_mail_answer(
	struct engine_mail *mail, const struct engine_answer *answer)
{
	mail->answer(mail->arg, answer);
}
