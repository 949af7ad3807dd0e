/* test_mail.c - commands from one thread to another, in order, none lost */
/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <string.h>
#include <unistd.h>

#include "engine/mail.h"
#include "tests/suite.h"

struct heard {
	uint32_t count;
	struct engine_answer last;
};

static void hear(void *arg, const struct engine_answer *answer)
{
	struct heard *heard = arg;

	heard->count++;
	heard->last = *answer;
}

static struct engine_command command_of(uint32_t serial)
{
	struct engine_command command = {
		.kind = ENGINE_ADAPTER_DROP, .instance = 1, .serial = serial};

	adapter_files_init(&command.files);
	return command;
}

static void test_engine_mail__order_and_answers(void)
{
	struct wake wake = {0};
	struct heard heard = {0};
	struct engine_mail *mail = NULL;
	struct engine_command command = command_of(1);
	struct engine_answer answer = {.serial = 2, .rc = -EBUSY};

	CU_ASSERT_EQUAL_FATAL(
		engine_mail_create(&wake, hear, &heard, &mail), 0);
	CU_ASSERT_FALSE(engine_mail_take(mail, &command));
	for (uint32_t i = 1; i <= 3; i++) {
		command = command_of(i);
		CU_ASSERT_EQUAL(engine_mail_post(mail, &command), 0);
		CU_ASSERT_EQUAL(wake.word, i);
	}
	for (uint32_t i = 1; i <= 3; i++) {
		CU_ASSERT_TRUE(engine_mail_take(mail, &command));
		CU_ASSERT_EQUAL(command.serial, i);
	}
	CU_ASSERT_FALSE(engine_mail_take(mail, &command));
	engine_mail_answer(mail, &answer);
	CU_ASSERT_EQUAL(heard.count, 1);
	CU_ASSERT_EQUAL(heard.last.serial, 2);
	CU_ASSERT_EQUAL(heard.last.rc, -EBUSY);
	engine_mail_destroy(mail);
}

static void test_engine_mail__full_is_refused_and_files_are_closed(void)
{
	struct wake wake = {0};
	struct heard heard = {0};
	struct engine_mail *mail = NULL;
	struct engine_command command;
	int first = -1, last = -1, rc = 0;
	uint32_t count = 0;

	CU_ASSERT_EQUAL_FATAL(
		engine_mail_create(&wake, hear, &heard, &mail), 0);
	while (rc == 0 && count < 100000) {
		command = command_of(1);
		if (count == 0 || count >= 1000)
			command.files.experts.fd = open("/dev/null", O_RDONLY);
		if (count == 0)
			first = command.files.experts.fd;
		last = command.files.experts.fd;
		rc = engine_mail_post(mail, &command);
		count++;
	}
	CU_ASSERT_EQUAL(rc, -EAGAIN);
	CU_ASSERT_EQUAL(fcntl(last, F_GETFD), -1);
	CU_ASSERT_NOT_EQUAL(fcntl(first, F_GETFD), -1);
	engine_mail_destroy(mail);
	CU_ASSERT_EQUAL(fcntl(first, F_GETFD), -1);
	engine_mail_destroy(NULL);
}

#define LETTERS 20000u

static void *post_all(void *arg)
{
	for (uint32_t i = 1; i <= LETTERS; i++) {
		struct engine_command command = command_of(i);

		while (engine_mail_post(arg, &command) == -EAGAIN)
			sched_yield();
	}
	return NULL;
}

static void test_engine_mail__two_threads_keep_order(void)
{
	struct wake wake = {0};
	struct heard heard = {0};
	struct engine_mail *mail = NULL;
	uint32_t next = 1, wrong = 0;
	pthread_t thread;

	CU_ASSERT_EQUAL_FATAL(
		engine_mail_create(&wake, hear, &heard, &mail), 0);
	CU_ASSERT_EQUAL_FATAL(pthread_create(&thread, NULL, post_all, mail), 0);
	while (next <= LETTERS) {
		struct engine_command command;

		if (!engine_mail_take(mail, &command))
			sched_yield();
		else
			wrong += command.serial != next++;
	}
	pthread_join(thread, NULL);
	CU_ASSERT_EQUAL(wrong, 0);
	engine_mail_destroy(mail);
}

int main(void)
{
	static const struct suite_case cases[] = {
		SUITE_CASE(engine_mail__order_and_answers),
		SUITE_CASE(engine_mail__full_is_refused_and_files_are_closed),
		SUITE_CASE(engine_mail__two_threads_keep_order),
	};

	return SUITE_MAIN("mail", cases);
}
