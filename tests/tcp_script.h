/* tcp_script.h - single segments against a stack, written as text */
/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Script:  commands separated by ';'. Sequence numbers are relative to the
 *          sender's first one: the peer's SYN is seq 0, our SYN+ACK too.
 *   < FLAGS WORD...   the peer sends; FLAGS of "FSRPAU" or "." for none
 *   > FLAGS WORD...   we have sent this next; PSH is compared only if named
 *   > none            we have sent nothing (more)
 *   + 10ms            time passes (ns, us, ms, s)
 *   send N, read N, finish, close, abort, want N, room N, unread N
 *   state NAME        LISTEN is "no connection"
 *   news WORD         opened, data, room, done, clean, reset, timeout, none
 *   config WORD N     before the first segment: mtu, recv, sendbuf, open,
 *                     half, rtomin (ms), user (ms), keepalive (ms)
 *   peer N            the port, 4000 or 4001, that the peer speaks from
 * Words:   seq N, ack N, len N, win N, mss N, scale N, sackok, ts V E (V may
 *          be *), sack A-B, nots, nosack, noscale, opt HEX (raw, incoming).
 *          What is not said is not compared.
 * Ends:    every frame that was sent must have been named.
 */
#ifndef HEDDLE_TESTS_TCP_SCRIPT_H
#define HEDDLE_TESTS_TCP_SCRIPT_H

#include <stdbool.h>

struct tcp_script {
	const char *name;
	const char *source; /* RFC and section */
	const char *text;
};

/* False with a line about what was wrong on stdout. */
bool tcp_script_run(const struct tcp_script *script);

#endif
