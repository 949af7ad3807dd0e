/* mail.h - what control asks of a rank while it serves (commands -> rank) */
/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Why:   adapters come and go while steps run. Whoever hears control (the
 *        role's second thread) posts; the rank takes between two steps, and
 *        answers through a function that it was given.
 * Order: commands are taken in the order in which they were posted; a LOAD
 *        that runs does not hold up what comes after it.
 * Answer: exactly one for each LOAD (RESIDENT, or ABSENT with the reason) and
 *        one for each DROP (ABSENT, once its memory is free again); a rank
 *        that ends answers nothing more.
 * Ownership: a posted command's files are the rank's, closed when it is done
 *        with them.
 * Threads: post by any thread; take and answer by one of the rank's at a time.
 */
#ifndef HEDDLE_ENGINE_MAIL_H
#define HEDDLE_ENGINE_MAIL_H

#include <stdbool.h>
#include <stdint.h>

#include "base/adapters.h"
#include "base/error.h"
#include "base/wake.h"
#include "engine/files.h"

enum engine_command_kind {
	ENGINE_ADAPTER_LOAD, /* beside what is there of the same name */
	ENGINE_ADAPTER_DROP, /* nobody is bound to it any more */
	ENGINE_ADAPTER_WEIGHT /* the share of a name */
};

struct engine_command {
	enum engine_command_kind kind;
	uint32_t instance; /* 1 .. INSTANCE_COUNT_MAX - 1 */
	uint32_t serial; /* never 0 */
	uint32_t entry; /* of the table: the name that fairness goes by */
	uint32_t weight;
	bool now; /* DROP: requests that still carry it are cancelled */
	char name[ADAPTER_NAME_BYTES]; /* for messages */
	struct adapter_files files; /* LOAD */
};

/* What became of a command. */
struct engine_answer {
	enum engine_command_kind kind;
	uint32_t instance, serial;
	int rc; /* 0 or -errno */
	struct error err; /* why */
};

struct engine_mail; /* private */

/* `wake` is posted with each command, borrowed. -ENOMEM. */
int engine_mail_create(struct wake *wake,
	void (*answer)(void *arg, const struct engine_answer *answer),
	void *arg, struct engine_mail **out);

/* Closes the files of what was never taken; NULL is allowed. */
void engine_mail_destroy(struct engine_mail *mail);

/* Takes the files in any case. -EAGAIN: too much is waiting; -ENOMEM. */
int engine_mail_post(
	struct engine_mail *mail, const struct engine_command *command);

/* The next command, whose files are the caller's now; false: none. */
bool engine_mail_take(struct engine_mail *mail, struct engine_command *out);

/* Would take find something? By any thread; a hint. */
bool engine_mail_pending(const struct engine_mail *mail);

void engine_mail_answer(
	struct engine_mail *mail, const struct engine_answer *answer);

#endif
