/* eval_sign.c - sign an adapter, and see that a signed one is whole */
/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <stdio.h>

#include "control/adapter_trust.h"
#include "control/eval.h"

int eval_sign(const struct eval_options *options, struct error *err)
{
	if (!options->key)
		return error_set(err, EINVAL, "--key FILE is missing");
	return adapter_trust_sign(
		options->key, options->name, options->directory, err);
}

int eval_verify(const struct eval_options *options, struct error *err)
{
	const struct adapter_trust trust = {
		.keys = options->keys, .every_byte = true};
	struct adapter_files files;
	int rc;

	if (!options->keys || !options->keys[0])
		return error_set(err, EINVAL, "--keys PATH is missing");
	rc = adapter_trust_open(
		&trust, options->name, options->directory, &files, err);
	if (rc)
		return rc;
	adapter_files_close(&files);
	puts("every file is as it was signed");
	return 0;
}
