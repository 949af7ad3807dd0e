/* node_roles.c - the processes of a node (start, watch, start again) */
/* SPDX-License-Identifier: Apache-2.0 */
#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "control/node_private.h"

/* Descriptors that a role inherits: the fronts' bells and two more; listeners,
 * texts, TLS; or a model's files, its pages. */
#define COMMON_INHERITED_MAX (FRONT_COUNT_MAX + 2)
#define FRONT_INHERITED_MAX (FRONT_LISTENER_COUNT_MAX + 5)
#define INHERITED_MAX (MODEL_FILE_COUNT_MAX + 4 + COMMON_INHERITED_MAX)
_Static_assert(FRONT_INHERITED_MAX + COMMON_INHERITED_MAX <= INHERITED_MAX,
	"room for both");

/* Lives in a row without a step, after which a rank's requests are failed:
 * one of them may be what ends it. */
#define IDLE_LIVES_MAX 3

const char *node_role_name(const struct node_role *role, char out[32])
{
	if (role->kind == ROLE_FRONT)
		snprintf(out, 32, "dataplane");
	else
		snprintf(out, 32, "rank %u", role->rank);
	return out;
}

static enum role_kind kind_of(const struct node *node, uint32_t index)
{
	if (index == 0)
		return ROLE_FRONT;
	return node->setup.device[index - 1] == NODE_DEVICE_CPU
		       ? ROLE_CPU_ENGINE
		       : ROLE_NULL_ENGINE;
}

void node_roles_init(struct node *node)
{
	node->role_count = 1 + node->setup.shape.rank_count;
	for (uint32_t i = 0; i < node->role_count; i++)
		node->roles[i] = (struct node_role){
			.kind = kind_of(node, i),
			.rank = i == 0 ? 0 : i - 1,
			.index = i == 0 ? ROLE_INDEX_FRONT
					: ROLE_INDEX_RANK0 + i - 1,
			.pidfd = -1,
			.channel = -1,
			.backoff_ns = NODE_BACKOFF_MIN_NS,
		};
}

/* --- starting ------------------------------------------------------------------------ */

static int open_again(struct model_file *file, struct error *err)
{
	return file->fd < 0 ? 0 : model_file_reopen(file, &file->fd, err);
}

static void close_model(struct role_model *model)
{
	if (model->config.fd >= 0)
		close(model->config.fd);
	if (model->generation.fd >= 0)
		close(model->generation.fd);
	if (model->index.fd >= 0)
		close(model->index.fd);
	for (uint32_t i = 0; i < model->weight_count; i++)
		if (model->weights[i].fd >= 0)
			close(model->weights[i].fd);
}

/* On error nothing of it is open. */
static int open_model(
	const struct node *node, struct role_model *out, struct error *err)
{
	const struct model_files *files = &node->setup.files;
	int rc;

	assert(files->weight_count <= MODEL_FILE_COUNT_MAX);
	out->config = files->config;
	out->generation = files->generation;
	out->index = files->index;
	out->weight_count = 0;
	rc = open_again(&out->config, err);
	if (rc)
		out->generation.fd = out->index.fd = -1;
	if (rc == 0 && (rc = open_again(&out->generation, err)) != 0)
		out->index.fd = -1;
	if (rc == 0)
		rc = open_again(&out->index, err);
	for (uint32_t i = 0; rc == 0 && i < files->weight_count; i++) {
		out->weights[i] = files->weights[i];
		rc = open_again(&out->weights[i], err);
		out->weight_count++;
	}
	if (rc)
		close_model(out);
	return rc;
}

static uint32_t inherited_model(const struct role_setup *setup, int *fds)
{
	const struct role_model *model = &setup->model;
	uint32_t count = 0;

	fds[count++] = model->config.fd;
	fds[count++] = model->generation.fd;
	fds[count++] = model->index.fd;
	for (uint32_t i = 0; i < model->weight_count; i++)
		fds[count++] = model->weights[i].fd;
	fds[count++] = setup->serve.memory_fd;
	return count;
}

static uint32_t inherited(
	const struct node *node, const struct role_setup *setup, int *fds)
{
	const struct front_setup *front = &node->setup.front;
	uint32_t count = 0;

	fds[count++] = node->segment_fd;
	for (uint32_t i = 0; i < node->segment.shape.front_count; i++)
		fds[count++] = setup->bell_fds[i];
	if (setup->kind == ROLE_CPU_ENGINE)
		return count + inherited_model(setup, fds + count);
	if (setup->kind != ROLE_FRONT)
		return count;
	for (uint32_t i = 0; i < front->listener_count; i++)
		fds[count++] = front->listeners[i].fd;
	fds[count++] = front->tokenizer_fd;
	fds[count++] = front->tokenizer_config_fd;
	fds[count++] = front->chat_template_fd;
	fds[count++] = front->certificate_fd;
	fds[count++] = front->certificate_key_fd;
	return count;
}

static void set_serve(const struct node *node, const struct node_role *role,
	struct role_setup *setup)
{
	setup->serve = node->setup.serve;
	setup->serve.memory_fd = node->setup.memory_fd[role->rank];
	setup->serve.resume = role->resumes;
	setup->serve.first_loads = role->first_loads;
	for (uint32_t i = 0; i < role->rank; i++)
		setup->cpu_index += node->setup.device[i] == NODE_DEVICE_CPU;
}

static struct role_setup *make_setup(
	const struct node *node, const struct node_role *role, int channel)
{
	struct role_setup *setup = calloc(1, sizeof(*setup));

	if (!setup)
		return NULL;
	setup->kind = role->kind;
	setup->rank = role->rank;
	setup->cpu_count = node->setup.cpu_count;
	setup->serve.thread_count = node->setup.serve.thread_count;
	setup->segment_fd = node->segment_fd;
	_Static_assert(
		sizeof(setup->bell_fds) == sizeof(node->segment.bell_fds),
		"as many");
	memcpy(setup->bell_fds, node->segment.bell_fds,
		sizeof(setup->bell_fds));
	setup->channel_fd = channel;
	setup->log_level =
		(uint32_t)options_number(node->options, OPTION_LOG_LEVEL);
	setup->log_target =
		(uint32_t)options_number(node->options, OPTION_LOG_TARGET);
	setup->uid = node->setup.uid;
	setup->gid = node->setup.gid;
	if (role->kind == ROLE_FRONT)
		setup->front = node->setup.front;
	else if (role->kind == ROLE_CPU_ENGINE)
		set_serve(node, role, setup);
	else
		setup->null = node->setup.null;
	if (role->kind == ROLE_NULL_ENGINE)
		setup->null.first_loads = role->first_loads;
	return setup;
}

static int watch(const struct node *node, const struct node_role *role,
	struct error *err)
{
	uint32_t index = (uint32_t)(role - node->roles);
	struct epoll_event ended = {.events = EPOLLIN, .data.u64 = index};
	struct epoll_event heard = {
		.events = EPOLLIN, .data.u64 = NODE_ROLE_COUNT_MAX + index};

	if (epoll_ctl(node->epoll_fd, EPOLL_CTL_ADD, role->pidfd, &ended) ||
		epoll_ctl(node->epoll_fd, EPOLL_CTL_ADD, role->channel, &heard))
		return error_set(err, errno, "epoll: %s", strerror(errno));
	return 0;
}

/* Beats of a role: the dataplane has one for each front. */
static uint32_t beat_count(
	const struct node *node, const struct node_role *role)
{
	return role->kind == ROLE_FRONT ? node->segment.shape.front_count : 1;
}

static struct role_beat *beat_of(
	const struct node *node, const struct node_role *role, uint32_t at)
{
	const struct segment view = segment_view(&node->segment, at);

	return segment_beat(&view, role->index);
}

static void reset_beat(struct role_beat *beat)
{
	__atomic_store_n(&beat->life, beat->life + 1, __ATOMIC_RELAXED);
	__atomic_store_n(&beat->pid, 0, __ATOMIC_RELAXED);
	__atomic_store_n(&beat->pending, 0, __ATOMIC_RELAXED);
	__atomic_store_n(&beat->beat_ns, mono_now().ns, __ATOMIC_RELAXED);
	__atomic_store_n(
		&beat->state, (uint32_t)BEAT_STARTING, __ATOMIC_RELEASE);
}

static int spawn(struct node *node, struct node_role *role, int channel,
	struct error *err)
{
	struct role_setup *setup = make_setup(node, role, channel);
	int fds[INHERITED_MAX];
	uint32_t count;
	int rc = 0;

	if (!setup)
		return error_set(err, ENOMEM, "out of memory");
	if (role->kind == ROLE_CPU_ENGINE)
		rc = open_model(node, &setup->model, err);
	if (rc) {
		free(setup);
		return rc;
	}
	count = inherited(node, setup, fds);
	fds[count++] = channel;
	assert(count <= INHERITED_MAX);
	/* Before its process exists nobody else writes them. */
	for (uint32_t i = 0; i < beat_count(node, role); i++)
		reset_beat(beat_of(node, role, i));
	rc = role_spawn(setup, fds, count, &role->pid, &role->pidfd, err);
	if (role->kind == ROLE_CPU_ENGINE)
		close_model(&setup->model);
	free(setup);
	return rc;
}

static uint64_t progress_of(
	const struct node *node, const struct node_role *role)
{
	return __atomic_load_n(
		&segment_beat(&node->segment, role->index)->progress,
		__ATOMIC_RELAXED);
}

int node_role_start(
	struct node *node, struct node_role *role, struct error *err)
{
	int pair[2], rc;

	assert(role->pid == 0);
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair))
		return error_set(err, errno, "socketpair: %s", strerror(errno));
	if (role->kind != ROLE_FRONT)
		role->first_loads =
			adapters_rank_starts(node->adapters, role->rank);
	rc = spawn(node, role, pair[1], err);
	close(pair[1]);
	if (rc) {
		close(pair[0]);
		return rc;
	}
	role->channel = pair[0];
	(void)fcntl(role->channel, F_SETFL, O_NONBLOCK);
	role->ready = false;
	role->restart_ns = 0;
	role->progress = progress_of(node, role);
	role->started_ns = mono_now().ns;
	role->start_count++;
	rc = watch(node, role, err);
	if (rc == 0 && role->kind != ROLE_FRONT)
		adapters_rank_up(node->adapters, role->rank, true);
	return rc;
}

/* --- ending ---------------------------------------------------------------------------- */

/* The engine's half of what the rank had, in the name of the dead. */
static void close_slots(const struct node *node, uint32_t rank)
{
	for (uint32_t i = 0; i < node->segment.shape.slot_count; i++) {
		struct request_slot *slot = segment_slot(&node->segment, i);
		enum engine_state own;

		if (slot->rank != rank || !engine_state_read(slot, &own) ||
			own == ENGINE_IDLE || engine_state_terminal(own))
			continue;
		slot->finish = FINISH_ENGINE_LOST;
		engine_set_state(slot, &own, ENGINE_FAILED);
	}
}

static void close_rank(const struct node *node, const struct node_role *role)
{
	const struct segment *segment = &node->segment;
	const struct ring_message message = {
		.kind = RING_CLOSE,
		.generation = segment_beat(segment, role->index)->life,
		.value = role->rank,
	};

	close_slots(node, role->rank);
	for (uint32_t i = 0; i < segment->shape.front_count; i++) {
		const struct segment view = segment_view(segment, i);

		if (!ring_push(segment_control_ring(&view, ROLE_INDEX_FRONT),
			    segment->shape.ring_count, &message))
			log_error("the dataplane does not read: it was not "
				  "told that rank %u died",
				role->rank);
		segment_ring_bell(&view);
	}
}

/*
 * A process that was forked and did not get to exec yet has copies of these
 * descriptors: closing alone does not end the watching.
 */
static void unwatch(const struct node *node, struct node_role *role)
{
	(void)epoll_ctl(node->epoll_fd, EPOLL_CTL_DEL, role->pidfd, NULL);
	(void)epoll_ctl(node->epoll_fd, EPOLL_CTL_DEL, role->channel, NULL);
	close(role->pidfd);
	close(role->channel);
	role->pidfd = role->channel = -1;
}

static void describe_end(pid_t pid, int status, char *out, size_t size)
{
	if (pid < 0)
		snprintf(out, size, "ended");
	else if (WIFSIGNALED(status))
		snprintf(out, size, "was ended by signal %d (%s)",
			WTERMSIG(status), strsignal(WTERMSIG(status)));
	else
		snprintf(
			out, size, "ended with status %d", WEXITSTATUS(status));
}

/*
 * Do the requests of a rank that died wait for its next life? Not those of one
 * that keeps nothing, nor where no life will follow, nor when lives end before
 * they get anywhere.
 */
static bool may_resume(struct node *node, struct node_role *role)
{
	if (role->kind != ROLE_CPU_ENGINE || node->state != NODE_SERVING)
		return false;
	if (progress_of(node, role) != role->progress) {
		role->idle_lives = 0;
		role->backoff_ns = NODE_BACKOFF_MIN_NS;
	} else if (++role->idle_lives >= IDLE_LIVES_MAX) {
		role->idle_lives = 0;
		return false;
	}
	return true;
}

/* Later each time, unless it lived long enough. */
static void plan_restart(struct node_role *role, uint64_t now_ns)
{
	if (now_ns - role->started_ns >= NODE_BACKOFF_MAX_NS)
		role->backoff_ns = NODE_BACKOFF_MIN_NS;
	role->restart_ns = now_ns + role->backoff_ns;
	role->backoff_ns *= 2;
	if (role->backoff_ns > NODE_BACKOFF_MAX_NS)
		role->backoff_ns = NODE_BACKOFF_MAX_NS;
}

void node_role_ended(struct node *node, struct node_role *role)
{
	bool expected =
		node->state == NODE_ENDING ||
		(node->state == NODE_DRAINING && role->kind == ROLE_FRONT);
	char name[32], how[128];
	pid_t pid = role->pid, ended;
	int status = 0;

	ended = waitpid(pid, &status, WNOHANG);
	if (ended == 0)
		return; /* it lives */
	node_role_heard(node, role); /* its last word */
	describe_end(ended, status, how, sizeof(how));
	unwatch(node, role);
	role->pid = 0;
	role->ready = false;
	for (uint32_t i = 0; i < beat_count(node, role); i++)
		__atomic_store_n(&beat_of(node, role, i)->state,
			(uint32_t)BEAT_DEAD, __ATOMIC_RELEASE);
	if (role->kind == ROLE_FRONT)
		node_capture_lost(node);
	if (expected) {
		if (role->kind != ROLE_FRONT)
			adapters_rank_up(node->adapters, role->rank, false);
		return;
	}
	log_warnx("%s (pid %d) %s", node_role_name(role, name), (int)pid, how);
	if (!role->last_end[0])
		snprintf(role->last_end, sizeof(role->last_end), "%s", how);
	if (role->kind != ROLE_FRONT) {
		role->resumes = may_resume(node, role);
		if (!role->resumes)
			close_rank(node, role);
		adapters_rank_died(node->adapters, role->rank, role->resumes);
	}
	if (node->state == NODE_STARTING) {
		error_set(&node->failure, EIO, "%s could not start: %s", name,
			role->last_end);
		node->failed = true;
	} else if (node->state == NODE_SERVING) {
		plan_restart(role, mono_now().ns);
		/* Clients wait for one that was at work. */
		if (role->resumes && role->idle_lives == 0)
			role->restart_ns = mono_now().ns;
	}
}

void node_roles_give_up(struct node *node)
{
	for (uint32_t i = 0; i < node->role_count; i++) {
		struct node_role *role = &node->roles[i];

		if (role->pid == 0 && role->resumes)
			close_rank(node, role);
		role->resumes = false;
	}
}

void node_role_heard(struct node *node, struct node_role *role)
{
	struct role_message message = {0};
	struct role_fds fds;
	char name[32];

	while (role->channel >= 0 &&
		role_receive(role->channel, &message, &fds) == 1) {
		role_fds_close(&fds); /* nothing was asked for */
		if (message.kind == ROLE_FAILED)
			snprintf(role->last_end, sizeof(role->last_end), "%.*s",
				ERROR_TEXT_BYTES - 1, message.text);
		else if (message.kind == ROLE_RELOADED && message.text[0])
			log_error("%s: refused the new configuration: %s",
				node_role_name(role, name), message.text);
		else if (message.kind == ROLE_ADAPTER_ANSWER)
			node_adapters_heard(node, role, &message);
		else if (message.kind == ROLE_ASK)
			node_adapters_asked(node, role, &message);
		else if (message.kind == ROLE_CAPTURE_ANSWER)
			node_capture_heard(node, &message);
	}
}

void node_roles_kill(struct node *node)
{
	for (uint32_t i = 0; i < node->role_count; i++)
		if (node->roles[i].pid)
			kill(node->roles[i].pid, SIGKILL);
}

/* --- watching ---------------------------------------------------------------------------- */

static void see_ready(struct node *node, struct node_role *role)
{
	char name[32];

	if (!role->pid || role->ready)
		return;
	for (uint32_t i = 0; i < beat_count(node, role); i++)
		if (__atomic_load_n(&beat_of(node, role, i)->state,
			    __ATOMIC_ACQUIRE) != BEAT_READY)
			return;
	role->ready = true;
	role->last_end[0] = '\0';
	if (role->start_count > 1)
		log_info("%s serves again (pid %d)", node_role_name(role, name),
			(int)role->pid);
}

/* One that cannot even be started is a life that got nowhere. */
static void start_again(
	struct node *node, struct node_role *role, struct mono now)
{
	struct error err = {0};
	char name[32];

	if (node_role_start(node, role, &err) == 0)
		return;
	log_error("%s: %s", node_role_name(role, name), err.text);
	/* It may run unwatched: that is no life for a role. */
	if (role->pid) {
		kill(role->pid, SIGKILL);
		return;
	}
	plan_restart(role, now.ns);
	if (role->resumes && ++role->idle_lives >= IDLE_LIVES_MAX) {
		role->idle_lives = 0;
		role->resumes = false;
		close_rank(node, role);
	}
}

void node_roles_tick(struct node *node, struct mono now)
{
	for (uint32_t i = 0; i < node->role_count; i++) {
		struct node_role *role = &node->roles[i];

		if (role->pid == 0 && role->restart_ns != 0 &&
			now.ns >= role->restart_ns &&
			node->state == NODE_SERVING)
			start_again(node, role, now);
		see_ready(node, role);
	}
}

bool node_roles_ready(const struct node *node)
{
	for (uint32_t i = 0; i < node->role_count; i++)
		if (!node->roles[i].ready ||
			(i > 0 && adapters_rank_loads(node->adapters, i - 1)))
			return false;
	return true;
}

bool node_roles_gone(const struct node *node, bool front_only)
{
	uint32_t count = front_only ? 1 : node->role_count;

	for (uint32_t i = 0; i < count; i++)
		if (node->roles[i].pid)
			return false;
	return true;
}

uint64_t node_roles_next(const struct node *node)
{
	uint64_t next = UINT64_MAX;

	for (uint32_t i = 0; i < node->role_count; i++) {
		const struct node_role *role = &node->roles[i];

		if (role->pid == 0 && role->restart_ns != 0 &&
			role->restart_ns < next)
			next = role->restart_ns;
	}
	return next;
}
