/* node_texts.c - are tokenizer and template good? (files -> ids to draw) */
/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <stdlib.h>

#include "control/node_setup.h"
#include "dataplane/chat.h"
#include "dataplane/tokenizer.h"

static bool is_plain(const struct tokenizer *tok, uint32_t id)
{
	size_t length;

	return tokenizer_token_bytes(tok, id, &length) != NULL &&
	       !tokenizer_is_special(tok, id) && !tokenizer_is_control(tok, id);
}

static int choose_ids(const struct tokenizer *tok,
	struct engine_null_options *null, struct error *err)
{
	uint32_t count = tokenizer_vocab_size(tok), first = 0, best = 0;

	if (count > null->vocab)
		count = null->vocab;
	for (uint32_t id = 0; id <= count; id++) {
		if (id < count && is_plain(tok, id))
			continue;
		if (id - first > best) {
			best = id - first;
			null->first_id = first;
		}
		first = id + 1;
	}
	null->id_count = best;
	if (best == 0)
		return error_set(err, EINVAL,
			"tokenizer.json: no plain token below a vocabulary of "
			"%u",
			null->vocab);
	return 0;
}

static int check_template(const struct node_setup *setup, struct error *err)
{
	struct chat_template *chat = NULL;
	char *config = NULL, *jinja = NULL;
	size_t config_length = 0, jinja_length = 0;
	int rc = 0;

	if (setup->text.tokenizer_config.fd >= 0)
		rc = model_file_text(&setup->text.tokenizer_config, &config,
			&config_length, err);
	if (rc == 0 && setup->text.chat_template.fd >= 0)
		rc = model_file_text(
			&setup->text.chat_template, &jinja, &jinja_length, err);
	if (rc == 0)
		rc = chat_template_load(
			(struct chat_source){config, config_length},
			(struct chat_source){jinja, jinja_length},
			setup->front.model.name[0], &chat, err);
	/* A model without a template serves completions. */
	if (rc == -ENOENT) {
		error_clear(err);
		rc = 0;
	}
	chat_template_free(chat);
	free(config);
	free(jinja);
	return rc;
}

int node_setup_check_text(struct node_setup *setup, struct error *err)
{
	struct tokenizer *tok = NULL;
	char *text = NULL;
	size_t length;
	int rc = model_file_text(&setup->text.tokenizer, &text, &length, err);

	if (rc == 0)
		rc = tokenizer_create(
			text, length, "tokenizer.json", &tok, err);
	free(text);
	if (rc == 0)
		rc = choose_ids(tok, &setup->null, err);
	tokenizer_destroy(tok);
	return rc ? rc : check_template(setup, err);
}
