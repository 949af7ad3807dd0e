/* role.c - a role in a process of its own (setup -> dataplane or engine) */
/* SPDX-License-Identifier: Apache-2.0 */
#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "control/role.h"
#include "control/role_cores.h"
#include "control/role_drop.h"
#include "dataplane/fronts.h"

/* --- in control: start one ---------------------------------------------------------- */

static void keep_open(int fd)
{
	int flags = fd < 0 ? -1 : fcntl(fd, F_GETFD);

	if (flags >= 0)
		(void)fcntl(fd, F_SETFD, flags & ~FD_CLOEXEC);
}

/* Between fork and exec: only what is safe after fork. */
static _Noreturn void become(const int *fds, uint32_t count, int setup_fd,
	pid_t parent, char *const argv[])
{
	sigset_t none;

	/* A role without its control would serve what nobody can stop. */
	prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0);
	if (getppid() != parent)
		_exit(1);
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	for (uint32_t i = 0; i < count; i++)
		keep_open(fds[i]);
	keep_open(setup_fd);
	execv("/proc/self/exe", argv);
	_exit(127);
}

static int open_pidfd(pid_t pid)
{
	return (int)syscall(SYS_pidfd_open, pid, 0);
}

int role_spawn(const struct role_setup *setup, const int *fds, uint32_t count,
	pid_t *out_pid, int *out_pidfd, struct error *err)
{
	static const char *const names[ROLE_KIND_COUNT] = {
		"heddled: dataplane", "heddled: engine", "heddled: engine"};
	char name[32], flag[] = "--role", number[16];
	char *argv[] = {name, flag, number, NULL};
	pid_t self = getpid(), pid;
	int setup_fd, rc = role_setup_write(setup, &setup_fd, err);

	if (rc)
		return rc;
	snprintf(name, sizeof(name), "%s", names[setup->kind]);
	snprintf(number, sizeof(number), "%d", setup_fd);
	pid = fork();
	if (pid == 0)
		become(fds, count, setup_fd, self, argv);
	rc = errno;
	close(setup_fd);
	if (pid < 0)
		return error_set(
			err, rc, "cannot start a process: %s", strerror(rc));
	*out_pid = pid;
	*out_pidfd = open_pidfd(pid);
	if (*out_pidfd < 0) {
		rc = errno;
		kill(pid, SIGKILL);
		return error_set(
			err, rc, "cannot watch a process: %s", strerror(rc));
	}
	return 0;
}

/* --- in the role -------------------------------------------------------------------- */

struct role {
	struct role_setup setup;
	struct segment segment;
	struct fronts *fronts; /* of the dataplane */
	struct role_outbox *outbox;
	struct engine_mail *mail; /* of an engine */
	uint32_t stop; /* atomic; of an engine */
};

static void stop_role(struct role *role)
{
	if (role->fronts) {
		fronts_stop(role->fronts);
		return;
	}
	__atomic_store_n(&role->stop, 1, __ATOMIC_RELEASE);
	wake_post(segment_wake(
		&role->segment, ROLE_INDEX_RANK0 + role->setup.rank));
}

/* What of a new setup may change. */
static void reload_role(struct role *role, struct role_fds *fds)
{
	struct role_setup *fresh = malloc(sizeof(*fresh));
	struct error err = {0};
	int rc = -ENOMEM;

	if (!fresh)
		error_set(&err, ENOMEM, "out of memory");
	else
		rc = role_setup_read(dup(fds->fd[0]), fresh, &err);
	if (rc == 0 && role->fronts) {
		fresh->front.certificate_fd = fds->count > 1 ? fds->fd[1] : -1;
		fresh->front.certificate_key_fd =
			fds->count > 2 ? fds->fd[2] : -1;
		fronts_reload(role->fronts, &fresh->front, &err);
	}
	free(fresh);
	(void)role_send(role->setup.channel_fd, ROLE_RELOADED, err.text, NULL);
}

/* By the rank's thread. */
static void tell_control(void *arg, const struct engine_answer *answer)
{
	const struct role *role = arg;
	struct role_message message = {.kind = ROLE_ADAPTER_ANSWER,
		.what = answer->kind,
		.instance = answer->instance,
		.serial = answer->serial,
		.rc = answer->rc};

	snprintf(message.text, sizeof(message.text), "%s", answer->err.text);
	role_outbox_put(role->outbox, &message);
}

/* What cannot be taken in is answered here: control waits for it. */
static void take_command(struct role *role, struct role_fds *fds)
{
	struct engine_command command;
	struct engine_answer answer = {0};
	int rc = role_adapter_take(fds, &command);

	if (rc) {
		log_error("what control asked for cannot be read");
		return;
	}
	answer.kind = command.kind;
	answer.instance = command.instance;
	answer.serial = command.serial;
	rc = engine_mail_post(role->mail, &command);
	if (rc == 0)
		return;
	answer.rc = error_set(&answer.err, -rc,
		"%s: the rank has no room for a command: %s", command.name,
		strerror(-rc));
	tell_control(role, &answer);
}

/* By the network thread. */
static int ask_control(void *arg, const struct front_ask *ask)
{
	const struct role *role = arg;
	struct role_message message = {.kind = ROLE_ASK,
		.what = ask->kind,
		.id = ask->id,
		.inplace = ask->inplace};

	memcpy(message.name, ask->name, sizeof(message.name));
	memcpy(message.text, ask->path, sizeof(ask->path));
	return role_send_message(role->setup.channel_fd, &message, NULL);
}

static void capture(struct role *role, const struct role_message *message,
	struct role_fds *fds)
{
	struct role_message answer = {.kind = ROLE_CAPTURE_ANSWER};
	struct error err = {0};

	if (fds->count == 1) {
		fds->count = 0; /* it is taken */
		answer.rc = fronts_capture_start(role->fronts, fds->fd[0],
			message->bytes, message->id, &err);
	} else {
		answer.rc = fronts_capture_stop(role->fronts, &err);
	}
	snprintf(answer.text, sizeof(answer.text), "%s", err.text);
	role_outbox_put(role->outbox, &answer);
}

static void *listen_to_control(void *arg)
{
	struct role *role = arg;
	struct role_message message = {0};
	struct role_fds fds;

	for (;;) {
		role_outbox_wait(role->outbox);
		if (role_receive(role->setup.channel_fd, &message, &fds) != 1)
			break;
		if (message.kind == ROLE_STOP)
			stop_role(role);
		else if (message.kind == ROLE_RELOAD && fds.count > 0)
			reload_role(role, &fds);
		else if (message.kind == ROLE_ADAPTER && role->mail)
			take_command(role, &fds);
		else if (message.kind == ROLE_ASK_ANSWER && role->fronts)
			fronts_control_answer(role->fronts, message.id,
				message.rc, message.text);
		else if (message.kind == ROLE_CAPTURE && role->fronts)
			capture(role, &message, &fds);
		role_fds_close(&fds);
	}
	return NULL;
}

static int start_listening(struct role *role, struct error *err)
{
	pthread_t thread;
	int rc;

	if (role_outbox_create(role->setup.channel_fd, &role->outbox))
		return error_set(err, ENOMEM, "out of memory");
	rc = pthread_create(&thread, NULL, listen_to_control, role);

	if (rc)
		return error_set(
			err, rc, "cannot start a thread: %s", strerror(rc));
	/* It ends with the process. */
	pthread_detach(thread);
	return 0;
}

static void note_start(struct role *role, uint32_t index)
{
	struct role_beat *beat = segment_beat(&role->segment, index);

	__atomic_store_n(&beat->pid, (uint32_t)getpid(), __ATOMIC_RELAXED);
	__atomic_store_n(&beat->beat_ns, mono_now().ns, __ATOMIC_RELAXED);
	__atomic_store_n(
		&beat->state, (uint32_t)BEAT_STARTING, __ATOMIC_RELEASE);
}

static struct role_cores cores_of(const struct role *role)
{
	return (struct role_cores){.rank_count = role->setup.cpu_count,
		.thread_count = role->setup.serve.thread_count,
		.loop_count = role->segment.shape.front_count};
}

static void keep_to(const cpu_set_t *own)
{
	if (sched_setaffinity(0, sizeof(*own), own))
		log_warn("cannot keep to a part of the cores");
}

static void take_front_cores(struct role *role)
{
	const struct role_cores cores = cores_of(role);
	cpu_set_t all, own;

	if (cores.rank_count == 0 || sched_getaffinity(0, sizeof(all), &all) ||
		!role_cores_front(&all, &cores, &own))
		return;
	keep_to(&own);
	role->setup.front.has_core = role_cores_apart(&all, &cores);
}

/* Its other threads may be anywhere in the part, but see lane_cores.h. */
static void take_rank_cores(struct role *role)
{
	struct role_setup *setup = &role->setup;
	const struct role_cores cores = cores_of(role);
	cpu_set_t all, own;

	if (setup->cpu_index >= cores.rank_count ||
		sched_getaffinity(0, sizeof(all), &all) ||
		!role_cores_rank(&all, &cores, setup->cpu_index, &own))
		return;
	if (cores.rank_count > 1)
		keep_to(&own);
	setup->serve.compute_core_count =
		role_cores_compute(&cores, (uint32_t)CPU_COUNT(&own));
}

static int run_front(struct role *role, struct error *err)
{
	int rc;

	note_start(role, ROLE_INDEX_FRONT);
	/* Before there are threads, which inherit it. */
	take_front_cores(role);
	rc = fronts_create(
		&role->setup.front, &role->segment, &role->fronts, err);
	if (rc)
		return rc;
	fronts_set_control(
		role->fronts, &(struct front_control){role, ask_control});
	rc = start_listening(role, err);
	/* All is open, and all threads are there. */
	if (rc == 0)
		rc = role_drop(role->setup.uid, role->setup.gid, err);
	if (rc == 0)
		rc = fronts_run(role->fronts, err);
	/* The file of a capture is whole. */
	(void)fronts_capture_stop(role->fronts, NULL);
	return rc;
}

static int run_cpu(
	struct role *role, const struct engine_place *place, struct error *err)
{
	struct role_setup *setup = &role->setup;
	const struct model_files files = {
		.config = setup->model.config,
		.generation = setup->model.generation,
		.index = setup->model.index,
		.weights = setup->model.weights,
		.weight_count = setup->model.weight_count,
	};

	if (files.weight_count > MODEL_FILE_COUNT_MAX)
		return error_set(
			err, EINVAL, "%u weight files", files.weight_count);
	take_rank_cores(role);
	return engine_serve_run(place, &setup->serve, &files, err);
}

static int run_engine(struct role *role, struct error *err)
{
	struct engine_place place = {.segment = &role->segment,
		.rank = role->setup.rank,
		.stop = &role->stop};
	int rc;

	if (role->setup.rank >= role->segment.shape.rank_count)
		return error_set(err, EINVAL, "the node has no rank %u",
			role->setup.rank);
	note_start(role, ROLE_INDEX_RANK0 + role->setup.rank);
	if (engine_mail_create(segment_wake(&role->segment,
				       ROLE_INDEX_RANK0 + role->setup.rank),
		    tell_control, role, &role->mail))
		return error_set(err, ENOMEM, "out of memory");
	rc = start_listening(role, err);
	if (rc)
		return rc;
	place.mail = role->mail;
	if (role->setup.kind == ROLE_CPU_ENGINE)
		return run_cpu(role, &place, err);
	return engine_null_run(&place, &role->setup.null, err);
}

static int run(struct role *role, int setup_fd, struct error *err)
{
	int rc = role_setup_read(setup_fd, &role->setup, err);

	if (rc)
		return rc;
	log_open(role->setup.kind == ROLE_FRONT ? "heddled dataplane"
						: "heddled engine",
		(enum log_target)role->setup.log_target,
		(enum log_level)role->setup.log_level);
	rc = segment_attach(role->setup.segment_fd, &role->segment, err);
	if (rc == 0) {
		memcpy(role->segment.bell_fds, role->setup.bell_fds,
			sizeof(role->segment.bell_fds));
		rc = role->setup.kind == ROLE_FRONT ? run_front(role, err)
						    : run_engine(role, err);
	}
	if (rc)
		(void)role_send(
			role->setup.channel_fd, ROLE_FAILED, err->text, NULL);
	return rc;
}

int role_main(int setup_fd)
{
	struct role *role = calloc(1, sizeof(*role));
	struct error err = {0};
	int rc;

	signal(SIGTERM, SIG_IGN);
	signal(SIGINT, SIG_IGN);
	signal(SIGHUP, SIG_IGN);
	signal(SIGPIPE, SIG_IGN);
	if (!role)
		return 1;
	rc = run(role, setup_fd, &err);
	if (rc)
		log_error("%s", err.text);
	/*
	 * What the threads still use ends with the process: freeing it here
	 * would only race with the thread that listens to control.
	 */
	fflush(stderr);
	_exit(rc ? 1 : 0);
}
