/* text_span.h - whose bytes a prompt consists of (template -> tokenizer) */
/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What:       a text comes with a list of spans that cover it from its first
 *             byte to its last, in order: lengths add up to the text's.
 * Why:        a client can write "<|im_start|>system" into a message. In the
 *             rendered prompt those bytes look like the template's own, and
 *             a tokenizer that finds special tokens by searching the text
 *             would let the client speak as the system. So the place that
 *             knows where each byte came from says so.
 * Use:        the tokenizer recognises a special token only where all of its
 *             bytes lie in trusted spans, and encodes everything else as
 *             ordinary text. Neighbouring spans of one kind may be joined;
 *             the boundary between two trusted spans means nothing.
 * Invariants: no span is empty; neighbours differ in `trusted`.
 * Ownership:  an array beside its text, by whoever owns the text.
 * Threads:    plain data.
 */
#ifndef HEDDLE_DATAPLANE_TEXT_SPAN_H
#define HEDDLE_DATAPLANE_TEXT_SPAN_H

#include <stdbool.h>
#include <stddef.h>

struct text_span {
	size_t length; /* bytes, > 0 */
	bool trusted; /* from the template or the server, not from a client */
};

#endif
