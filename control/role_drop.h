/* role_drop.h - a role gives up what it needed to start (process -> less) */
/* SPDX-License-Identifier: Apache-2.0 */
#ifndef HEDDLE_CONTROL_ROLE_DROP_H
#define HEDDLE_CONTROL_ROLE_DROP_H

#include <stdint.h>

#include "base/error.h"

/*
 * Why:     whoever finds a hole in the role that faces clients shall find no
 *          privilege behind it. Ports are open by then, and listeners bound.
 * Does:    becomes uid and gid where that is another user, without other
 *          groups; then every thread of the process, those of libraries too,
 *          loses all capabilities and can gain none again. That it is so is
 *          read back from /proc.
 * Returns: -EPERM and others, with the thread that kept something.
 * Threads: one caller; others may run. Uses the signal SIGRTMIN, for good.
 */
int role_drop(uint32_t uid, uint32_t gid, struct error *err);

#endif
