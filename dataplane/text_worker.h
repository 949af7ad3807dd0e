/* text_worker.h - text off the network thread (JSON in, ids; ids, SSE out) */
/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What:  a worker is a pair of threads. `in` parses a body, renders the
 *        template and tokenises; `out` detokenises, finds stop strings,
 *        escapes and frames. A request belongs to one pair for its life, so
 *        its tokens stay in order; a prompt of a megabyte in `in` does not
 *        delay the tokens of others, because `out` never does such work and
 *        `in` runs at a lower priority.
 *
 * struct text_request passes from the network thread to `in`, back, and to
 *        `out` by messages; whoever holds it last was sent it last. The
 *        network thread keeps the pointer as a name for its later messages
 *        and sends TEXT_RELEASE as the last one, so no message can name a
 *        request that is gone.
 *
 * Help:  waking a thread costs more than the text of a token. Where `out`
 *        sleeps and has been given little, the network thread does it itself
 *        (text_worker_help()); `out_turn` is held by whoever of the two reads
 *        the jobs of `out`, by its thread until it sleeps.
 *
 * Full:  a worker whose ring of notes is full waits for the network thread,
 *        which never waits for a worker: it keeps what a full ring of jobs
 *        refuses and tries again.
 */
#ifndef HEDDLE_DATAPLANE_TEXT_WORKER_H
#define HEDDLE_DATAPLANE_TEXT_WORKER_H

#include <pthread.h>

#include "base/segment.h"
#include "dataplane/api.h"
#include "dataplane/chat.h"
#include "dataplane/detokenizer.h"
#include "dataplane/text_ring.h"
#include "dataplane/tokenizer.h"

#define TEXT_TOKENS_JOINED 1u /* `reason` of TEXT_TOKENS: in one event */

/* What all workers read; set before they start. */
struct text_shared {
	const struct tokenizer *tok; /* borrowed */
	const struct chat_template *chat; /* borrowed; NULL: there is none */
	const struct front_model *model; /* borrowed */
	const struct front_limits *limits; /* borrowed */
	const struct segment *segment; /* borrowed: the logs */
	const uint32_t *page_next; /* borrowed: the network thread's chains; a
				      chain of a live request never changes */
	struct text_bell *bell; /* the network thread's */
	void (*wake)(void *arg); /* when it has to be woken */
	void *wake_arg;
	/*
	 * There is a core for it: `out` waits awake where jobs come close
	 * together, which spares the network thread the call that wakes it.
	 */
	bool awake;
};

/* A place in a chain of payload pages. */
struct text_cursor {
	uint32_t page; /* of the record `at` */
	uint32_t at; /* record number in the chain */
};

/* One sequence of an answer. */
struct text_choice {
	/* by `in` */
	uint32_t prompt; /* index in the request's prompts */
	/* by the network thread at admission */
	uint32_t log_page, top_page;
	/* `out` only */
	uint32_t done_count; /* tokens that went through */
	uint32_t kept_count; /* tokens that count, once it has ended */
	struct text_cursor log, top;
	uint64_t text_offset; /* characters of token texts so far */
	bool began, ended;
	enum finish_reason reason;
	struct api_text text; /* of an answer that is not streamed */
	struct detokenizer detok;
};

struct text_request {
	/* by the network thread */
	uint32_t exchange, generation;
	enum api_route route;
	char *body; /* owned until parsed */
	size_t body_length;
	char id[API_ID_BYTES];
	uint64_t created_s;
	uint32_t cancelled; /* atomic: do not start */
	/* by `in` */
	struct api_error error; /* status 0 = good */
	struct api_request api;
	struct api_text reply; /* of /tokenize and /detokenize */
	struct api_text lead; /* what each event or body starts with */
	uint32_t choice_count;
	struct text_choice *choices; /* owned */
	/* `out` only */
	uint32_t open_count;
	uint64_t output_count;
	uint64_t cached_count;
	bool began, ended;
};

struct text_worker {
	struct text_ring in_jobs, in_notes, out_jobs, out_notes;
	struct text_bell in_bell, out_bell;
	const struct text_shared *shared;
	pthread_mutex_t out_turn; /* who does the jobs of `out` */
	pthread_t in_thread, out_thread;
	bool in_started, out_started; /* and not joined */
	bool in_told, out_told; /* to end */
	/* the threads' own */
	struct tokenizer_scratch *scratch; /* in */
	size_t text_bytes_max; /* of the scratch */
	struct api_text event; /* of whoever has out_turn */
};

/* Start both threads. -ENOMEM, -EAGAIN, or of tokenizer_scratch_create(). */
int text_worker_start(struct text_worker *worker,
	const struct text_shared *shared, struct error *err);
/*
 * Ask both threads to end after all of their jobs; true once they have. Until
 * then the caller takes their notes, for which they may be waiting.
 */
bool text_worker_try_stop(struct text_worker *worker);
/* After text_worker_try_stop(): what notes are left can still be read. */
void text_worker_release(struct text_worker *worker);

/*
 * The network thread, after a burst of pushes to `out`: do them here, where its
 * thread sleeps and they are few tokens of plain streams. True when none is
 * left, so that nobody needs to be woken for them; their notes are in the ring.
 */
bool text_worker_help(struct text_worker *worker);

/* Takes the body. NULL: no memory, the body stays the caller's. */
struct text_request *text_request_create(
	enum api_route route, char *body, size_t body_length);
/* NULL is allowed. */
void text_request_destroy(struct text_request *request);

/* Parse and tokenise on the calling thread: what `in` does for a request. */
void text_in_run(const struct text_shared *shared,
	struct tokenizer_scratch *scratch, size_t text_bytes_max,
	struct text_request *request);

/* One message of the network thread: what `out` does with it. */
void text_out_run(
	struct text_worker *worker, const struct text_message *message);

/*
 * A note to the network thread, which sees it with the next that are shown;
 * waits while the ring is full.
 */
void text_note(struct text_worker *worker, struct text_ring *ring,
	const struct text_message *message, const char *bytes);

#endif
