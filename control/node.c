/* node.c - a node: the process that starts, watches and stops the roles */
/* SPDX-License-Identifier: Apache-2.0 */
#include <assert.h>
#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include "control/node_private.h"
#include "control/version.h"

#define TICK_NS (100 * NS_PER_MS)
/* While roles start, so that "ready" is not late, or adapters go. */
#define STARTING_TICK_NS (2 * NS_PER_MS)
/* After its own limit the dataplane gets this long to close. */
#define DRAIN_GRACE_NS (5 * NS_PER_S)
#define HURRY_NS (3 * NS_PER_S)
#define STALE_NS (2 * NS_PER_S)
/* Descriptors of the dataplane beside its connections. */
#define OTHER_FILES ((rlim_t)128)

enum { TAG_SIGNAL = 2 * NODE_ROLE_COUNT_MAX, TAG_CONTROL };

const char *node_state_name(enum node_state state)
{
	static const char *const names[] = {
		[NODE_STARTING] = "starting",
		[NODE_SERVING] = "serving",
		[NODE_DRAINING] = "draining",
		[NODE_ENDING] = "ending",
		[NODE_GONE] = "gone",
	};

	return names[state];
}

/* --- stopping ------------------------------------------------------------------------- */

/* Returns false where the role does not run. */
static bool tell_stop(const struct node_role *role)
{
	if (role->pid == 0)
		return false;
	(void)role_send(role->channel, ROLE_STOP, "", NULL);
	return true;
}

static void begin_ending(struct node *node)
{
	node->state = NODE_ENDING;
	node->kill_ns = mono_now().ns + HURRY_NS;
	for (uint32_t i = 1; i < node->role_count; i++)
		(void)tell_stop(&node->roles[i]);
}

static void begin_draining(struct node *node)
{
	log_info("draining: open requests may end, at most for %s",
		options_text(node->options, OPTION_DRAIN_TIMEOUT));
	notify_send(&node->notify, "STOPPING=1\nSTATUS=draining");
	node->state = NODE_DRAINING;
	node->kill_ns = mono_now().ns +
			node->setup.front.limits.drain_timeout_ns +
			DRAIN_GRACE_NS;
	node_roles_give_up(node);
	if (!tell_stop(&node->roles[0]))
		begin_ending(node);
	/* Ours too: else clients would wait in a queue that nobody empties. */
	node_setup_close_listeners(&node->setup);
}

void node_stop(struct node *node)
{
	node->stop_count++;
	if (node->stop_count == 1) {
		begin_draining(node);
		return;
	}
	if (node->stop_count == 2 && node->state == NODE_DRAINING) {
		log_info("told to stop again: open requests end now");
		(void)tell_stop(&node->roles[0]);
		node->kill_ns = mono_now().ns + HURRY_NS;
		return;
	}
	node_roles_kill(node);
}

void node_stop_now(struct node *node)
{
	if (node->stop_count == 0)
		node_stop(node);
	if (node->stop_count == 1)
		node_stop(node);
}

/* --- reloading ------------------------------------------------------------------------- */

/* The dataplane takes keys, limits and certificate from a new setup. */
static int send_setup(const struct node *node, struct error *err)
{
	const struct node_role *front = &node->roles[0];
	struct role_setup *setup;
	struct role_fds fds = {.count = 1};
	int rc;

	/* One that is about to start gets the new setup anyway. */
	if (front->pid == 0)
		return 0;
	setup = calloc(1, sizeof(*setup));
	if (!setup)
		return error_set(err, ENOMEM, "out of memory");
	setup->kind = ROLE_FRONT;
	setup->front = node->setup.front;
	rc = role_setup_write(setup, &fds.fd[0], err);
	free(setup);
	if (rc)
		return rc;
	if (node->setup.front.certificate_fd >= 0) {
		fds.fd[fds.count++] = node->setup.front.certificate_fd;
		fds.fd[fds.count++] = node->setup.front.certificate_key_fd;
	}
	rc = role_send(front->channel, ROLE_RELOAD, "", &fds);
	close(fds.fd[0]);
	return rc ? error_set(err, -rc, "the dataplane cannot be told: %s",
			    strerror(-rc))
		  : 0;
}

static void set_log(const struct node *node)
{
	log_open("heddled",
		(enum log_target)options_number(
			node->options, OPTION_LOG_TARGET),
		(enum log_level)options_number(
			node->options, OPTION_LOG_LEVEL));
}

int node_reload(
	struct node *node, char *kept, size_t kept_size, struct error *err)
{
	struct options fresh;
	int rc;

	kept[0] = '\0';
	notify_send(&node->notify, "RELOADING=1\nMONOTONIC_USEC=%llu",
		(unsigned long long)(mono_now().ns / NS_PER_US));
	rc = options_load(node->line, &fresh, err);
	if (rc == 0) {
		rc = node_setup_reload(&node->setup, &fresh, err);
		if (rc == 0) {
			options_reload(node->options, &fresh, kept, kept_size);
			set_log(node);
			rc = send_setup(node, err);
		}
		options_release(&fresh);
	}
	if (rc)
		log_error("reload: %s; the old configuration stays", err->text);
	else
		log_info("configuration read again");
	if (kept[0])
		log_warnx("needs a restart to change: %s", kept);
	notify_send(&node->notify, "READY=1\nSTATUS=%s",
		rc ? "serving; the last reload failed" : "serving");
	return rc;
}

/* --- the loop --------------------------------------------------------------------------- */

static void take_signals(struct node *node)
{
	struct signalfd_siginfo info;
	char kept[256];

	while (read(node->signal_fd, &info, sizeof(info)) == sizeof(info)) {
		struct error err = {0};

		if (info.ssi_signo == SIGHUP) {
			if (node->state <= NODE_SERVING)
				(void)node_reload(
					node, kept, sizeof(kept), &err);
		} else {
			node_stop(node);
		}
	}
}

/* "cpu,cpu", or what the null device is. */
static void describe_devices(const struct node *node, char *out, size_t size)
{
	const struct option_value *devices =
		&node->options->value[OPTION_DEVICE];
	size_t used = 0;

	if (node->setup.cpu_count == 0) {
		snprintf(out, size,
			"null (pseudo-random tokens, nothing is computed)");
		return;
	}
	for (uint32_t i = 0; i < devices->count && used < size; i++)
		used += (size_t)snprintf(out + used, size - used, "%s%s",
			i ? "," : "", devices->items[i]);
}

static void print_ready(const struct node *node)
{
	const struct front_setup *front = &node->setup.front;
	char lists[2][256] = {"", ""}, devices[128];

	for (uint32_t i = 0; i < front->listener_count; i++) {
		char *list = lists[front->listeners[i].service == FRONT_ADMIN];
		size_t used = strlen(list);

		snprintf(list + used, sizeof(lists[0]) - used, "%s%s://%s",
			used ? " " : "",
			front->listeners[i].tls ? "https" : "http",
			node->setup.address[i]);
	}
	describe_devices(node, devices, sizeof(devices));
	log_info("ready: api %s, admin %s, model %s, device %s, %u ms",
		lists[0], lists[1], front->model.name[0], devices,
		(unsigned)((node->ready_ns - node->begun_ns) / NS_PER_MS));
}

static void become_ready(struct node *node, struct mono now)
{
	node->state = NODE_SERVING;
	node->ready_ns = now.ns;
	print_ready(node);
	notify_send(&node->notify, "READY=1\nSTATUS=serving %s",
		node->setup.front.model.name[0]);
}

/* Of the front that has beaten least lately. */
static uint64_t fronts_beaten_ns(const struct node *node)
{
	uint64_t least = UINT64_MAX;

	for (uint32_t i = 0; i < node->segment.shape.front_count; i++) {
		const struct segment view = segment_view(&node->segment, i);
		uint64_t beaten = __atomic_load_n(
			&segment_beat(&view, ROLE_INDEX_FRONT)->beat_ns,
			__ATOMIC_RELAXED);

		least = beaten < least ? beaten : least;
	}
	return least;
}

static void beat(struct node *node, struct mono now)
{
	struct role_beat *own =
		segment_beat(&node->segment, ROLE_INDEX_CONTROL);
	uint64_t beaten = fronts_beaten_ns(node);

	__atomic_store_n(&own->pid, (uint32_t)getpid(), __ATOMIC_RELAXED);
	__atomic_store_n(&own->beat_ns, now.ns, __ATOMIC_RELAXED);
	__atomic_store_n(&own->state,
		(uint32_t)(node->state == NODE_SERVING ? BEAT_READY
						       : BEAT_DRAINING),
		__ATOMIC_RELEASE);
	/* A dataplane that stands still is for the manager to end. */
	if (node->notify.watchdog_ns &&
		now.ns - node->watchdog_ns >= node->notify.watchdog_ns &&
		beaten + STALE_NS > now.ns) {
		node->watchdog_ns = now.ns;
		notify_send(&node->notify, "WATCHDOG=1");
	}
}

static void tick(struct node *node, struct mono now)
{
	node_roles_tick(node, now);
	node_adapters_tick(node);
	if (node->state == NODE_STARTING && node_roles_ready(node))
		become_ready(node, now);
	if (node->failed && node->stop_count == 0) {
		node->stop_count = 3;
		begin_ending(node);
		node_roles_kill(node);
	}
	if (node->state == NODE_DRAINING && node_roles_gone(node, true))
		begin_ending(node);
	if (node->kill_ns && now.ns >= node->kill_ns &&
		!node_roles_gone(node, false)) {
		log_warnx("some roles did not end in time: killed");
		node_roles_kill(node);
		node->kill_ns = 0;
	}
	if (node->state == NODE_ENDING && node_roles_gone(node, false))
		node->state = NODE_GONE;
	beat(node, now);
}

static void dispatch(struct node *node, uint64_t tag, struct mono now)
{
	if (tag == TAG_SIGNAL)
		take_signals(node);
	else if (tag == TAG_CONTROL)
		control_socket_serve(node->control, now);
	else if (tag >= NODE_ROLE_COUNT_MAX)
		node_role_heard(node, &node->roles[tag - NODE_ROLE_COUNT_MAX]);
	else if (node->roles[tag].pid)
		node_role_ended(node, &node->roles[tag]);
}

static int wait_ms(const struct node *node, struct mono now)
{
	uint64_t tick_ns =
		node->state == NODE_STARTING || adapters_pending(node->adapters)
			? STARTING_TICK_NS
			: TICK_NS;
	uint64_t next = now.ns + tick_ns, due = node_roles_next(node);

	if (due < next)
		next = due;
	if (node->kill_ns && node->kill_ns < next)
		next = node->kill_ns;
	return next <= now.ns
		       ? 0
		       : (int)((next - now.ns + NS_PER_MS - 1) / NS_PER_MS);
}

static int loop(struct node *node, struct error *err)
{
	while (node->state != NODE_GONE) {
		struct epoll_event events[16];
		struct mono now = mono_now();
		int count = epoll_wait(
			node->epoll_fd, events, 16, wait_ms(node, now));

		if (count < 0 && errno != EINTR)
			return error_set(
				err, errno, "epoll: %s", strerror(errno));
		now = mono_now();
		/* A role's channel that hung up goes with its process. */
		for (int i = 0; i < count; i++)
			dispatch(node, events[i].data.u64, now);
		control_socket_serve(node->control, now);
		tick(node, now);
	}
	return 0;
}

/* --- start and end ------------------------------------------------------------------------- */

/* The dataplane needs a descriptor for each connection. */
static void raise_file_limit(struct node *node)
{
	struct front_limits *limits = &node->setup.front.limits;
	rlim_t need = (rlim_t)limits->connection_count + OTHER_FILES;
	struct rlimit limit;

	if (getrlimit(RLIMIT_NOFILE, &limit))
		return;
	if (limit.rlim_cur < need) {
		rlim_t most = limit.rlim_max < need ? limit.rlim_max : need;

		limit.rlim_cur = most;
		(void)setrlimit(RLIMIT_NOFILE, &limit);
	}
	if (limit.rlim_cur < need && limit.rlim_cur > 2 * OTHER_FILES) {
		limits->connection_count =
			(uint32_t)(limit.rlim_cur - OTHER_FILES);
		log_warnx("the limit of open files allows %u connections, not "
			  "%u",
			limits->connection_count,
			(unsigned)(need - OTHER_FILES));
	}
}

static int watch_fd(
	const struct node *node, int fd, uint64_t tag, struct error *err)
{
	struct epoll_event event = {.events = EPOLLIN, .data.u64 = tag};

	if (epoll_ctl(node->epoll_fd, EPOLL_CTL_ADD, fd, &event))
		return error_set(err, errno, "epoll: %s", strerror(errno));
	return 0;
}

static int open_signals(struct node *node, struct error *err)
{
	sigset_t set;

	signal(SIGPIPE, SIG_IGN);
	sigemptyset(&set);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGINT);
	sigaddset(&set, SIGHUP);
	sigprocmask(SIG_BLOCK, &set, NULL);
	node->signal_fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
	node->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	if (node->signal_fd < 0 || node->epoll_fd < 0)
		return error_set(
			err, errno, "signalfd, epoll: %s", strerror(errno));
	return watch_fd(node, node->signal_fd, TAG_SIGNAL, err);
}

static int open_control(struct node *node, struct error *err)
{
	int rc =
		control_socket_open(options_text(node->options, OPTION_CONTROL),
			node_command, node, &node->control, err);

	return rc ? rc
		  : watch_fd(node, control_socket_fd(node->control),
			    TAG_CONTROL, err);
}

/* The dataplane loads its texts while we look at ours. */
static int start_roles(struct node *node, struct error *err)
{
	int rc;

	node_roles_init(node);
	rc = node_role_start(node, &node->roles[0], err);
	if (rc == 0)
		rc = node_setup_check_text(&node->setup, err);
	for (uint32_t i = 1; rc == 0 && i < node->role_count; i++)
		rc = node_role_start(node, &node->roles[i], err);
	return rc;
}

static int start(struct node *node, struct error *err)
{
	int rc = node_setup_open(node->options, &node->setup, err);

	if (rc)
		return rc;
	raise_file_limit(node);
	rc = open_signals(node, err);
	if (rc == 0)
		rc = node_setup_listen(&node->setup, node->options, err);
	if (rc == 0)
		rc = segment_create(&node->setup.shape, &node->segment,
			&node->segment_fd, err);
	if (rc == 0)
		rc = node_adapters_open(node, err);
	if (rc == 0)
		rc = open_control(node, err);
	return rc ? rc : start_roles(node, err);
}

/* Nothing of it is left, whatever the reason. */
static void end_roles(struct node *node)
{
	node_roles_kill(node);
	node->state = NODE_ENDING;
	for (uint32_t i = 0; i < node->role_count; i++)
		if (node->roles[i].pid)
			node_role_ended(node, &node->roles[i]);
}

static void close_all(struct node *node)
{
	end_roles(node);
	control_socket_close(node->control);
	adapters_destroy(node->adapters);
	segment_detach(&node->segment);
	if (node->segment_fd >= 0)
		close(node->segment_fd);
	if (node->signal_fd >= 0)
		close(node->signal_fd);
	if (node->epoll_fd >= 0)
		close(node->epoll_fd);
	notify_close(&node->notify);
}

int node_run(const struct command_line *line, struct options *options,
	struct error *err)
{
	struct node *node = calloc(1, sizeof(*node));
	int rc;

	if (!node)
		return error_set(err, ENOMEM, "out of memory");
	node->line = line;
	node->options = options;
	node->segment_fd = node->signal_fd = node->epoll_fd = -1;
	node->begun_ns = mono_now().ns;
	set_log(node);
	notify_open(&node->notify);
	rc = start(node, err);
	if (rc == 0) {
		rc = loop(node, err);
		if (rc == 0 && node->failed)
			rc = error_set(err, EIO, "%s", node->failure.text);
	}
	close_all(node);
	if (node->setup.front.model.name_count)
		node_setup_close(&node->setup);
	if (rc == 0)
		log_info("stopped");
	free(node);
	return rc;
}
