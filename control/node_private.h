/* node_private.h - the state of a node, shared by node*.c only */
/* SPDX-License-Identifier: Apache-2.0 */
#ifndef HEDDLE_CONTROL_NODE_PRIVATE_H
#define HEDDLE_CONTROL_NODE_PRIVATE_H

#include <sys/types.h>

#include "control/adapters.h"
#include "control/control_socket.h"
#include "control/node.h"
#include "control/node_setup.h"
#include "control/notify.h"
#include "control/role.h"

#define NODE_ROLE_COUNT_MAX (1 + RANK_COUNT_MAX)

enum node_state {
	NODE_STARTING,
	NODE_SERVING,
	NODE_DRAINING, /* the dataplane ends what is open */
	NODE_ENDING, /* the ranks stop */
	NODE_GONE
};

/* A role's process, and when it is started again. */
struct node_role {
	enum role_kind kind;
	uint32_t rank;
	uint32_t index; /* of its beat */
	pid_t pid; /* 0 = does not run */
	int pidfd, channel; /* -1 = does not run */
	bool ready; /* this life has said so */
	uint32_t start_count;
	uint64_t started_ns;
	uint64_t restart_ns; /* when to start it again; 0 = not planned */
	uint64_t backoff_ns;
	bool resumes; /* the next life takes over what this one had */
	uint64_t progress; /* of the rank, when this life began */
	uint32_t idle_lives; /* in a row, that got nowhere */
	uint32_t first_loads; /* adapters that this life is sent first */
	char last_end[ERROR_TEXT_BYTES]; /* why the last life ended */
};

/* Of the port's frames: the last one that was asked for. */
struct node_capture {
	char path[COMMAND_LINE_BYTES_MAX]; /* "" = none */
	uint64_t serial, max_bytes;
	uint64_t ticket; /* of who waits for the role; 0 = nobody */
	bool starts; /* it waits for a start */
};

struct node {
	const struct command_line *line; /* borrowed */
	struct options *options; /* borrowed, changed by reload */
	struct node_setup setup;
	struct segment segment;
	int segment_fd;
	struct node_role roles[NODE_ROLE_COUNT_MAX]; /* [0] = dataplane */
	uint32_t role_count;
	struct control_socket *control;
	struct adapters *adapters;
	/* answers for clients that the dataplane did not take yet */
	struct role_message asks[FRONT_ASK_COUNT_MAX];
	uint32_t ask_count;
	struct node_capture capture;
	struct notify notify;
	int epoll_fd, signal_fd;
	enum node_state state;
	uint32_t stop_count; /* times that we were told to stop */
	bool failed; /* ends because a role could not start */
	uint64_t begun_ns, ready_ns;
	uint64_t kill_ns; /* what still runs then is killed; 0 = never */
	uint64_t watchdog_ns; /* when the manager heard of us last */
	struct error failure;
};

const char *node_state_name(enum node_state state);
const char *node_role_name(const struct node_role *role, char out[32]);

/* Begin to stop, or hurry. */
void node_stop(struct node *node);
/* Straight to the end, whatever is open. */
void node_stop_now(struct node *node);

/* Read the configuration again; on error nothing has changed. */
int node_reload(
	struct node *node, char *kept, size_t kept_size, struct error *err);

/* --- node_roles.c ------------------------------------------------------------- */

void node_roles_init(struct node *node);
int node_role_start(
	struct node *node, struct node_role *role, struct error *err);
/* Its process has ended: note why, plan the next life. */
void node_role_ended(struct node *node, struct node_role *role);
/* A message of the role. */
void node_role_heard(struct node *node, struct node_role *role);
/* Start what is due, see who has become ready. */
void node_roles_tick(struct node *node, struct mono now);
/* No life will follow: what waits for one is failed. */
void node_roles_give_up(struct node *node);
bool node_roles_ready(const struct node *node);
bool node_roles_gone(const struct node *node, bool front_only);
void node_roles_kill(struct node *node);
/* When node_roles_tick() has something to do next; UINT64_MAX = never. */
uint64_t node_roles_next(const struct node *node);

/* --- node_adapters.c ------------------------------------------------------------ */

/* The registry, and what is there from the start. */
int node_adapters_open(struct node *node, struct error *err);
void node_adapters_tick(struct node *node);
/* A rank's answer; what a client asks through the dataplane. */
void node_adapters_heard(struct node *node, const struct node_role *role,
	const struct role_message *message);
void node_adapters_asked(struct node *node, const struct node_role *role,
	const struct role_message *message);
/* COMMAND_ADAPTER_... and COMMAND_MEM. */
void node_adapters_command(struct node *node, const struct command_call *call,
	struct command_answer *answer);

/* --- node_books.c --------------------------------------------------------------- */

json_t *node_adapters_result(const struct adapters_result *result);
void node_adapters_list(
	const struct node *node, bool json, struct command_answer *answer);
void node_adapters_show(const struct node *node, const char *name,
	struct command_answer *answer);
void node_adapters_mem(
	const struct node *node, bool json, struct command_answer *answer);

/* --- node_capture.c ------------------------------------------------------------- */

/* COMMAND_CAPTURE_... */
void node_capture_command(struct node *node, const struct command_call *call,
	struct command_answer *answer);
/* The dataplane's answer; it has ended and gives none. */
void node_capture_heard(struct node *node, const struct role_message *message);
void node_capture_lost(struct node *node);

/* --- node_poll.c ---------------------------------------------------------------- */

/* Of the dataplane's loops together, or of one; of a port of our own. */
json_t *node_poll_json(const struct node *node, const struct poll_counters *c);
json_t *node_loops_json(const struct node *node);
json_t *node_nic_json(const struct nic_counters *c);
void node_poll_table(const struct node *node, FILE *out);

/* --- node_commands.c ------------------------------------------------------------ */

control_handler node_command;
/* Upper bound of the bucket in which the share of values lies. */
double node_percentile_ms(const struct histogram *histogram, double share);
json_t *node_latency_json(const struct histogram *histogram);

#endif
