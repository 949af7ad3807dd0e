/* node_commands.c - what operators ask a node (command -> answer) */
/* SPDX-License-Identifier: Apache-2.0 */
#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "control/node_private.h"
#include "control/version.h"

static void put(json_t *object, const char *key, json_t *value)
{
	/* No memory: the answer lacks a line. */
	(void)json_object_set_new(object, key, value);
}

static void put_count(json_t *object, const char *key, uint64_t value)
{
	put(object, key, json_integer((json_int_t)value));
}

/* --- info ---------------------------------------------------------------------------- */

static json_t *role_json(const struct node *node, const struct node_role *role)
{
	const struct role_beat *beat =
		segment_beat(&node->segment, role->index);
	json_t *out = json_object();
	uint64_t now = mono_now().ns;

	put(out, "state",
		json_string(role->ready        ? "ready"
			    : role->pid        ? "starting"
			    : role->restart_ns ? "waits to start again"
					       : "ended"));
	put_count(out, "pid", (uint64_t)role->pid);
	put_count(out, "starts", role->start_count);
	if (role->pid)
		put_count(out, "uptime_s", (now - role->started_ns) / NS_PER_S);
	put_count(out, "steps", counter_read(&beat->progress));
	put_count(out, "pending", counter_read(&beat->pending));
	if (role->last_end[0])
		put(out, "last_end", json_string(role->last_end));
	return out;
}

static json_t *addresses(const struct node *node, enum front_service service)
{
	const struct front_setup *front = &node->setup.front;
	json_t *out = json_array();

	for (uint32_t i = 0; i < front->listener_count; i++) {
		char text[NODE_ADDRESS_BYTES + 16];

		if (front->listeners[i].service != service)
			continue;
		snprintf(text, sizeof(text), "%s://%s",
			front->listeners[i].tls ? "https" : "http",
			node->setup.address[i]);
		json_array_append_new(out, json_string(text));
	}
	return out;
}

static json_t *names(const struct front_model *model)
{
	json_t *out = json_array();

	for (uint32_t i = 0; i < model->name_count; i++)
		json_array_append_new(out, json_string(model->name[i]));
	return out;
}

static json_t *devices(const struct options *options)
{
	const struct option_value *list = &options->value[OPTION_DEVICE];
	json_t *out = json_array();

	for (uint32_t i = 0; i < list->count; i++)
		json_array_append_new(out, json_string(list->items[i]));
	return out;
}

static void info(const struct node *node, struct command_answer *answer)
{
	const struct front_setup *front = &node->setup.front;
	json_t *out = json_object();

	put(out, "version", json_string(HEDDLE_VERSION));
	put_count(out, "protocol", HEDDLE_CONTROL_PROTOCOL);
	put(out, "state", json_string(node_state_name(node->state)));
	put_count(out, "pid", (uint64_t)getpid());
	put_count(out, "uptime_s", (mono_now().ns - node->begun_ns) / NS_PER_S);
	if (node->ready_ns)
		put_count(out, "start_ms",
			(node->ready_ns - node->begun_ns) / NS_PER_MS);
	put(out, "model",
		json_string(options_text(node->options, OPTION_MODEL)));
	put(out, "names", names(&front->model));
	put_count(out, "vocabulary", front->model.vocab);
	put_count(out, "positions", front->model.position_count);
	put(out, "devices", devices(node->options));
	put(out, "computes", json_boolean(node->setup.cpu_count > 0));
	put(out, "api", addresses(node, FRONT_API));
	put(out, "admin", addresses(node, FRONT_ADMIN));
	put_count(out, "api_keys", front->key_count);
	put_count(out, "connections_max", front->limits.connection_count);
	put_count(out, "segment_bytes", node->segment.size_bytes);
	for (uint32_t i = 0; i < node->role_count; i++) {
		char name[32];

		if (i == 0)
			snprintf(name, sizeof(name), "dataplane");
		else
			snprintf(name, sizeof(name), "rank%u", i - 1);
		put(out, name, role_json(node, &node->roles[i]));
	}
	answer->json = out;
}

/* --- stat ---------------------------------------------------------------------------- */

double node_percentile_ms(const struct histogram *histogram, double share)
{
	uint64_t count[HISTOGRAM_BUCKET_COUNT], total = 0, seen = 0;

	for (uint32_t i = 0; i < HISTOGRAM_BUCKET_COUNT; i++) {
		count[i] = counter_read(&histogram->bucket[i]);
		total += count[i];
	}
	for (uint32_t i = 0; i < HISTOGRAM_BUCKET_COUNT - 1; i++) {
		seen += count[i];
		if ((double)seen >= share * (double)total)
			return (double)histogram_bound_ns(i) /
			       (double)NS_PER_MS;
	}
	return (double)histogram_bound_ns(HISTOGRAM_BUCKET_COUNT - 2) /
	       (double)NS_PER_MS;
}

json_t *node_latency_json(const struct histogram *histogram)
{
	uint64_t count = counter_read(&histogram->count);
	json_t *out = json_object();

	put_count(out, "count", count);
	if (count == 0)
		return out;
	put(out, "mean_ms",
		json_real((double)counter_read(&histogram->sum_ns) /
			  (double)count / (double)NS_PER_MS));
	put(out, "p50_below_ms",
		json_real(node_percentile_ms(histogram, 0.50)));
	put(out, "p99_below_ms",
		json_real(node_percentile_ms(histogram, 0.99)));
	return out;
}

static uint64_t sum(const uint64_t *counters, uint32_t count)
{
	uint64_t total = 0;

	for (uint32_t i = 0; i < count; i++)
		total += counter_read(&counters[i]);
	return total;
}

static void stat_front(
	const struct node *node, const struct front_counters *c, json_t *out)
{
	put_count(out, "connections", counter_read(&c->connections_open));
	put_count(
		out, "connections_total", counter_read(&c->connections_total));
	put_count(out, "requests_total", counter_read(&c->requests_total));
	put_count(out, "refused_total", sum(c->refused_total, REFUSAL_COUNT));
	put_count(out, "finished_total",
		sum(c->finished_total, FINISH_REASON_COUNT));
	put_count(out, "prompt_tokens_total",
		counter_read(&c->prompt_tokens_total));
	put_count(out, "output_tokens_total",
		counter_read(&c->output_tokens_total));
	put_count(out, "received_bytes_total",
		counter_read(&c->received_bytes_total));
	put_count(out, "sent_bytes_total", counter_read(&c->sent_bytes_total));
	put_count(out, "slots_used", counter_read(&c->slots_used));
	put_count(out, "pages_used", counter_read(&c->pages_used));
	put(out, "first_token", node_latency_json(&c->first_token));
	put(out, "inter_token", node_latency_json(&c->inter_token));
	put(out, "end_to_end", node_latency_json(&c->end_to_end));
	put(out, "token_to_socket", node_latency_json(&c->token_to_socket));
	put(out, "poll", node_poll_json(node, &c->poll));
	if (node->segment.shape.front_count > 1)
		put(out, "loops", node_loops_json(node));
	if (node->setup.front.polled)
		put(out, "nic", node_nic_json(&c->nic));
}

static void stat_engines(const struct node *node, json_t *out)
{
	uint64_t running = 0, waiting = 0, steps = 0;

	for (uint32_t i = 0; i < node->segment.shape.rank_count; i++) {
		const struct engine_counters *c =
			segment_engine_counters(&node->segment, i);

		running += counter_read(&c->running);
		waiting += counter_read(&c->waiting);
		steps += counter_read(&c->steps_total);
	}
	put_count(out, "running", running);
	put_count(out, "waiting", waiting);
	put_count(out, "steps_total", steps);
}

static void stat(
	const struct node *node, bool json, struct command_answer *answer)
{
	struct front_counters counters;
	size_t length = 0;
	FILE *out;

	answer->json = json_object();
	stat_engines(node, answer->json);
	segment_front_total(&node->segment, &counters);
	stat_front(node, &counters, answer->json);
	if (json)
		return;
	out = open_memstream(&answer->text, &length);
	if (out) {
		node_poll_table(node, out);
		(void)fclose(out);
	}
}

/* --- the others ------------------------------------------------------------------------ */

static void config_show(
	const struct node *node, bool json, struct command_answer *answer)
{
	size_t length = 0;
	FILE *out;

	if (json) {
		answer->json = options_json(node->options);
		return;
	}
	out = open_memstream(&answer->text, &length);
	if (out) {
		options_print(node->options, out);
		(void)fclose(out);
	}
}

static void reload(struct node *node, struct command_answer *answer)
{
	char kept[256];

	if (node->state > NODE_SERVING) {
		error_set(&answer->err, EBUSY, "the node is %s",
			node_state_name(node->state));
		return;
	}
	if (node_reload(node, kept, sizeof(kept), &answer->err) == 0)
		answer->json =
			json_pack("{s:b,s:s}", "ok", 1, "needs_restart", kept);
}

static void set_log_level(
	struct node *node, const char *level, struct command_answer *answer)
{
	static const struct option_origin origin = {
		OPTION_FLAG, "heddlectl log"};

	if (options_set_text(node->options, OPTION_LOG_LEVEL, &origin, level,
		    &answer->err))
		return;
	log_open("heddled",
		(enum log_target)options_number(
			node->options, OPTION_LOG_TARGET),
		(enum log_level)options_number(
			node->options, OPTION_LOG_LEVEL));
}

void node_command(void *arg, const struct command_call *call,
	struct command_answer *answer)
{
	struct node *node = arg;

	switch (call->id) {
	case COMMAND_HELP:
		answer->json = command_help_json();
		break;
	case COMMAND_INFO:
		info(node, answer);
		break;
	case COMMAND_STAT:
		stat(node, call->json, answer);
		break;
	case COMMAND_CONFIG_SHOW:
		config_show(node, call->json, answer);
		break;
	case COMMAND_DRAIN:
		if (node->stop_count == 0)
			node_stop(node);
		break;
	case COMMAND_RELOAD:
		reload(node, answer);
		break;
	case COMMAND_SHUTDOWN:
		node_stop_now(node);
		break;
	case COMMAND_LOG:
		set_log_level(node, call->argument, answer);
		break;
	case COMMAND_MEM:
	case COMMAND_ADAPTER_LOAD:
	case COMMAND_ADAPTER_UNLOAD:
	case COMMAND_ADAPTER_REPLACE:
	case COMMAND_ADAPTER_LIST:
	case COMMAND_ADAPTER_SHOW:
	case COMMAND_ADAPTER_PIN:
	case COMMAND_ADAPTER_UNPIN:
	case COMMAND_ADAPTER_WEIGHT:
		node_adapters_command(node, call, answer);
		break;
	case COMMAND_CAPTURE_START:
	case COMMAND_CAPTURE_STOP:
	case COMMAND_CAPTURE_SHOW:
		node_capture_command(node, call, answer);
		break;
	case COMMAND_ID_COUNT:
		assert(call->id < COMMAND_ID_COUNT);
	}
}
