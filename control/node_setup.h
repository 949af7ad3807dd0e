/* node_setup.h - what the roles are started with (options -> setups) */
/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Why:   only control opens files and sockets. Everything that another role
 *        needs is made here and handed over: descriptors, limits, facts of
 *        the model.
 * Ownership: struct node_setup owns every descriptor in it; roles inherit
 *        copies.
 * Threads: one; start-up and reload only.
 */
#ifndef HEDDLE_CONTROL_NODE_SETUP_H
#define HEDDLE_CONTROL_NODE_SETUP_H

#include <sys/socket.h>

#include "base/segment.h"
#include "control/model_dir.h"
#include "control/options.h"
#include "dataplane/front.h"
#include "engine/null.h"
#include "engine/serve.h"

#define NODE_ADDRESS_BYTES 64

/* An adapter that is there from the start. */
struct node_adapter {
	char name[ADAPTER_NAME_BYTES];
	char directory[1024];
	struct adapter_files files; /* owned, until the registry takes them */
};

enum node_device { NODE_DEVICE_NULL, NODE_DEVICE_CPU };

struct node_setup {
	struct segment_shape shape;
	uint32_t uid, gid; /* whom the dataplane becomes */
	struct front_setup front;
	enum node_device device[RANK_COUNT_MAX];
	struct engine_null_options null;
	/* cpu ranks: options but for memory_fd and resume, the open model, and
	 * the memory files of their pages, which outlive them; -1 = none */
	struct engine_serve_options serve;
	struct model_files files; /* owned */
	int memory_fd[RANK_COUNT_MAX]; /* owned */
	uint32_t cpu_count; /* ranks of that device */
	struct node_adapter adapters[OPTION_ITEM_COUNT_MAX];
	uint32_t adapter_count;
	struct text_files text; /* owned; front names the same descriptors */
	/* where the listeners of front are bound, as "127.0.0.1:8000" */
	char address[FRONT_LISTENER_COUNT_MAX][NODE_ADDRESS_BYTES];
};

/*
 * Read the model's directory, keys and certificates, check that the options
 * fit together. Binds nothing. -EINVAL and others, with the place. On error
 * nothing is open.
 */
int node_setup_open(const struct options *options, struct node_setup *out,
	struct error *err);

/*
 * node_texts.c: load tokenizer and template once to see that they are good, and choose the
 * ids that the null device draws: the longest run that is neither special nor
 * markup.
 */
int node_setup_check_text(struct node_setup *setup, struct error *err);

/* Bind and listen. -EADDRINUSE and others name the address. */
int node_setup_listen(struct node_setup *setup, const struct options *options,
	struct error *err);

/* Close the listeners: from now on connections are refused. */
void node_setup_close_listeners(struct node_setup *setup);

/* Limits, keys and certificate again. On error *setup is as it was. */
int node_setup_reload(struct node_setup *setup, const struct options *options,
	struct error *err);

/* Takes a zeroed struct only if it was opened before. */
void node_setup_close(struct node_setup *setup);

/* --- node_load.c ------------------------------------------------------------- */

/* Open the directories of adapters that the options name. */
int node_load_open(const struct options *options, struct node_setup *setup,
	struct error *err);
void node_load_close(struct node_setup *setup);

/* --- node_tls.c -------------------------------------------------------------- */

/*
 * The descriptors of certificate and key that the options name, or -1 for
 * both. -EINVAL and others: neither is open; the text names the file.
 */
int node_tls_open(const struct options *options, struct front_setup *front,
	struct error *err);
void node_tls_close(struct front_setup *front);

/* --- node_user.c ------------------------------------------------------------- */

/* -EINVAL: no such user; -EPERM: not to be had without root. */
int node_user_open(const struct options *options, struct node_setup *setup,
	struct error *err);

/* --- node_nic.c -------------------------------------------------------------- */

/*
 * With `nic: dpdk` the port's part of the setup. -EINVAL names the option,
 * -ENOTSUP and others all that is missing on this machine and what to do.
 */
int node_nic_open(const struct options *options, struct front_setup *front,
	struct error *err);

/* The port's own address that a text of `listen` names, and its port. */
int node_nic_listen(const struct front_setup *front, const char *text,
	uint16_t *out_port, char address[NODE_ADDRESS_BYTES],
	struct error *err);

/* --- node_listen.c ----------------------------------------------------------- */

/* Bind "ADDR:PORT", "[ADDR]:PORT" or "*:PORT"; a listening socket. */
int node_listen(const char *text, int *out_fd, char address[NODE_ADDRESS_BYTES],
	struct error *err);

/* What such a text says. -EINVAL. */
int node_listen_place(
	const char *text, struct sockaddr_storage *out, struct error *err);

/* Is it such a text? -EINVAL says what is wrong with it. */
int node_listen_check(const char *text, struct error *err);

#endif
