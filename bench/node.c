/* node.c - a heddled to measure: start, watch, stop (-> CPU, memory, log) */
/* SPDX-License-Identifier: Apache-2.0 */
#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "bench/node.h"

#define READY_TIMEOUT_S 60
#define STOP_TIMEOUT_S 20
#define LOG_BYTES 8192

static void pause_ms(long ms)
{
	const struct timespec pause = {ms / 1000, ms % 1000 * 1000000};

	(void)nanosleep(&pause, NULL);
}

static size_t read_file(const char *path, char *out, size_t room)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	ssize_t length = fd < 0 ? 0 : read(fd, out, room - 1);

	if (fd >= 0)
		close(fd);
	out[length > 0 ? length : 0] = '\0';
	return length > 0 ? (size_t)length : 0;
}

/* --- /proc ----------------------------------------------------------------- */

/* The process's own clock is exact; /proc counts ticks of 10 ms. */
double bench_cpu_s(pid_t pid)
{
	struct timespec used;
	clockid_t clock;

	if (pid <= 0 || clock_getcpuclockid(pid, &clock) ||
		clock_gettime(clock, &used))
		return 0;
	return (double)used.tv_sec + (double)used.tv_nsec / 1e9;
}

double bench_node_cpu_s(const struct bench_node *node)
{
	double sum = 0;

	for (uint32_t i = 0; i < node->pid_count; i++)
		sum += bench_cpu_s(node->pids[i]);
	return sum;
}

double bench_stolen_s(void)
{
	/* "cpu user nice system idle iowait irq softirq steal ..." */
	char text[512];
	char *at = text + strlen("cpu");
	unsigned long long ticks = 0;

	read_file("/proc/stat", text, sizeof(text));
	if (strncmp(text, "cpu", strlen("cpu")) != 0)
		return 0;
	for (int field = 0; field < 8; field++)
		ticks = strtoull(at, &at, 10);
	return (double)ticks / (double)sysconf(_SC_CLK_TCK);
}

static uint64_t kilobytes(const char *status, const char *name)
{
	const char *line = strstr(status, name);

	return line ? strtoull(line + strlen(name), NULL, 10) : 0;
}

uint64_t bench_memory_bytes(pid_t pid)
{
	char path[64], text[4096];

	snprintf(path, sizeof(path), "/proc/%d/status", (int)pid);
	read_file(path, text, sizeof(text));
	return (kilobytes(text, "RssAnon:") + kilobytes(text, "RssShmem:")) *
	       1024;
}

/* Control's children; the one called "dataplane" is the front end. */
static void find_processes(struct bench_node *node)
{
	char path[80], text[1024];
	char *at = text;

	node->pids[0] = node->pid;
	node->pid_count = 1;
	snprintf(path, sizeof(path), "/proc/%d/task/%d/children",
		(int)node->pid, (int)node->pid);
	read_file(path, text, sizeof(text));
	while (node->pid_count < BENCH_PID_COUNT_MAX) {
		char name[256], *end;
		pid_t pid = (pid_t)strtol(at, &end, 10);

		if (end == at)
			return;
		at = end;
		node->pids[node->pid_count++] = pid;
		snprintf(path, sizeof(path), "/proc/%d/cmdline", (int)pid);
		read_file(path, name, sizeof(name));
		if (strstr(name, "dataplane"))
			node->front_pid = pid;
	}
}

/* --- starting -------------------------------------------------------------- */

static void run_heddled(
	const struct bench_node_setup *setup, const struct bench_node *node)
{
	char control[96];
	const char *arguments[16 + BENCH_NODE_OPTION_COUNT_MAX] = {
		setup->heddled, "--model", setup->model, "--name",
		BENCH_MODEL_NAME, "--listen", "127.0.0.1:0", "--admin",
		"127.0.0.1:0", "--control", control};
	int fd = open(node->log, O_WRONLY | O_CREAT | O_TRUNC | O_APPEND, 0600);
	uint32_t count = 11;
	sigset_t none;

	for (const char *const *option = setup->options; *option; option++) {
		assert(count < 11 + BENCH_NODE_OPTION_COUNT_MAX);
		arguments[count++] = *option;
	}
	snprintf(control, sizeof(control), "%s/control", node->folder);
	if (fd < 0 || dup2(fd, 1) < 0 || dup2(fd, 2) < 0)
		_exit(126);
	sigemptyset(&none);
	(void)sigprocmask(SIG_SETMASK, &none, NULL);
	/* exec takes pointers that it does not write through. */
	execv(setup->heddled, (char *const *)(uintptr_t)arguments);
	_exit(127);
}

/* "... api http://A, admin http://B, ..." */
static int read_ready(
	const char *log, struct bench_node *node, struct error *err)
{
	const char *api = strstr(log, "ready: api ");
	const char *admin = strstr(log, ", admin ");
	char url[128];
	int rc;

	if (!api || !admin || !strchr(admin, '\n'))
		return -EAGAIN;
	api += strlen("ready: api ");
	admin += strlen(", admin ");
	snprintf(url, sizeof(url), "%.*s", (int)strcspn(api, ", \n"), api);
	rc = serve_target_parse(url, &node->api, err);
	snprintf(url, sizeof(url), "%.*s", (int)strcspn(admin, ", \n"), admin);
	return rc ? rc : serve_target_parse(url, &node->admin, err);
}

static int await_ready(struct bench_node *node, struct error *err)
{
	struct mono limit = mono_add(mono_now(), READY_TIMEOUT_S * NS_PER_S);
	char log[LOG_BYTES];
	int rc = -EAGAIN;

	while (rc == -EAGAIN) {
		int status;

		read_file(node->log, log, sizeof(log));
		rc = read_ready(log, node, err);
		if (rc != -EAGAIN)
			break;
		if (waitpid(node->pid, &status, WNOHANG) == node->pid) {
			node->pid = 0;
			return error_set(err, EINVAL, "heddled ended: %s", log);
		}
		if (mono_before(limit, mono_now()))
			return error_set(err, ETIMEDOUT,
				"heddled is not ready: %s", log);
		pause_ms(10);
	}
	return rc;
}

int bench_node_start(const struct bench_node_setup *setup,
	struct bench_node *out, struct error *err)
{
	int rc;

	memset(out, 0, sizeof(*out));
	snprintf(out->folder, sizeof(out->folder), "/tmp/heddle-bench-XXXXXX");
	if (!mkdtemp(out->folder))
		return error_set(
			err, errno, "%s: %s", out->folder, strerror(errno));
	snprintf(out->log, sizeof(out->log), "%s/log", out->folder);
	out->pid = fork();
	if (out->pid < 0)
		return error_set(err, errno, "fork: %s", strerror(errno));
	if (out->pid == 0)
		run_heddled(setup, out);
	rc = await_ready(out, err);
	if (rc) {
		bench_node_stop(out);
		return rc;
	}
	find_processes(out);
	if (!out->front_pid) {
		bench_node_stop(out);
		return error_set(err, EINVAL, "heddled has no dataplane");
	}
	return 0;
}

void bench_node_stop(struct bench_node *node)
{
	struct mono limit = mono_add(mono_now(), STOP_TIMEOUT_S * NS_PER_S);
	char path[96];
	int status;

	if (!node->folder[0])
		return;
	if (node->pid)
		(void)kill(node->pid, SIGTERM);
	while (node->pid && waitpid(node->pid, &status, WNOHANG) == 0) {
		if (mono_before(limit, mono_now()))
			(void)kill(node->pid, SIGKILL);
		pause_ms(10);
	}
	(void)unlink(node->log);
	snprintf(path, sizeof(path), "%s/control", node->folder);
	(void)unlink(path);
	(void)rmdir(node->folder);
	memset(node, 0, sizeof(*node));
}
