/* test_control.c - the control socket, its lines, and the service manager */
/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "control/control_socket.h"
#include "control/heddlectl_text.h"
#include "control/notify.h"
#include "tests/suite.h"

/* --- lines ---------------------------------------------------------------------- */

static int parse(const char *line, struct command_call *out, char *error)
{
	struct error err = {0};
	int rc = command_parse(line, strlen(line), out, &err);

	if (error)
		snprintf(error, ERROR_TEXT_BYTES, "%s", err.text);
	return rc;
}

static void test_command_parse__every_command(void)
{
	for (int i = 0; i < COMMAND_ID_COUNT; i++) {
		const struct command_spec *spec =
			command_spec((enum command_id)i);
		struct command_call call;
		char line[128];

		snprintf(line, sizeof(line), "  %s %s\t-o json \r", spec->name,
			spec->choices                       ? "debug"
			: spec->weighs                      ? "name 12"
			: spec->words == 2                  ? "name /some/path"
			: spec->words == 1                  ? "name"
			: spec->words == COMMAND_WORDS_PATH ? "/some/path"
							    : "");
		CU_ASSERT_EQUAL(parse(line, &call, NULL), 0);
		CU_ASSERT_EQUAL((int)call.id, i);
		CU_ASSERT_TRUE(call.json);
		CU_ASSERT_STRING_EQUAL(
			call.argument, spec->choices ? "debug" : "");
		CU_ASSERT_STRING_EQUAL(call.name,
			spec->words == 1 || spec->words == 2 ? "name" : "");
		CU_ASSERT_STRING_EQUAL(call.path,
			spec->words > 1 && !spec->weighs ? "/some/path" : "");
		CU_ASSERT_EQUAL(call.weight, spec->weighs ? 12 : 0);
	}
}

static void test_command_parse__refusals(void)
{
	static const struct {
		const char *line, *error;
	} cases[] = {
		{"", "no command"},
		{"   ", "no command"},
		{"inf", "\"inf\" is no command"},
		{"infos", "\"infos\" is no command"},
		{"config", "\"config\" is no command"},
		{"config shows", "\"config\" is no command"},
		{"info x", "info takes no argument"},
		{"log", "log takes one of: error warn info debug"},
		{"log loud", "log takes one of"},
		{"log info info", "log takes one of"},
		{"info -o", "-o takes json or text"},
		{"info -o yaml", "-o takes json or text"},
		{"a b c d e f g h i j k l m", "more than 12 words"},
		{"adapter", "\"adapter\" is no command"},
		{"adapter load", "adapter load takes NAME DIR"},
		{"adapter load x", "adapter load takes NAME DIR"},
		{"adapter load x y z", "adapter load takes NAME DIR"},
		{"adapter load x y --now", "adapter load takes NAME DIR"},
		{"adapter load x y --weight", "--weight takes a number"},
		{"adapter load x y --weight 0", "a number from 1 to 1000"},
		{"adapter load x y --weight 1001", "a number from 1 to 1000"},
		{"adapter load x y --weight 99999999999", "from 1 to 1000"},
		{"adapter load x y --weight -1", "from 1 to 1000"},
		{"adapter unload x --drain", "adapter unload takes NAME"},
		{"adapter list x", "adapter list takes no argument"},
		{"adapter weight x", "adapter weight takes NAME W"},
		{"adapter weight x 0", "the weight takes a number from 1"},
		{"adapter weight x 1001", "from 1 to 1000"},
		{"adapter weight x 1 2", "adapter weight takes NAME W"},
		{"adapter show \"x", "mark is not closed"},
		{"adapter show \"x\\\"", "mark is not closed"},
		{"adapter show \"x\"y", "goes on behind its closing"},
		{"adapter show \"x\\n\"", "a backslash in quotation marks"},
		{"adapter show \"x\\", "a backslash in quotation marks"},
		{"adapter show \"\"", "the name is empty"},
		{"\"info\"", "\"info\" is no command"},
		{"log \"info\"", "log takes one of"},
		{"adapter \"list\"", "\"adapter\" is no command"},
		{"adapter unload x \"--now\"", "adapter unload takes NAME"},
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct command_call call;
		char error[ERROR_TEXT_BYTES];

		CU_ASSERT_EQUAL(parse(cases[i].line, &call, error), -EINVAL);
		CU_ASSERT_PTR_NOT_NULL(strstr(error, cases[i].error));
	}
}

static void test_command_parse__words_and_flags(void)
{
	static const char line[] =
		"adapter load --weight 7 tuned /where --pin --no-wait";
	struct command_call call;
	char long_name[COMMAND_NAME_BYTES + 32];

	CU_ASSERT_EQUAL_FATAL(parse(line, &call, NULL), 0);
	CU_ASSERT_EQUAL(call.id, COMMAND_ADAPTER_LOAD);
	CU_ASSERT_STRING_EQUAL(call.name, "tuned");
	CU_ASSERT_STRING_EQUAL(call.path, "/where");
	CU_ASSERT_EQUAL(strncmp(line + call.path_at, "/where", 6), 0);
	CU_ASSERT_EQUAL(call.weight, 7);
	CU_ASSERT_EQUAL(call.flags,
		COMMAND_FLAG_PIN | COMMAND_FLAG_WEIGHT | COMMAND_FLAG_NO_WAIT);
	snprintf(long_name, sizeof(long_name), "adapter show %0*d",
		COMMAND_NAME_BYTES, 0);
	CU_ASSERT_EQUAL(parse(long_name, &call, NULL), -EINVAL);
	CU_ASSERT_EQUAL(
		command_parse("adapter show a\0b", 16, &call, NULL), -EINVAL);
}

static void test_command_parse__quoted_words(void)
{
	static const char line[] =
		"adapter load \"a \\\\ \\\"b\\\"\"  \"/x y\"\t--pin";
	struct command_call call;

	CU_ASSERT_EQUAL_FATAL(parse(line, &call, NULL), 0);
	CU_ASSERT_STRING_EQUAL(call.name, "a \\ \"b\"");
	CU_ASSERT_STRING_EQUAL(call.path, "/x y");
	CU_ASSERT_EQUAL(call.path_length, 6);
	CU_ASSERT_EQUAL(strncmp(line + call.path_at, "\"/x y\"", 6), 0);
	CU_ASSERT_EQUAL(call.flags, COMMAND_FLAG_PIN);
	/* Not at the beginning they are as any other. */
	CU_ASSERT_EQUAL(parse("adapter load x /a\"b\\c", &call, NULL), 0);
	CU_ASSERT_STRING_EQUAL(call.path, "/a\"b\\c");
	CU_ASSERT_EQUAL(parse("adapter unload \"--now\"", &call, NULL), 0);
	CU_ASSERT_STRING_EQUAL(call.name, "--now");
	CU_ASSERT_EQUAL(call.flags, 0);
	CU_ASSERT_EQUAL(parse("adapter weight \"a b\" \"9\"", &call, NULL), 0);
	CU_ASSERT_EQUAL(call.weight, 9);
}

/* Whatever the word, it comes out as it went in; a byte less does not fit. */
static void test_command_quote__is_understood(void)
{
	static const char alphabet[] = "ab\"\\ \t\r/";
	uint64_t state = suite_seed(4);

	for (int i = 0; i < 20000; i++) {
		char word[24], quoted[64], line[160];
		uint32_t length = 1 + suite_below(&state, 20);
		struct command_call call;
		size_t size;

		for (uint32_t k = 0; k < length; k++)
			word[k] = alphabet[suite_below(
				&state, sizeof(alphabet) - 1)];
		word[length] = '\0';
		CU_ASSERT(command_quote(word, quoted, sizeof(quoted)));
		snprintf(line, sizeof(line), "adapter load %s %s", quoted,
			quoted);
		CU_ASSERT_EQUAL(parse(line, &call, NULL), 0);
		CU_ASSERT_STRING_EQUAL(call.name, word);
		CU_ASSERT_STRING_EQUAL(call.path, word);
		size = strlen(quoted) + 1;
		memset(quoted, 'x', sizeof(quoted));
		CU_ASSERT_FALSE(command_quote(word, quoted, size - 1));
		CU_ASSERT_EQUAL(quoted[size - 1], 'x');
	}
	CU_ASSERT_FALSE(command_quote("a\nb", (char[16]){0}, 16));
}

static void test_command_render__no_empty_line_inside(void)
{
	struct command_answer answer;
	size_t length = 0;
	char *text;

	memset(&answer, 0, sizeof(answer));
	answer.text = strdup("\n\na\n\n\nb");
	text = command_render(&answer, false, &length);
	CU_ASSERT_STRING_EQUAL(text, "a\nb\n\n");
	CU_ASSERT_EQUAL(length, strlen(text));
	free(text);
	command_answer_release(&answer);
	text = command_render(&answer, false, &length);
	CU_ASSERT_STRING_EQUAL(text, "ok\n\n");
	free(text);
	text = command_render(&answer, true, &length);
	CU_ASSERT_STRING_EQUAL(text, "{\"ok\":true}\n\n");
	free(text);
}

static void test_command_render__json_as_text(void)
{
	struct command_answer answer;
	size_t length = 0;
	char *text;

	memset(&answer, 0, sizeof(answer));
	answer.json = json_pack("{s:i, s:[ss], s:{s:f, s:b}, s:n}", "a", 1,
		"list", "x", "y", "in", "half", 0.5, "yes", 1, "none");
	text = command_render(&answer, false, &length);
	CU_ASSERT_STRING_EQUAL(text,
		"a: 1\nlist: x y\nin.half: 0.5\nin.yes: yes\nnone: -\n\n");
	free(text);
	error_set(&answer.err, EINVAL, "bad \"x\"");
	text = command_render(&answer, false, &length);
	CU_ASSERT_STRING_EQUAL(text, "error: bad \"x\"\n\n");
	free(text);
	text = command_render(&answer, true, &length);
	CU_ASSERT_STRING_EQUAL(text, "{\"error\":\"bad \\\"x\\\"\"}\n\n");
	free(text);
	snprintf(answer.err.text, 2, "\xff");
	text = command_render(&answer, true, &length);
	CU_ASSERT_PTR_NOT_NULL(strstr(text, "{\"error\":\""));
	free(text);
	command_answer_release(&answer);
}

static char *printed(void (*print)(FILE *out))
{
	char *text = NULL;
	size_t length;
	FILE *out = open_memstream(&text, &length);

	print(out);
	(void)fclose(out);
	return text;
}

static void test_heddlectl_text__is_made_from_the_table(void)
{
	char *help = printed(heddlectl_help), *man = printed(heddlectl_man);
	char *completion = printed(heddlectl_completion);

	for (int i = 0; i < COMMAND_ID_COUNT; i++) {
		const char *name = command_spec((enum command_id)i)->name;
		char word[32];

		snprintf(word, sizeof(word), "%.*s ", (int)strcspn(name, " "),
			name);
		CU_ASSERT_PTR_NOT_NULL(strstr(help, name));
		CU_ASSERT_PTR_NOT_NULL(strstr(man, name));
		CU_ASSERT_PTR_NOT_NULL(strstr(completion, word));
	}
	CU_ASSERT_PTR_NOT_NULL(strstr(completion, "config) words=\"show\""));
	CU_ASSERT_PTR_NOT_NULL(
		strstr(completion, "log) words=\"error warn info debug\""));
	free(help);
	free(man);
	free(completion);
}

/* --- the socket ------------------------------------------------------------------- */

struct stage {
	char directory[64], path[96];
	struct control_socket *control;
	struct mono now;
	uint32_t calls[COMMAND_ID_COUNT];
	size_t answer_bytes; /* of info */
	uint64_t ticket; /* of mem, which is answered later */
};

static void handle(void *arg, const struct command_call *call,
	struct command_answer *answer)
{
	struct stage *stage = arg;

	stage->calls[call->id]++;
	if (call->id == COMMAND_INFO && stage->answer_bytes) {
		answer->text = malloc(stage->answer_bytes + 1);
		memset(answer->text, 'x', stage->answer_bytes);
		answer->text[stage->answer_bytes] = '\0';
	}
	answer->later = call->id == COMMAND_MEM;
	if (answer->later)
		stage->ticket = call->ticket;
	if (call->id == COMMAND_DRAIN && stage->ticket)
		control_socket_answer(stage->control, stage->ticket,
			&(struct command_answer){0},
			mono_add(stage->now, NS_PER_MS));
	if (call->id == COMMAND_RELOAD)
		error_set(&answer->err, EINVAL, "no");
}

static void open_stage(struct stage *stage)
{
	struct error err = {0};

	memset(stage, 0, sizeof(*stage));
	stage->now.ns = NS_PER_S;
	snprintf(stage->directory, sizeof(stage->directory),
		"/tmp/heddle-control-XXXXXX");
	CU_ASSERT_PTR_NOT_NULL_FATAL(mkdtemp(stage->directory));
	snprintf(stage->path, sizeof(stage->path), "%s/run/control",
		stage->directory);
	CU_ASSERT_EQUAL_FATAL(control_socket_open(stage->path, handle, stage,
				      &stage->control, &err),
		0);
}

static void close_stage(struct stage *stage)
{
	char run[96];
	struct stat st;

	control_socket_close(stage->control);
	CU_ASSERT_EQUAL(lstat(stage->path, &st), -1);
	snprintf(run, sizeof(run), "%s/run", stage->directory);
	CU_ASSERT_EQUAL(rmdir(run), 0);
	CU_ASSERT_EQUAL(rmdir(stage->directory), 0);
}

static int connect_to(const char *path)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	strncpy(address.sun_path, path, sizeof(address.sun_path) - 1);
	CU_ASSERT_EQUAL_FATAL(
		connect(fd, (const struct sockaddr *)&address, sizeof(address)),
		0);
	return fd;
}

static void say(int fd, const char *text)
{
	CU_ASSERT_EQUAL(send(fd, text, strlen(text), MSG_NOSIGNAL),
		(ssize_t)strlen(text));
}

/* Let the socket do all that it can. */
static void serve(struct stage *stage)
{
	for (int i = 0; i < 8; i++)
		control_socket_serve(stage->control, stage->now);
}

/* What is there to read now; -1: closed. */
static int hear(int fd, char *out, size_t size)
{
	ssize_t got = recv(fd, out, size - 1, MSG_DONTWAIT);

	out[got > 0 ? got : 0] = '\0';
	if (got < 0)
		return errno == EAGAIN ? 0 : -1;
	return got == 0 ? -1 : (int)got;
}

static void test_control_socket__modes_and_removal(void)
{
	struct stage stage;
	struct stat st;
	char run[96];

	open_stage(&stage);
	CU_ASSERT_EQUAL_FATAL(stat(stage.path, &st), 0);
	CU_ASSERT_TRUE(S_ISSOCK(st.st_mode));
	CU_ASSERT_EQUAL(st.st_mode & 0777, 0600);
	snprintf(run, sizeof(run), "%s/run", stage.directory);
	CU_ASSERT_EQUAL_FATAL(stat(run, &st), 0);
	CU_ASSERT_EQUAL(st.st_mode & 0777, 0700);
	close_stage(&stage);
}

static void test_control_socket__several_lines_and_split_lines(void)
{
	struct stage stage;
	char text[512];
	int fd;

	open_stage(&stage);
	fd = connect_to(stage.path);
	say(fd, "drain\nreload -o json\nbad\nlog in");
	serve(&stage);
	CU_ASSERT_TRUE(hear(fd, text, sizeof(text)) > 0);
	CU_ASSERT_STRING_EQUAL(text,
		"ok\n\n{\"error\":\"no\"}\n\nerror: \"bad\" is no command; see "
		"help\n\n");
	say(fd, "fo\r\n");
	serve(&stage);
	CU_ASSERT_TRUE(hear(fd, text, sizeof(text)) > 0);
	CU_ASSERT_STRING_EQUAL(text, "ok\n\n");
	CU_ASSERT_EQUAL(stage.calls[COMMAND_LOG], 1);
	CU_ASSERT_EQUAL(stage.calls[COMMAND_DRAIN], 1);
	close(fd);
	close_stage(&stage);
}

/* As socat does: all lines, then the end of the input. */
static void test_control_socket__answers_after_half_close(void)
{
	struct stage stage;
	char text[512];
	int fd;

	open_stage(&stage);
	fd = connect_to(stage.path);
	say(fd, "info\nstat\n");
	shutdown(fd, SHUT_WR);
	serve(&stage);
	CU_ASSERT_TRUE(hear(fd, text, sizeof(text)) > 0);
	CU_ASSERT_STRING_EQUAL(text, "ok\n\nok\n\n");
	CU_ASSERT_EQUAL(hear(fd, text, sizeof(text)), -1);
	close(fd);
	close_stage(&stage);
}

static void answer_later(struct stage *stage, const char *text)
{
	struct command_answer answer;

	memset(&answer, 0, sizeof(answer));
	answer.text = strdup(text);
	control_socket_answer(
		stage->control, stage->ticket, &answer, stage->now);
	command_answer_release(&answer);
	serve(stage);
}

static void test_control_socket__an_answer_that_comes_later(void)
{
	struct stage stage;
	char text[512];
	int fd, other;

	open_stage(&stage);
	fd = connect_to(stage.path);
	say(fd, "mem\nstat\n");
	/* As socat does: what it said before is all carried out. */
	shutdown(fd, SHUT_WR);
	serve(&stage);
	CU_ASSERT_EQUAL(hear(fd, text, sizeof(text)), 0);
	CU_ASSERT_EQUAL(stage.calls[COMMAND_STAT], 0);
	/* Nobody else waits, and time does not end it. */
	other = connect_to(stage.path);
	say(other, "stat\n");
	stage.now.ns += 10 * CONTROL_IDLE_NS;
	serve(&stage);
	CU_ASSERT_TRUE(hear(other, text, sizeof(text)) > 0);
	close(other);
	stage.ticket += CONTROL_CLIENT_COUNT_MAX;
	answer_later(&stage, "of another");
	CU_ASSERT_EQUAL(hear(fd, text, sizeof(text)), 0);
	stage.ticket -= CONTROL_CLIENT_COUNT_MAX;
	answer_later(&stage, "late");
	CU_ASSERT_TRUE(hear(fd, text, sizeof(text)) > 0);
	CU_ASSERT_STRING_EQUAL(text, "late\n\nok\n\n");
	answer_later(&stage, "twice");
	CU_ASSERT_EQUAL(hear(fd, text, sizeof(text)), -1);
	close(fd);
	/* Another's command brings the answer, which is younger than the turn. */
	fd = connect_to(stage.path);
	say(fd, "mem\n");
	serve(&stage);
	other = connect_to(stage.path);
	say(other, "drain\n");
	serve(&stage);
	CU_ASSERT_TRUE(hear(fd, text, sizeof(text)) > 0);
	CU_ASSERT_STRING_EQUAL(text, "ok\n\n");
	close(fd);
	close(other);
	serve(&stage);
	/* One that hangs up is forgotten, and its place is another's. */
	fd = connect_to(stage.path);
	say(fd, "mem\n");
	serve(&stage);
	close(fd);
	serve(&stage);
	fd = connect_to(stage.path);
	say(fd, "stat\n");
	serve(&stage);
	answer_later(&stage, "of the dead");
	CU_ASSERT_TRUE(hear(fd, text, sizeof(text)) > 0);
	CU_ASSERT_STRING_EQUAL(text, "ok\n\n");
	close(fd);
	close_stage(&stage);
}

static void test_control_socket__a_long_line_ends_the_connection(void)
{
	struct stage stage;
	char text[4096];
	int fd;

	open_stage(&stage);
	fd = connect_to(stage.path);
	memset(text, 'a', sizeof(text));
	CU_ASSERT_EQUAL(send(fd, text, sizeof(text), MSG_NOSIGNAL),
		(ssize_t)sizeof(text));
	serve(&stage);
	CU_ASSERT_TRUE(hear(fd, text, sizeof(text)) > 0);
	CU_ASSERT_PTR_NOT_NULL(strstr(text, "error: a line is longer than"));
	CU_ASSERT_EQUAL(hear(fd, text, sizeof(text)), -1);
	close(fd);
	close_stage(&stage);
}

static void test_control_socket__a_client_that_does_not_read(void)
{
	struct stage stage;
	static char text[1 << 16];
	size_t total = 0;
	int slow, fd, got;

	open_stage(&stage);
	stage.answer_bytes = 1000000;
	slow = connect_to(stage.path);
	fd = connect_to(stage.path);
	say(slow, "info\nstat\n");
	serve(&stage);
	say(fd, "drain\n");
	serve(&stage);
	CU_ASSERT_TRUE(hear(fd, text, sizeof(text)) > 0);
	/* It is not read from before its answer is out. */
	CU_ASSERT_EQUAL(stage.calls[COMMAND_STAT], 0);
	while ((got = hear(slow, text, sizeof(text))) > 0) {
		total += (size_t)got;
		serve(&stage);
	}
	CU_ASSERT_EQUAL(total, 1000000 + 2 + 4);
	CU_ASSERT_EQUAL(stage.calls[COMMAND_STAT], 1);
	close(slow);
	close(fd);
	close_stage(&stage);
}

static void test_control_socket__idle_and_too_many_clients(void)
{
	struct stage stage;
	int fds[CONTROL_CLIENT_COUNT_MAX + 1], fd;
	char text[64];

	open_stage(&stage);
	for (int i = 0; i <= CONTROL_CLIENT_COUNT_MAX; i++)
		fds[i] = connect_to(stage.path);
	serve(&stage);
	CU_ASSERT_EQUAL(
		hear(fds[CONTROL_CLIENT_COUNT_MAX], text, sizeof(text)), -1);
	CU_ASSERT_EQUAL(hear(fds[0], text, sizeof(text)), 0);
	stage.now.ns += CONTROL_IDLE_NS / 2;
	say(fds[0], "stat\n");
	serve(&stage);
	CU_ASSERT_TRUE(hear(fds[0], text, sizeof(text)) > 0);
	stage.now.ns += CONTROL_IDLE_NS / 2 + 1;
	serve(&stage);
	CU_ASSERT_EQUAL(hear(fds[0], text, sizeof(text)), 0);
	CU_ASSERT_EQUAL(hear(fds[1], text, sizeof(text)), -1);
	fd = connect_to(stage.path);
	say(fd, "stat\n");
	serve(&stage);
	CU_ASSERT_TRUE(hear(fd, text, sizeof(text)) > 0);
	close(fd);
	for (int i = 0; i <= CONTROL_CLIENT_COUNT_MAX; i++)
		close(fds[i]);
	close_stage(&stage);
}

static void test_control_socket_open__who_is_there_already(void)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	struct control_socket *other;
	struct error err = {0};
	struct stage stage;
	char file[112];
	int fd;

	open_stage(&stage);
	CU_ASSERT_EQUAL(
		control_socket_open(stage.path, handle, &stage, &other, &err),
		-EADDRINUSE);
	CU_ASSERT_PTR_NOT_NULL(strstr(err.text, "answers at"));
	error_clear(&err);
	/* One that was killed leaves a socket that nobody answers. */
	snprintf(file, sizeof(file), "%s2", stage.path);
	snprintf(address.sun_path, sizeof(address.sun_path), "%.100s", file);
	fd = socket(AF_UNIX, SOCK_STREAM, 0);
	CU_ASSERT_EQUAL_FATAL(
		bind(fd, (const struct sockaddr *)&address, sizeof(address)),
		0);
	close(fd);
	CU_ASSERT_EQUAL(
		control_socket_open(file, handle, &stage, &other, &err), 0);
	control_socket_close(other);
	/* Nothing but a socket is removed. */
	fclose(fopen(file, "w"));
	CU_ASSERT_EQUAL(control_socket_open(file, handle, &stage, &other, &err),
		-EEXIST);
	CU_ASSERT_EQUAL(unlink(file), 0);
	close_stage(&stage);
}

static void test_control_socket_open__bad_paths(void)
{
	static const char *const paths[] = {
		"/nowhere/at/all/control",
		"/tmp/"
		"0123456789012345678901234567890123456789012345678901234567"
		"8901234567890123456789012345678901234567890123456789",
	};

	for (size_t i = 0; i < 2; i++) {
		struct control_socket *control;
		struct error err = {0};

		CU_ASSERT_NOT_EQUAL(control_socket_open(paths[i], handle, NULL,
					    &control, &err),
			0);
		CU_ASSERT_PTR_NULL(control);
		CU_ASSERT_TRUE(error_is_set(&err));
	}
}

/* Random bytes never end anything but the client's own connection. */
static void test_control_socket__random_lines(void)
{
	uint64_t seed = suite_seed(11);
	struct stage stage;
	char text[512];
	int fd;

	open_stage(&stage);
	for (int round = 0; round < 300; round++) {
		fd = connect_to(stage.path);
		for (size_t i = 0; i < sizeof(text); i++)
			text[i] = (char)suite_random(&seed);
		CU_ASSERT_EQUAL(send(fd, text, sizeof(text), MSG_NOSIGNAL),
			(ssize_t)sizeof(text));
		serve(&stage);
		close(fd);
		serve(&stage);
	}
	for (int i = 0; i < COMMAND_ID_COUNT; i++)
		CU_ASSERT_EQUAL(stage.calls[i], 0);
	fd = connect_to(stage.path);
	say(fd, "stat\n");
	serve(&stage);
	CU_ASSERT_TRUE(hear(fd, text, sizeof(text)) > 0);
	close(fd);
	close_stage(&stage);
}

/* --- the service manager --------------------------------------------------------- */

static int manager(const char *name)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	socklen_t size;

	strncpy(address.sun_path, name, sizeof(address.sun_path) - 1);
	size = (socklen_t)(offsetof(struct sockaddr_un, sun_path) +
			   strlen(name));
	if (name[0] == '@')
		address.sun_path[0] = '\0';
	CU_ASSERT_EQUAL_FATAL(
		bind(fd, (const struct sockaddr *)&address, size), 0);
	return fd;
}

static void test_notify__reaches_the_manager(void)
{
	char path[64], text[64];
	struct notify notify;

	for (int i = 0; i < 2; i++) {
		int fd;

		snprintf(path, sizeof(path), "%sheddle-notify-%d",
			i ? "@" : "/tmp/", (int)getpid());
		fd = manager(path);
		setenv("NOTIFY_SOCKET", path, 1);
		setenv("WATCHDOG_USEC", "3000000", 1);
		notify_open(&notify);
		CU_ASSERT_EQUAL(notify.watchdog_ns, 1500 * NS_PER_MS);
		/* Roles inherit the environment and must not speak. */
		CU_ASSERT_PTR_NULL(getenv("NOTIFY_SOCKET"));
		CU_ASSERT_PTR_NULL(getenv("WATCHDOG_USEC"));
		notify_send(&notify, "READY=1\nSTATUS=%s", "up");
		CU_ASSERT_TRUE(hear(fd, text, sizeof(text)) > 0);
		CU_ASSERT_STRING_EQUAL(text, "READY=1\nSTATUS=up");
		notify_close(&notify);
		close(fd);
		if (!i)
			unlink(path);
	}
}

static void test_notify__nobody_there(void)
{
	static const char *const names[] = {
		"", "@", "relative", "/nowhere/at/all"};
	struct notify notify;

	notify_open(&notify);
	CU_ASSERT_EQUAL(notify.fd, -1);
	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		setenv("NOTIFY_SOCKET", names[i], 1);
		notify_open(&notify);
		CU_ASSERT_EQUAL(notify.fd, -1);
		CU_ASSERT_EQUAL(notify.watchdog_ns, 0);
		notify_send(&notify, "READY=1");
		notify_close(&notify);
	}
}

int main(void)
{
	static const struct suite_case cases[] = {
		SUITE_CASE(command_parse__every_command),
		SUITE_CASE(command_parse__refusals),
		SUITE_CASE(command_parse__words_and_flags),
		SUITE_CASE(command_parse__quoted_words),
		SUITE_CASE(command_quote__is_understood),
		SUITE_CASE(command_render__no_empty_line_inside),
		SUITE_CASE(command_render__json_as_text),
		SUITE_CASE(heddlectl_text__is_made_from_the_table),
		SUITE_CASE(control_socket__modes_and_removal),
		SUITE_CASE(control_socket__several_lines_and_split_lines),
		SUITE_CASE(control_socket__answers_after_half_close),
		SUITE_CASE(control_socket__an_answer_that_comes_later),
		SUITE_CASE(control_socket__a_long_line_ends_the_connection),
		SUITE_CASE(control_socket__a_client_that_does_not_read),
		SUITE_CASE(control_socket__idle_and_too_many_clients),
		SUITE_CASE(control_socket_open__who_is_there_already),
		SUITE_CASE(control_socket_open__bad_paths),
		SUITE_CASE(control_socket__random_lines),
		SUITE_CASE(notify__reaches_the_manager),
		SUITE_CASE(notify__nobody_there),
	};

	return SUITE_MAIN("control", cases);
}
