/* options.c - everything that an operator can set, once (table -> values) */
/* SPDX-License-Identifier: Apache-2.0 */
#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/limits.h"
#include "control/options.h"
#include "dataplane/front.h"
#include "dataplane/http.h"
#include "engine/null.h"
#include "gpu/cpu/workers.h"

#define KIB UINT64_C(1024)
#define MIB (KIB * KIB)
#define GIB (KIB * MIB)

/* clang-format off */
static const struct option_spec specs[OPTION_ID_COUNT] = {
	[OPTION_CONFIG_VERSION] = {"config-version", OPTION_KIND_NUMBER,
		.file_only = true, .initial = "1", .min = 1, .max = 1,
		.value = "N",
		.help = "Form of the configuration file."},
	[OPTION_MODEL] = {"model", OPTION_KIND_TEXT,
		.value = "DIR",
		.help = "Directory of the model, as Hugging Face stores it."},
	[OPTION_NAME] = {"name", OPTION_KIND_TEXT,
		.value = "NAME",
		.help = "The model's name for clients; without it the "
			"directory's."},
	[OPTION_ALIAS] = {"alias", OPTION_KIND_LIST,
		.value = "NAME[,NAME]",
		.help = "More names for the same model."},
	[OPTION_ADAPTER] = {"adapter", OPTION_KIND_LIST,
		.value = "NAME=DIR[,...]",
		.help = "Adapters to load at the start; clients choose one by "
			"its name."},
	[OPTION_ADAPTER_ROOT] = {"adapter-root", OPTION_KIND_TEXT,
		.value = "DIR",
		.help = "Where the adapters lie that may be loaded over HTTP; "
			"without it none may."},
	[OPTION_ADAPTER_KEYS] = {"adapter-keys", OPTION_KIND_TEXT,
		.value = "PATH",
		.help = "Public ed25519 keys in PEM, a file or a directory; "
			"every adapter has to be signed with one of them. "
			"Without it manifests are not looked at."},
	[OPTION_ADAPTER_COUNT] = {"adapter-count", OPTION_KIND_NUMBER,
		.initial = "32", .max = INSTANCE_COUNT_MAX - 1,
		.value = "N",
		.help = "Adapters that a rank may hold at once; one that is "
			"being replaced counts twice."},
	[OPTION_ADAPTER_SLOTS] = {"adapter-slots", OPTION_KIND_NUMBER,
		.initial = "0", .max = EXPERT_SLOT_COUNT_MAX,
		.value = "N",
		.help = "Experts of a layer that all adapters together may "
			"have; 0 is 16 for each adapter."},
	[OPTION_POOL_BYTES] = {"pool-bytes", OPTION_KIND_BYTES,
		.initial = "0", .max = UINT64_C(1) << 50,
		.value = "SIZE",
		.help = "Memory that keys, values and adapters share on each "
			"rank; 0 is what kv-tokens takes."},
	[OPTION_DEVICE] = {"device", OPTION_KIND_LIST,
		.initial = "cpu", .choices = "cpu null",
		.value = "cpu|null[,...]",
		.help = "What each rank computes on; null emits pseudo-random "
			"tokens."},
	[OPTION_NULL_STEP_US] = {"null-step-us", OPTION_KIND_NUMBER,
		.initial = "0", .max = ENGINE_NULL_STEP_US_MAX,
		.value = "N",
		.help = "Microseconds of a step of the null device; 0 runs "
			"free."},
	[OPTION_NULL_ROWS] = {"null-rows", OPTION_KIND_NUMBER,
		.initial = "1024", .min = 1, .max = STEP_SEQUENCE_COUNT_MAX,
		.value = "N",
		.help = "Requests that the null device runs at once."},
	[OPTION_CPU_THREADS] = {"cpu-threads", OPTION_KIND_NUMBER,
		.initial = "0", .max = WORKER_COUNT_MAX,
		.value = "N",
		.help = "Threads that each rank of the cpu device computes "
			"with; 0 shares the cores out."},
	[OPTION_CPU_ROWS] = {"cpu-rows", OPTION_KIND_NUMBER,
		.initial = "512", .min = 1, .max = STEP_ROW_COUNT_MAX,
		.value = "N",
		.help = "Tokens that a step of the cpu device computes at "
			"most."},
	[OPTION_CPU_SEQUENCES] = {"cpu-sequences", OPTION_KIND_NUMBER,
		.initial = "64", .min = 1, .max = STEP_SEQUENCE_COUNT_MAX,
		.value = "N",
		.help = "Requests that a rank of the cpu device runs at once; "
			"others wait."},
	[OPTION_CONTEXT] = {"context", OPTION_KIND_NUMBER,
		.initial = "0", .max = MODEL_POSITION_COUNT_MAX,
		.value = "N",
		.help = "Longest prompt and output together, in tokens; 0 is "
			"the model's. Never more than kv-tokens."},
	[OPTION_KV_TOKENS] = {"kv-tokens", OPTION_KIND_NUMBER,
		.initial = "32768", .min = 2, .max = UINT64_C(1) << 32,
		.value = "N",
		.help = "Tokens whose keys and values a rank keeps, of all "
			"its requests and of prompts to be found again."},
	[OPTION_KV_TYPE] = {"kv-type", OPTION_KIND_CHOICE,
		.initial = "f32", .choices = "f32 bf16",
		.value = "f32|bf16",
		.help = "How keys and values are kept."},
	[OPTION_STEP_BUDGET] = {"step-budget", OPTION_KIND_NUMBER,
		.initial = "200", .max = 100000,
		.value = "PERCENT",
		.help = "How long a step may get by prompts, in percent of one "
			"without; 0 does not cut prompts."},
	[OPTION_STEP_MAX] = {"step-max", OPTION_KIND_DURATION,
		.initial = "500ms", .min = NS_PER_MS, .max = 60 * NS_PER_S,
		.value = "TIME",
		.help = "Longest step when only prompts are computed."},
	[OPTION_LISTEN] = {"listen", OPTION_KIND_LIST,
		.initial = "127.0.0.1:8000",
		.value = "ADDR:PORT[,...]",
		.help = "Where clients connect; port 0 takes a free one."},
	[OPTION_ADMIN] = {"admin", OPTION_KIND_LIST,
		.initial = "127.0.0.1:8001",
		.value = "ADDR:PORT[,...]",
		.help = "Where health and metrics are served."},
	[OPTION_NIC] = {"nic", OPTION_KIND_CHOICE,
		.initial = "kernel", .choices = "kernel dpdk",
		.value = "kernel|dpdk",
		.help = "What carries clients' bytes: the kernel's sockets, or "
			"a port that is polled, with a TCP of our own. The "
			"admin addresses stay with the kernel."},
	[OPTION_NIC_DEVICE] = {"nic-device", OPTION_KIND_TEXT,
		.value = "NAME[,ARG=VALUE]",
		.help = "The port, as DPDK names it: 0000:03:00.0, or "
			"net_af_packet0,iface=eth1."},
	[OPTION_NIC_STANDBY] = {"nic-standby", OPTION_KIND_TEXT,
		.value = "NAME[,ARG=VALUE]",
		.help = "A second port to the same network, which takes over "
			"address and MAC when the link of the first is down."},
	[OPTION_NIC_ADDRESS] = {"nic-address", OPTION_KIND_LIST,
		.value = "ADDR/BITS[,...]",
		.help = "The port's own address and network, one of IPv4, one "
			"of IPv6 or both."},
	[OPTION_NIC_GATEWAY] = {"nic-gateway", OPTION_KIND_LIST,
		.value = "ADDR[,...]",
		.help = "Who knows the way to other networks; without it only "
			"neighbours are answered."},
	[OPTION_NIC_VLAN] = {"nic-vlan", OPTION_KIND_NUMBER,
		.initial = "0", .max = 4094,
		.value = "N",
		.help = "The VLAN that the port is in; 0 is none."},
	[OPTION_NIC_MTU] = {"nic-mtu", OPTION_KIND_NUMBER,
		.initial = "1500", .min = NET_MTU_BYTES_MIN,
		.max = NET_MTU_BYTES_MAX,
		.value = "BYTES",
		.help = "Largest packet on the port's network."},
	[OPTION_NIC_QUEUES] = {"nic-queues", OPTION_KIND_NUMBER,
		.initial = "1", .min = 1, .max = FRONT_COUNT_MAX,
		.value = "N",
		.help = "Loops of the dataplane, each a thread with its share "
			"of connections, slots and pages, and its share of the "
			"text workers, one at least. Over a polled port each "
			"has a pair of its queues."},
	[OPTION_NIC_CORE] = {"nic-core", OPTION_KIND_LIST,
		.value = "N[,...]",
		.help = "The processor for the thread that polls; without it "
			"the scheduler chooses."},
	[OPTION_NIC_SPIN] = {"nic-spin", OPTION_KIND_DURATION,
		.initial = "100us", .max = NS_PER_S,
		.value = "TIME",
		.help = "How long to poll on after the last work before "
			"sleeps between two looks begin."},
	[OPTION_NIC_SLEEP] = {"nic-sleep", OPTION_KIND_DURATION,
		.initial = "500us", .min = 20 * NS_PER_US,
		.max = 10 * NS_PER_MS,
		.value = "TIME",
		.help = "Longest such sleep where the port cannot end it: what "
			"the first packet after a quiet time may wait for."},
	[OPTION_USER] = {"user", OPTION_KIND_TEXT,
		.value = "NAME",
		.help = "Whom the dataplane becomes once it has started, where "
			"heddled is root. It gives up all privileges in any "
			"case."},
	[OPTION_CONTROL] = {"control", OPTION_KIND_TEXT,
		.initial = "/run/heddle/control",
		.value = "PATH",
		.help = "Socket for heddlectl."},
	[OPTION_TLS_CERTIFICATE] = {"tls-certificate", OPTION_KIND_TEXT,
		.reloadable = true,
		.value = "FILE",
		.help = "Certificate chain in PEM; clients then speak TLS "
			"1.3."},
	[OPTION_TLS_KEY] = {"tls-key", OPTION_KIND_TEXT,
		.reloadable = true,
		.value = "FILE",
		.help = "Private key of the certificate in PEM."},
	[OPTION_API_KEYS] = {"api-keys", OPTION_KIND_TEXT,
		.reloadable = true,
		.value = "FILE",
		.help = "Keys that clients must show, a line each: SHA-256 in "
			"hex and a tenant's name (see --hash-key)."},
	[OPTION_TEXT_WORKERS] = {"text-workers", OPTION_KIND_NUMBER,
		.initial = "1", .min = 1, .max = 64,
		.value = "N",
		.help = "Pairs of threads that turn text into tokens and "
			"back."},
	[OPTION_SLOTS] = {"slots", OPTION_KIND_NUMBER,
		.initial = "16384", .min = 1, .max = REQUEST_SLOT_COUNT_MAX,
		.value = "N",
		.help = "Requests that may be in the node at once."},
	[OPTION_PAGES] = {"pages", OPTION_KIND_NUMBER,
		.initial = "131072", .min = 16, .max = PAYLOAD_PAGE_COUNT_MAX,
		.value = "N",
		.help = "Pages of 4 KiB for prompts and generated tokens."},
	[OPTION_RING] = {"ring", OPTION_KIND_NUMBER,
		.initial = "16384", .min = 16, .max = SEGMENT_RING_COUNT_MAX,
		.value = "N",
		.help = "Messages that fit between two roles, a power of "
			"two."},
	[OPTION_CONNECTIONS] = {"connections", OPTION_KIND_NUMBER,
		.initial = "16384", .min = 1, .max = 1000000,
		.value = "N",
		.help = "Connections that may be open at once."},
	[OPTION_PIPELINED] = {"pipelined", OPTION_KIND_NUMBER,
		.initial = "4", .min = 1, .max = 64,
		.value = "N",
		.help = "Requests in progress on one connection."},
	[OPTION_BODY_BYTES] = {"request-body-bytes", OPTION_KIND_BYTES,
		.reloadable = true, .initial = "16MiB", .min = KIB,
		.max = 256 * MIB, .value = "SIZE",
		.help = "Largest body of a request."},
	[OPTION_HEADER_BYTES] = {"header-bytes", OPTION_KIND_BYTES,
		.reloadable = true, .initial = "16KiB", .min = KIB,
		.max = HTTP_HEAD_BYTES_MAX, .value = "SIZE",
		.help = "Largest head of a request."},
	[OPTION_HEADER_COUNT] = {"header-count", OPTION_KIND_NUMBER,
		.reloadable = true, .initial = "100", .min = 8,
		.max = HTTP_HEADER_COUNT_MAX, .value = "N",
		.help = "Most header fields of a request."},
	[OPTION_PROMPT_LIST] = {"prompt-list", OPTION_KIND_NUMBER,
		.reloadable = true, .initial = "128", .min = 1, .max = 4096,
		.value = "N",
		.help = "Prompts times n of one request."},
	[OPTION_OUTPUT_DEFAULT] = {"output-default", OPTION_KIND_NUMBER,
		.reloadable = true, .initial = "1024", .min = 1,
		.max = MODEL_POSITION_COUNT_MAX, .value = "N",
		.help = "Tokens to generate where the client says none."},
	[OPTION_HEADER_TIMEOUT] = {"header-timeout", OPTION_KIND_DURATION,
		.reloadable = true, .initial = "10s", .min = NS_PER_MS,
		.max = 3600 * NS_PER_S, .value = "TIME",
		.help = "For the head of a request to be complete."},
	[OPTION_BODY_TIMEOUT] = {"body-timeout", OPTION_KIND_DURATION,
		.reloadable = true, .initial = "30s", .min = NS_PER_MS,
		.max = 3600 * NS_PER_S, .value = "TIME",
		.help = "For the body of a request to be complete."},
	[OPTION_IDLE_TIMEOUT] = {"idle-timeout", OPTION_KIND_DURATION,
		.reloadable = true, .initial = "75s", .min = NS_PER_MS,
		.max = 86400 * NS_PER_S, .value = "TIME",
		.help = "For the next request on a connection to begin."},
	[OPTION_STALL_TIMEOUT] = {"stall-timeout", OPTION_KIND_DURATION,
		.reloadable = true, .initial = "30s", .min = NS_PER_MS,
		.max = 3600 * NS_PER_S, .value = "TIME",
		.help = "For a client to read what waits for it."},
	[OPTION_REQUEST_TIMEOUT] = {"request-timeout", OPTION_KIND_DURATION,
		.reloadable = true, .initial = "10m", .min = NS_PER_MS,
		.max = 86400 * NS_PER_S, .value = "TIME",
		.help = "For a request from its first byte to the last of its "
			"answer."},
	[OPTION_DRAIN_TIMEOUT] = {"drain-timeout", OPTION_KIND_DURATION,
		.reloadable = true, .initial = "60s", .min = NS_PER_MS,
		.max = 86400 * NS_PER_S, .value = "TIME",
		.help = "For open requests to end when the node stops."},
	[OPTION_RETRY_AFTER] = {"retry-after", OPTION_KIND_DURATION,
		.reloadable = true, .initial = "500ms", .min = NS_PER_MS,
		.max = 120 * NS_PER_S, .value = "TIME",
		.help = "When a client that was refused for want of room may "
			"try again."},
	[OPTION_LOG_LEVEL] = {"log-level", OPTION_KIND_CHOICE,
		.reloadable = true, .initial = "info",
		.choices = "error warn info debug",
		.value = "error|warn|info|debug",
		.help = "What is written to the log."},
	[OPTION_LOG_TARGET] = {"log-target", OPTION_KIND_CHOICE,
		.initial = "stderr", .choices = "stderr syslog",
		.value = "stderr|syslog",
		.help = "Where the log goes."},
};
/* clang-format on */

const struct option_spec *option_spec(enum option_id id)
{
	assert((unsigned)id < OPTION_ID_COUNT);
	return &specs[id];
}

enum option_id option_find(const char *key, size_t length)
{
	for (int i = 0; i < OPTION_ID_COUNT; i++)
		if (strlen(specs[i].key) == length &&
			memcmp(specs[i].key, key, length) == 0)
			return (enum option_id)i;
	return OPTION_ID_COUNT;
}

#define KEY_BYTES_MAX ((size_t)32)

/* Insertions, deletions and exchanges between two words (Levenshtein). */
static unsigned distance(const char *a, size_t a_length, const char *b)
{
	unsigned row[KEY_BYTES_MAX + 1];
	size_t b_length = strlen(b);

	assert(b_length <= KEY_BYTES_MAX);
	for (size_t j = 0; j <= b_length; j++)
		row[j] = (unsigned)j;
	for (size_t i = 1; i <= a_length; i++) {
		unsigned above_left = row[0];

		row[0] = (unsigned)i;
		for (size_t j = 1; j <= b_length; j++) {
			unsigned change = above_left + (a[i - 1] != b[j - 1]);

			above_left = row[j];
			if (row[j] + 1 < change)
				change = row[j] + 1;
			if (row[j - 1] + 1 < change)
				change = row[j - 1] + 1;
			row[j] = change;
		}
	}
	return row[b_length];
}

const char *option_nearest(const char *key, size_t length)
{
	const char *best = specs[0].key;
	unsigned least = UINT32_MAX;

	/* A key that is longer than all of ours is not near any. */
	if (length > 2 * KEY_BYTES_MAX)
		length = 2 * KEY_BYTES_MAX;
	for (int i = 0; i < OPTION_ID_COUNT; i++) {
		unsigned d = distance(key, length, specs[i].key);

		if (d < least) {
			least = d;
			best = specs[i].key;
		}
	}
	return best;
}

void option_variable(enum option_id id, char out[64])
{
	const char *key = option_spec(id)->key;
	int length = snprintf(out, 64, "HEDDLE_%s", key);

	assert(length > 0 && length < 64);
	for (char *c = out; *c; c++) {
		if (*c == '-')
			*c = '_';
		else if (*c >= 'a' && *c <= 'z')
			*c = (char)(*c - 'a' + 'A');
	}
}

/* --- values ------------------------------------------------------------------ */

static void value_release(struct option_value *value)
{
	for (uint32_t i = 0; i < value->count; i++)
		free(value->items[i]);
	memset(value, 0, sizeof(*value));
}

static int append(struct option_value *value, const char *text)
{
	char *copy = strdup(text);

	if (!copy)
		return -ENOMEM;
	value->items[value->count++] = copy;
	return 0;
}

/* What is there already of the same source, to add to. */
static int keep_items(
	const struct option_value *old, struct option_value *fresh)
{
	for (uint32_t i = 0; i < old->count; i++)
		if (append(fresh, old->items[i]))
			return -ENOMEM;
	return 0;
}

static int fill(enum option_id id, const char *const *items, uint32_t count,
	struct option_value *fresh, struct error *err)
{
	const struct option_spec *spec = option_spec(id);

	for (uint32_t i = 0; i < count; i++) {
		int rc = option_parse(spec, items[i], &fresh->number, err);

		if (rc)
			return rc;
		if (fresh->count == OPTION_ITEM_COUNT_MAX)
			return error_set(err, EINVAL, "more than %d items",
				OPTION_ITEM_COUNT_MAX);
		if (append(fresh, items[i]))
			return error_set(err, ENOMEM, "out of memory");
	}
	return 0;
}

int options_set(struct options *options, enum option_id id,
	const struct option_origin *origin, const char *const *items,
	uint32_t count, struct error *err)
{
	struct option_value *value = &options->value[id];
	struct option_value fresh = {.source = origin->source};
	bool adds = option_spec(id)->kind == OPTION_KIND_LIST &&
		    origin->source == OPTION_FLAG &&
		    value->source == OPTION_FLAG;
	int rc = 0;

	if (option_spec(id)->kind != OPTION_KIND_LIST && count != 1)
		rc = error_set(err, EINVAL, "must be one value");
	if (rc == 0 && adds && keep_items(value, &fresh))
		rc = error_set(err, ENOMEM, "out of memory");
	if (rc == 0)
		rc = fill(id, items, count, &fresh, err);
	if (rc) {
		value_release(&fresh);
		error_prefix(err, "%s",
			origin->source == OPTION_FILE ? option_spec(id)->key
						      : origin->where);
		return rc;
	}
	snprintf(fresh.where, sizeof(fresh.where), "%s", origin->where);
	value_release(value);
	*value = fresh;
	return 0;
}

static int set_list(struct options *options, enum option_id id,
	const struct option_origin *origin, char *text, struct error *err)
{
	const char *items[OPTION_ITEM_COUNT_MAX + 1];
	uint32_t count = 0;
	char *rest = text;

	while (rest && count <= OPTION_ITEM_COUNT_MAX)
		items[count++] = strsep(&rest, ",");
	return options_set(options, id, origin, items, count, err);
}

int options_set_text(struct options *options, enum option_id id,
	const struct option_origin *origin, const char *text, struct error *err)
{
	char *copy;
	int rc;

	if (option_spec(id)->kind != OPTION_KIND_LIST)
		return options_set(options, id, origin, &text, 1, err);
	copy = strdup(text);
	if (!copy)
		return error_set(
			err, ENOMEM, "%s: out of memory", origin->where);
	rc = set_list(options, id, origin, copy, err);
	free(copy);
	return rc;
}

int options_init(struct options *out, struct error *err)
{
	static const struct option_origin origin = {OPTION_DEFAULT, ""};

	memset(out, 0, sizeof(*out));
	for (int i = 0; i < OPTION_ID_COUNT; i++) {
		int rc;

		if (!specs[i].initial)
			continue;
		rc = options_set_text(
			out, (enum option_id)i, &origin, specs[i].initial, err);
		/* A default is within its own bounds. */
		assert(rc == 0 || rc == -ENOMEM);
		if (rc) {
			options_release(out);
			return rc;
		}
	}
	return 0;
}

void options_release(struct options *options)
{
	for (int i = 0; i < OPTION_ID_COUNT; i++)
		value_release(&options->value[i]);
}

const char *options_text(const struct options *options, enum option_id id)
{
	const struct option_value *value = &options->value[id];

	return value->count ? value->items[0] : "";
}

uint64_t options_number(const struct options *options, enum option_id id)
{
	return options->value[id].number;
}

bool options_is_set(const struct options *options, enum option_id id)
{
	return options->value[id].count > 0;
}

static bool same_items(
	const struct option_value *a, const struct option_value *b)
{
	if (a->count != b->count)
		return false;
	for (uint32_t i = 0; i < a->count; i++)
		if (strcmp(a->items[i], b->items[i]) != 0)
			return false;
	return true;
}

void options_reload(struct options *options, struct options *fresh, char *kept,
	size_t kept_size)
{
	size_t used = 0;

	assert(kept_size > 0);
	kept[0] = '\0';
	for (int i = 0; i < OPTION_ID_COUNT; i++) {
		struct option_value *old = &options->value[i];
		struct option_value *new = &fresh->value[i];
		struct option_value swap;

		if (specs[i].reloadable || same_items(old, new)) {
			swap = *old;
			*old = *new;
			*new = swap;
		} else if (used < kept_size) {
			used += (size_t)snprintf(kept + used, kept_size - used,
				"%s%s", used ? " " : "", specs[i].key);
		}
	}
}
