/* nic_eal_dpdk.c - DPDK's environment, started once (nic_dpdk.c -> EAL) */
/* SPDX-License-Identifier: Apache-2.0 */
#include <ctype.h>
#include <errno.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <rte_eal.h>
#include <rte_errno.h>
#include <rte_log.h>

#include "base/log.h"
#include "dataplane/nic_eal.h"

#define ARGUMENT_COUNT_MAX 16
#define ARGUMENT_BYTES 288
#define MEMORY_BYTES_MIN ((size_t)48 << 20) /* of the environment itself */
#define LINE_BYTES 256

/* A process has one environment: DPDK keeps it in globals of its own. */
static struct {
	bool started, speaks;
	FILE *stream; /* all below is written under its lock */
	char line[LINE_BYTES], cause[LINE_BYTES];
	size_t length;
} eal;

/* --- what it says --- */

static void say(bool bad)
{
	eal.line[eal.length] = '\0';
	eal.length = 0;
	if (bad && eal.cause[0] == '\0')
		memcpy(eal.cause, eal.line, sizeof(eal.cause));
	if (bad && eal.speaks)
		log_warnx("DPDK: %s", eal.line);
	else
		log_debug("DPDK: %s", eal.line);
}

static ssize_t take_text(void *cookie, const char *text, size_t size)
{
	int level = rte_log_cur_msg_loglevel();

	(void)cookie;
	for (size_t i = 0; i < size; i++) {
		if (text[i] == '\n') {
			/* A warning is no reason why something failed. */
			say(level > 0 && level <= (int)RTE_LOG_ERR);
			continue;
		}
		if (eal.length + 1 < LINE_BYTES)
			eal.line[eal.length++] = text[i];
	}
	return (ssize_t)size;
}

static int open_log(struct error *err)
{
	eal.stream = fopencookie(
		NULL, "w", (cookie_io_functions_t){.write = take_text});
	if (!eal.stream)
		return error_set(err, ENOMEM, "no memory for DPDK's messages");
	setvbuf(eal.stream, NULL, _IOLBF, BUFSIZ);
	return rte_openlog_stream(eal.stream)
		       ? error_set(err, EIO, "DPDK's messages cannot be read")
		       : 0;
}

void nic_eal_listen(void)
{
	if (!eal.stream)
		return;
	flockfile(eal.stream);
	eal.cause[0] = '\0';
	eal.speaks = false;
	funlockfile(eal.stream);
}

void nic_eal_cause(char *out, size_t size)
{
	out[0] = '\0';
	if (!eal.stream)
		return;
	flockfile(eal.stream);
	snprintf(out, size, "%s", eal.cause);
	funlockfile(eal.stream);
}

void nic_eal_speak(void)
{
	flockfile(eal.stream);
	eal.speaks = true;
	funlockfile(eal.stream);
}

/* --- its command line --- */

struct arguments {
	char text[ARGUMENT_COUNT_MAX][ARGUMENT_BYTES];
	char *list[ARGUMENT_COUNT_MAX + 1];
	int count;
};

__attribute__((format(printf, 2, 3))) static void add(
	struct arguments *a, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	/* A device is shorter than an argument, and so is all else. */
	vsnprintf(a->text[a->count], ARGUMENT_BYTES, format, args);
	va_end(args);
	a->list[a->count] = a->text[a->count];
	a->count++;
}

bool nic_eal_is_card(const char *device)
{
	return isxdigit((unsigned char)device[0]) && strchr(device, ':');
}

static int first_core(const cpu_set_t *cores)
{
	for (int i = 0; i < CPU_SETSIZE; i++)
		if (CPU_ISSET((size_t)i, cores))
			return i;
	return 0;
}

/*
 * Its telemetry has a socket in a folder that it makes, and without that it
 * does not start: user 0 of a user namespace may not make it.
 */
static bool has_folder(void)
{
	const char *base = getenv("RUNTIME_DIRECTORY"); /* systemd's */
	char path[ARGUMENT_BYTES];

	if (!base)
		base = getuid() == 0 ? "/var/run" : getenv("XDG_RUNTIME_DIR");
	if (!base)
		base = "/tmp";
	snprintf(path, sizeof(path), "%s/dpdk", base);
	(void)mkdir(path, 0700);
	return access(path, W_OK) == 0;
}

static void fill(struct arguments *a, const struct nic_config *config,
	size_t memory_bytes, int core, bool telemetry)
{
	bool card = nic_eal_is_card(config->device);

	*a = (struct arguments){.count = 0};
	add(a, "heddled");
	add(a, "--lcores=0@%d", core);
	add(a, "--file-prefix=heddle");
	add(a, "-m");
	add(a, "%zu", (memory_bytes + MEMORY_BYTES_MIN) >> 20);
	/* Neither leaves files behind; 22.11 knows no --in-memory without
	 * huge pages. */
	if (config->hugepages) {
		add(a, "--in-memory");
	} else {
		add(a, "--no-huge");
		add(a, "--no-shconf");
	}
	add(a, "--iova-mode=va");
	if (!telemetry)
		add(a, "--no-telemetry");
	if (card)
		add(a, "--allow=%s", config->device);
	else
		add(a, "--no-pci");
	if (card && nic_eal_is_card(config->standby))
		add(a, "--allow=%s", config->standby);
}

int nic_eal_start(
	const struct nic_config *config, size_t memory_bytes, struct error *err)
{
	struct arguments arguments;
	char cause[LINE_BYTES];
	cpu_set_t cores;
	bool telemetry;
	int rc;

	if (eal.started)
		return 0;
	if (!eal.stream) {
		rc = open_log(err);
		if (rc)
			return rc;
	}
	CPU_ZERO(&cores);
	(void)sched_getaffinity(0, sizeof(cores), &cores);
	telemetry = has_folder();
	fill(&arguments, config, memory_bytes, first_core(&cores), telemetry);
	rc = rte_eal_init(arguments.count, arguments.list);
	/* It has put this thread on its one core; whom we start comes after. */
	if (CPU_COUNT(&cores) > 0)
		(void)sched_setaffinity(0, sizeof(cores), &cores);
	if (rc < 0) {
		nic_eal_cause(cause, sizeof(cause));
		return error_set(err, rte_errno == ENOMEM ? ENOMEM : EIO,
			"DPDK does not start: %s (%s); %s",
			cause[0] ? cause : "no reason given",
			rte_strerror(rte_errno),
			config->hugepages
				? "are there free huge pages?"
				: "without huge pages it needs ordinary "
				  "memory only");
	}
	eal.started = true;
	if (telemetry)
		log_info("DPDK's telemetry: %s/dpdk_telemetry.v2",
			rte_eal_get_runtime_dir());
	return 0;
}
