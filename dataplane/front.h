/* front.h - the dataplane role: clients on one side, rings on the other */
/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What:  accepts connections, speaks HTTP and the OpenAI protocol, turns text
 *        into token ids and token ids into text.
 *
 *            stream -> http -> [text worker: JSON, template, tokenise]
 *                   -> slot -> request ring
 *            token ring -> [text worker: detokenise, escape, frame]
 *                   -> stream
 *
 * Several of them may serve side by side, each with its share: fronts.h.
 *
 * Threads: one network thread (streams, HTTP framing, rings, slots, timers) and
 *        `text_worker_count` text workers. A request belongs to one worker
 *        for its life, so its tokens stay in order. The network thread
 *        allocates nothing per token, and sleeps when it has nothing to do.
 *
 * Trust: the role opens no file and sees no model weights: everything comes
 *        in struct front_setup, made by control and sealed before the role
 *        starts. With a port of its own DPDK opens what it needs, by the
 *        names in there.
 *
 * Full:  no slot, no payload page, or a full request ring: 429 with
 *        retry-after-ms. A client that does not read: its output waits in
 *        the log; after stall_timeout_ns the request is cancelled and the
 *        connection reset.
 *
 * Half-closed: a client that has ended its side is answered fully, then the
 *        connection is closed. Whether it is gone altogether shows when it
 *        resets what it is sent: tokens, or, where no answer has begun after
 *        a second, 100 (Continue). Then what it asked for is cancelled.
 */
#ifndef HEDDLE_DATAPLANE_FRONT_H
#define HEDDLE_DATAPLANE_FRONT_H

#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"
#include "base/segment.h"
#include "dataplane/stream_nic.h"

#define FRONT_NAME_COUNT_MAX 16
#define FRONT_NAME_BYTES_MAX 128
#define FRONT_KEY_COUNT_MAX 256
#define FRONT_LISTENER_COUNT_MAX 8
#define FRONT_EOS_COUNT_MAX 16

/* What a listener serves. */
enum front_service {
	FRONT_API, /* /v1, /tokenize, health */
	FRONT_ADMIN /* health, /metrics, admin routes */
};

struct front_listener {
	int fd; /* bound and listening, non-blocking; the role owns it */
	uint16_t tcp_port; /* where fd is -1: of the polled port */
	enum front_service service;
	bool tls;
};

struct front_key {
	uint8_t sha256[32]; /* of the API key */
	char tenant[64];
};

/* The model as clients see it. */
struct front_model {
	char name[FRONT_NAME_COUNT_MAX][FRONT_NAME_BYTES_MAX]; /* 0 = id */
	uint32_t name_count;
	uint64_t created_s; /* Unix time, for /v1/models */
	uint32_t vocab;
	uint32_t position_count; /* prompt and output together */
	uint32_t eos[FRONT_EOS_COUNT_MAX];
	uint32_t eos_count;
	/* Defaults of generation_config.json. */
	float temperature, top_p;
	uint32_t top_k; /* 0 = none */
	float repetition_penalty;
};

/* Bounds; 0 is never "none". */
struct front_limits {
	uint32_t connection_count;
	uint32_t request_body_bytes;
	uint32_t header_bytes;
	uint32_t header_count;
	uint32_t pipelined_count; /* requests in progress per connection */
	uint32_t prompt_list_count; /* prompts x n of one request */
	uint32_t output_default; /* max_tokens when the client says none */
	uint64_t header_timeout_ns, body_timeout_ns, idle_timeout_ns;
	uint64_t stall_timeout_ns; /* a client that does not read */
	uint64_t request_timeout_ns; /* from the first byte to the last */
	uint64_t drain_timeout_ns;
	uint32_t retry_after_ms; /* told with 429 */
};

/* A file's text, mapped by the role from a descriptor; fd -1 = none. */
struct front_setup {
	struct front_model model;
	struct front_limits limits;
	struct front_listener listeners[FRONT_LISTENER_COUNT_MAX];
	uint32_t listener_count;
	struct front_key keys[FRONT_KEY_COUNT_MAX]; /* none = no key needed */
	uint32_t key_count;
	uint8_t secret[32]; /* keys the tenants' HMAC (prefix cache) */
	/* Listeners without a socket are those of a port of our own. */
	bool polled;
	struct stream_nic_link link; /* where polled */
	/*
	 * Each loop has a core on which nothing computes: it may wait awake
	 * where tokens come close together.
	 */
	bool has_core;
	uint32_t text_worker_count;
	int tokenizer_fd; /* tokenizer.json */
	int tokenizer_config_fd; /* may be -1 */
	int chat_template_fd; /* may be -1 */
	int certificate_fd, certificate_key_fd; /* PEM; -1 without TLS */
	char version[64];
};

struct front; /* private */

/* --- what clients of the admin listener ask of control ------------------------ */

#define FRONT_ASK_PATH_BYTES 1024 /* with the NUL */
#define FRONT_ASK_TEXT_BYTES 1024
#define FRONT_ASK_COUNT_MAX 16 /* under way at once */

enum front_ask_kind { FRONT_ASK_LOAD, FRONT_ASK_UNLOAD };

struct front_ask {
	uint64_t id;
	enum front_ask_kind kind;
	bool inplace; /* LOAD: in place of what is there of the name */
	char name[ADAPTER_NAME_BYTES];
	char path[FRONT_ASK_PATH_BYTES]; /* LOAD: as the client gave it */
};

struct front_control {
	void *arg;
	/* Take it, or -errno; never waits. Called by the network thread. */
	int (*ask)(void *arg, const struct front_ask *ask);
};

/*
 * Load tokenizer and template, attach to the segment, start workers, adopt
 * the slots of an earlier life (every request of it is answered or closed).
 * The segment is borrowed until destroy. -EINVAL with the file and the place;
 * -ENOMEM, -EAGAIN.
 */
int front_create(const struct front_setup *setup, const struct segment *segment,
	struct front **out, struct error *err);

/*
 * Serve until front_stop(), then drain: /ready goes red while requests that
 * are open go on to their end. All listeners stay open meanwhile, so that
 * whoever probes, scrapes or still sends here is answered and not refused:
 * /ready 503, /live 200, /health and /metrics as ever, and a request for
 * tokens gets 503 with retry-after-ms, on kept connections too. Each answer
 * of a drain ends its connection. When no request is open the listeners and
 * idle connections close; what is left after drain_timeout_ns is cut off.
 * Runs on the calling thread.
 */
int front_run(struct front *front, struct error *err);

/* Any thread, and async-signal-safe; the second call ends without waiting. */
void front_stop(struct front *front);

/*
 * Keys and limits of a new setup, between two bursts, and its certificate
 * (certificate_fd -1: the old one stays) for connections that come; those
 * that are open go on. Any thread. -EINVAL: nothing has changed. The
 * descriptors stay the caller's.
 */
int front_reload(struct front *front, const struct front_setup *setup,
	struct error *err);

/* Whom to ask, before front_run(); without it such requests get 503. */
void front_set_control(
	struct front *front, const struct front_control *control);

/*
 * The answer to an ask, once: an HTTP status, and a text (with 200 it is the
 * body, else the error's message). Any thread.
 */
void front_control_answer(
	struct front *front, uint64_t id, int status, const char *text);

/*
 * Frames of a port of our own into a file: as capture.h, which see. Any
 * thread. -ENOTSUP: the kernel has the frames.
 */
int front_capture_start(struct front *front, int fd, uint64_t max_bytes,
	uint64_t serial, struct error *err);
int front_capture_stop(struct front *front, struct error *err);

/* NULL is allowed. */
void front_destroy(struct front *front);

#endif
