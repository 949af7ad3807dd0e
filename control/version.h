/* version.h - what this build calls itself */
/* SPDX-License-Identifier: Apache-2.0 */
#ifndef HEDDLE_CONTROL_VERSION_H
#define HEDDLE_CONTROL_VERSION_H

#define HEDDLE_VERSION "0.1.0"

/* Of the lines and answers on the control socket. */
#define HEDDLE_CONTROL_PROTOCOL 1

#endif
