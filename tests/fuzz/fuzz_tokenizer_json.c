/* fuzz_tokenizer_json.c - any bytes as tokenizer.json */
/* SPDX-License-Identifier: Apache-2.0 */
#include <stdlib.h>
#include <string.h>

#include "dataplane/detokenizer.h"
#include "dataplane/tokenizer.h"
#include "tests/fuzz/fuzz.h"

static const char sample[] =
	"<s>The caf\xc3\xa9's  12345\n\n "
	"\xe2\x96\x81\xe4\xb8\xad\xf0\x9f\x98\x80"
	"e\xcc\x81\xcc\xa3 aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa "
	"</s>\xff\t.";

static void require(bool holds)
{
	if (!holds)
		abort();
}

/* What was accepted has to work: encode, then decode. */
static void use(const struct tokenizer *tok)
{
	const struct text_span span = {sizeof(sample) - 1, true};
	const struct tokenizer_input input = {.text = sample,
		.length = sizeof(sample) - 1,
		.spans = &span,
		.span_count = 1,
		.add_special = true};
	struct tokenizer_scratch *scratch;
	uint32_t ids[2048];
	struct detokenizer d;
	size_t count;
	int rc;

	require(tokenizer_scratch_create(tok, 1024, &scratch) == 0);
	rc = tokenizer_encode(scratch, &input, ids, 2048, &count);
	detokenizer_init(&d, tok, NULL, false);
	for (size_t i = 0; rc == 0 && i < count; i++) {
		require(ids[i] < tokenizer_vocab_size(tok));
		(void)detokenizer_push(&d, ids[i]);
	}
	(void)detokenizer_finish(&d);
	tokenizer_scratch_destroy(scratch);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct tokenizer *tok = NULL;
	struct error err = {0};
	int rc = tokenizer_create((const char *)data, size, "fuzz", &tok, &err);

	require(rc == 0 ? tok != NULL : error_is_set(&err) && !tok);
	if (tok)
		use(tok);
	tokenizer_destroy(tok);
	return 0;
}
