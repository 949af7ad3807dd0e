/* node_adapters.c - adapters of a node (operators, clients -> registry) */
/* SPDX-License-Identifier: Apache-2.0 */
#include <assert.h>
#include <errno.h>
#include <string.h>

#include "control/adapter_trust.h"
#include "control/node_private.h"

/* Who waits: bit 63 and a role's life for clients, 1 for the start itself. */
#define TICKET_START UINT64_C(1)
#define TICKET_ASK (UINT64_C(1) << 63)
#define TICKET_ID_MASK UINT64_C(0xffffffff)

/* --- ends ---------------------------------------------------------------------------- */

static void answer_operator(struct node *node, uint64_t ticket,
	const struct adapters_result *result)
{
	struct command_answer answer;

	memset(&answer, 0, sizeof(answer));
	answer.err = result->err;
	if (!error_is_set(&answer.err))
		answer.json = node_adapters_result(result);
	control_socket_answer(node->control, ticket, &answer, mono_now());
	command_answer_release(&answer);
}

static int status_of(int code)
{
	switch (code) {
	case 0:
		return 200;
	case -ENOENT:
		return 404;
	case -EBUSY:
	case -ECANCELED:
		return 409;
	case -ENOMEM:
	case -ENOSPC:
	case -ENFILE:
		return 503;
	case -EIO:
		return 500;
	default:
		return 400;
	}
}

/* Goes with the next tick where the dataplane takes nothing now. */
static void send_asks(struct node *node)
{
	const struct node_role *front = &node->roles[0];

	while (node->ask_count > 0) {
		const struct role_message *message =
			&node->asks[node->ask_count - 1];

		/* Of an earlier life: nobody waits for it. */
		if (front->pid && message->serial == front->start_count &&
			role_send_message(front->channel, message, NULL) ==
				-EAGAIN)
			return;
		node->ask_count--;
	}
}

static void answer_client(
	struct node *node, uint64_t ticket, int status, const char *text)
{
	struct role_message *message;

	/* The dataplane asks no more than it has places for. */
	if (node->ask_count == FRONT_ASK_COUNT_MAX)
		return;
	message = &node->asks[node->ask_count++];
	*message = (struct role_message){.kind = ROLE_ASK_ANSWER,
		.id = ticket & TICKET_ID_MASK,
		.serial = (uint32_t)((ticket & ~TICKET_ASK) >> 32),
		.rc = status};
	snprintf(message->text, sizeof(message->text), "%s", text);
	send_asks(node);
}

static void tell_client(struct node *node, uint64_t ticket,
	const struct adapters_result *result)
{
	char text[ROLE_TEXT_BYTES];

	snprintf(text, sizeof(text),
		"Success: LoRA adapter '%s' %s successfully.", result->name,
		result->op == ADAPTERS_UNLOAD ? "removed" : "added");
	answer_client(node, ticket, status_of(result->err.code),
		error_is_set(&result->err) ? result->err.text : text);
}

static void ended(
	void *arg, uint64_t ticket, const struct adapters_result *result)
{
	struct node *node = arg;

	if (error_is_set(&result->err))
		log_error("adapter \"%s\": %s: %s", result->name,
			adapters_op_name(result->op), result->err.text);
	else
		log_info("adapter \"%s\": %s is done", result->name,
			adapters_op_name(result->op));
	if (ticket == TICKET_START) {
		if (!error_is_set(&result->err) || node->state > NODE_STARTING)
			return;
		error_set(&node->failure, EINVAL, "adapter \"%s\": %s",
			result->name, result->err.text);
		node->failed = true;
	} else if (ticket & TICKET_ASK) {
		tell_client(node, ticket, result);
	} else {
		answer_operator(node, ticket, result);
	}
}

static int send_command(
	void *arg, uint32_t rank, const struct engine_command *command)
{
	const struct node *node = arg;
	const struct node_role *role = &node->roles[1 + rank];

	if (role->pid == 0 || role->channel < 0)
		return -ENOTCONN;
	return role_adapter_send(role->channel, command);
}

/* --- life ------------------------------------------------------------------------------ */

int node_adapters_open(struct node *node, struct error *err)
{
	const struct adapters_hooks hooks = {node, send_command, ended};
	struct node_setup *setup = &node->setup;

	if (adapters_create(&node->segment, &hooks, &node->adapters))
		return error_set(err, ENOMEM, "out of memory");
	for (uint32_t i = 0; i < setup->adapter_count; i++) {
		struct node_adapter *first = &setup->adapters[i];
		const struct adapters_order order = {.name = first->name,
			.directory = first->directory,
			.files = &first->files,
			.ticket = TICKET_START};
		int rc = role_adapter_fits(first->name, &first->files, err);

		if (rc == 0)
			rc = adapters_load(node->adapters, &order, err);
		if (rc)
			return rc;
	}
	return 0;
}

void node_adapters_tick(struct node *node)
{
	send_asks(node);
	if (!adapters_pending(node->adapters))
		return;
	adapters_turn(node->adapters);
	/* It says what it has seen at its next turn. */
	for (uint32_t i = 0; i < node->segment.shape.front_count; i++) {
		const struct segment view = segment_view(&node->segment, i);

		segment_ring_bell(&view);
	}
}

void node_adapters_heard(struct node *node, const struct node_role *role,
	const struct role_message *message)
{
	struct engine_answer answer = {
		.kind = (enum engine_command_kind)message->what,
		.instance = message->instance,
		.serial = message->serial,
		.rc = message->rc > 0 ? -message->rc : message->rc};

	if (role->kind == ROLE_FRONT)
		return;
	if (answer.rc)
		error_set(&answer.err, -answer.rc, "%s", message->text);
	adapters_answered(node->adapters, role->rank, &answer);
}

/* --- what is asked ------------------------------------------------------------------------ */

static int check_order(const struct node *node, const char *name,
	const struct adapter_files *files, struct error *err)
{
	const struct front_model *model = &node->setup.front.model;

	if (node->state > NODE_SERVING)
		return error_set(err, EBUSY, "the node is %s",
			node_state_name(node->state));
	for (uint32_t i = 0; i < model->name_count; i++)
		if (strcmp(model->name[i], name) == 0)
			return error_set(err, EEXIST,
				"\"%s\" is a name of the model itself", name);
	return role_adapter_fits(name, files, err);
}

static int order(struct node *node, struct adapters_order *what, bool replace,
	struct error *err)
{
	int rc = check_order(node, what->name, what->files, err);

	if (rc) {
		adapter_files_close(what->files);
		return rc;
	}
	return replace ? adapters_replace(node->adapters, what, err)
		       : adapters_load(node->adapters, what, err);
}

static void load(struct node *node, const struct command_call *call,
	struct command_answer *answer)
{
	const struct adapter_trust trust = {
		.keys = options_text(node->options, OPTION_ADAPTER_KEYS)};
	bool wait = !(call->flags & COMMAND_FLAG_NO_WAIT);
	struct adapter_files files;
	struct adapters_order what = {.name = call->name,
		.directory = call->path,
		.files = &files,
		.weight = call->weight,
		.pinned = (call->flags & COMMAND_FLAG_PIN) != 0,
		.drain = (call->flags & COMMAND_FLAG_DRAIN) != 0,
		.ticket = wait ? call->ticket : 0};

	if (call->path[0] != '/') {
		error_set(&answer->err, EINVAL,
			"\"%.256s\" is no absolute path", call->path);
		return;
	}
	if (adapter_trust_open(
		    &trust, call->name, call->path, &files, &answer->err)) {
		error_prefix(&answer->err, "adapter \"%s\"", call->name);
		return;
	}
	answer->later = wait;
	if (order(node, &what, call->id == COMMAND_ADAPTER_REPLACE,
		    &answer->err))
		answer->later = false;
}

static void unload(struct node *node, const struct command_call *call,
	struct command_answer *answer)
{
	bool wait = !(call->flags & COMMAND_FLAG_NO_WAIT);

	answer->later = wait;
	if (adapters_unload(node->adapters, call->name,
		    (call->flags & COMMAND_FLAG_NOW) != 0,
		    wait ? call->ticket : 0, &answer->err))
		answer->later = false;
}

void node_adapters_command(struct node *node, const struct command_call *call,
	struct command_answer *answer)
{
	switch (call->id) {
	case COMMAND_ADAPTER_LOAD:
	case COMMAND_ADAPTER_REPLACE:
		load(node, call, answer);
		break;
	case COMMAND_ADAPTER_UNLOAD:
		unload(node, call, answer);
		break;
	case COMMAND_ADAPTER_LIST:
		node_adapters_list(node, call->json, answer);
		break;
	case COMMAND_ADAPTER_SHOW:
		node_adapters_show(node, call->name, answer);
		break;
	case COMMAND_ADAPTER_PIN:
	case COMMAND_ADAPTER_UNPIN:
		(void)adapters_pin(node->adapters, call->name,
			call->id == COMMAND_ADAPTER_PIN, &answer->err);
		break;
	case COMMAND_ADAPTER_WEIGHT:
		(void)adapters_weigh(
			node->adapters, call->name, call->weight, &answer->err);
		break;
	default:
		assert(call->id == COMMAND_MEM);
		node_adapters_mem(node, call->json, answer);
	}
}

/* --- clients --------------------------------------------------------------------------------- */

static int ask_load(struct node *node, const struct role_message *message,
	uint64_t ticket, struct error *err)
{
	const char *root = options_text(node->options, OPTION_ADAPTER_ROOT);
	const struct adapter_trust trust = {
		.keys = options_text(node->options, OPTION_ADAPTER_KEYS),
		.root = root};
	bool there = adapters_find(node->adapters, message->name) != 0;
	struct adapter_files files;
	struct adapters_order what = {.name = message->name,
		.directory = message->text,
		.files = &files,
		.ticket = ticket};
	int rc;

	if (!root[0])
		return error_set(err, EPERM,
			"adapters are not loaded over HTTP here: start with "
			"--adapter-root DIR, or use heddlectl");
	if (there && !message->inplace)
		return error_set(err, EEXIST,
			"The lora adapter '%s' has already been loaded. If you "
			"want to load the adapter in place, set 'load_inplace' "
			"to True.",
			message->name);
	rc = adapter_trust_open(
		&trust, message->name, message->text, &files, err);
	return rc ? rc : order(node, &what, there, err);
}

static int ask_unload(struct node *node, const struct role_message *message,
	uint64_t ticket, struct error *err)
{
	if (adapters_find(node->adapters, message->name) == 0)
		return error_set(err, ENOENT,
			"The lora adapter '%s' cannot be found.",
			message->name);
	return adapters_unload(
		node->adapters, message->name, false, ticket, err);
}

void node_adapters_asked(struct node *node, const struct node_role *role,
	const struct role_message *message)
{
	uint64_t ticket = TICKET_ASK | (uint64_t)role->start_count << 32 |
			  (message->id & TICKET_ID_MASK);
	struct error err = {0};
	int rc;

	if (role->kind != ROLE_FRONT)
		return;
	rc = message->what == FRONT_ASK_LOAD
		     ? ask_load(node, message, ticket, &err)
		     : ask_unload(node, message, ticket, &err);
	if (rc)
		answer_client(node, ticket, status_of(rc), err.text);
}
