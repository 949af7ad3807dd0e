/* nic_eal.h - DPDK's environment, started once (nic_dpdk.c -> EAL) */
/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Why:     the environment takes a command line, speaks for itself and cannot
 *          be started twice. Here it gets the arguments that fit this
 *          machine, and what it says goes to the log.
 * Does:    no configuration files and no other processes; one core, whose
 *          thread keeps the processors that it had before.
 * Log:     errors and warnings as warnings, the rest as debug lines. While a
 *          port is opened all are debug lines, and the first error is kept:
 *          it says why.
 * Threads: the one that polls; what others say is kept apart by a lock.
 */
#ifndef HEDDLE_DATAPLANE_NIC_EAL_H
#define HEDDLE_DATAPLANE_NIC_EAL_H

#include <stddef.h>

#include "dataplane/nic.h"

/* memory_bytes: what the port's buffers will take. -ENOMEM, -EIO with text. */
int nic_eal_start(const struct nic_config *config, size_t memory_bytes,
	struct error *err);

/* A place on the bus, rather than a software port. */
bool nic_eal_is_card(const char *device);

/* From here on the first error is kept; cause() gives it ("" = none). */
void nic_eal_listen(void);
void nic_eal_cause(char *out, size_t size);
/* The port is open: what is said now is for the operator. */
void nic_eal_speak(void);

#endif
