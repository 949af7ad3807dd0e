/* fake_vmm.h - a back end that checks the rules of vmm.h and fails on demand */
/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Why:   the policy above vmm.h has to be right on a device that nobody can
 *        look into. This model keeps its own books of reservations, handles
 *        and mappings, and stops the process at the first broken rule.
 * Memory: with an `inner` back end every call is checked and passed on, so
 *        bytes are real; without one there are no bytes: addresses are made
 *        up, copies go nowhere and host_pointer is NULL, so that pools of any
 *        size cost only their books.
 * Fence: fake_vmm_work_begin() says that work was submitted that may touch
 *        all memory accessible by then. Until a fence has returned 0, none
 *        of those mappings may be unmapped.
 * Faults: the nth call of a kind fails (fake_vmm_fail), with -ENOMEM, or -EIO
 *        for fence, copies and clear; a failed call changes nothing.
 * Threads: as vmm.h, a lock makes now and copy_in safe from any thread.
 */
#ifndef HEDDLE_TESTS_FAKE_VMM_H
#define HEDDLE_TESTS_FAKE_VMM_H

#include <stdbool.h>
#include <stdint.h>

#include "memmgr/vmm.h"

enum fake_vmm_call {
	/* These can fail. */
	FAKE_RESERVE,
	FAKE_CREATE,
	FAKE_MAP,
	FAKE_SET_ACCESS,
	FAKE_FENCE,
	FAKE_COPY_IN,
	FAKE_COPY_OUT,
	FAKE_CLEAR,
	/* These cannot. */
	FAKE_UNRESERVE,
	FAKE_RELEASE,
	FAKE_UNMAP,
	FAKE_NOW,
	FAKE_CALL_COUNT,
	FAKE_ANY = FAKE_CALL_COUNT
};

const char *fake_vmm_call_name(enum fake_vmm_call call);

/* `inner` (or NULL) is borrowed until destroy and used by nobody else. */
void fake_vmm_init(
	struct vmm *vmm, size_t granularity_bytes, struct vmm *inner);

/* Whatever is left is forgotten (inner keeps it). */
void fake_vmm_destroy(struct vmm *vmm);

/* Nothing reserved, created or mapped is left? Prints what is. */
bool fake_vmm_check_empty(const struct vmm *vmm);

/* The nth call (1 = the next) of this kind, or of any that can, fails. */
void fake_vmm_fail(struct vmm *vmm, enum fake_vmm_call call, uint64_t nth);
void fake_vmm_disarm(struct vmm *vmm);

/* Has the armed fault happened? */
bool fake_vmm_has_failed(const struct vmm *vmm);

/* Calls so far, failed ones too; FAKE_ANY: of those that can fail. */
uint64_t fake_vmm_calls(const struct vmm *vmm, enum fake_vmm_call call);

struct fake_vmm_live {
	uint32_t reservations;
	uint32_t handles; /* not yet released, or still mapped */
	uint32_t mappings;
	uint64_t handle_bytes;
	uint64_t reserved_bytes;
};

struct fake_vmm_live fake_vmm_live(const struct vmm *vmm);

/* Work is submitted; runs until the next fence that succeeds. */
void fake_vmm_work_begin(struct vmm *vmm);
bool fake_vmm_work_runs(const struct vmm *vmm);

/* The clock stands still until it is set. */
void fake_vmm_set_now(struct vmm *vmm, struct mono now);

#endif
