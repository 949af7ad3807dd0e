/* node_user.c - whom the dataplane becomes (option -> its part of the setup) */
/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <pwd.h>
#include <unistd.h>

#include "control/node_setup.h"

int node_user_open(const struct options *options, struct node_setup *setup,
	struct error *err)
{
	const char *name = options_text(options, OPTION_USER);
	const struct passwd *user;

	setup->uid = getuid();
	setup->gid = getgid();
	if (name[0] == '\0')
		return 0;
	user = getpwnam(name);
	if (!user)
		return error_set(
			err, EINVAL, "user: there is no user \"%.64s\"", name);
	if (geteuid() != 0 && user->pw_uid != geteuid())
		return error_set(err, EPERM,
			"user: only root may become %.64s: start heddled as "
			"root, or as that user",
			name);
	setup->uid = user->pw_uid;
	setup->gid = user->pw_gid;
	return 0;
}
