/* wake.c - sleep until another role has work for you (role -> role) */
/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <linux/futex.h>
#include <stddef.h>
#include <sys/eventfd.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "base/wake.h"

uint32_t wake_arm(struct wake *wake)
{
	/*
	 * Sequentially consistent, as the two accesses of wake_post() are:
	 * either the poster sees asleep, or we see its word, and with that
	 * what it pushed before.
	 */
	__atomic_store_n(&wake->asleep, 1, __ATOMIC_SEQ_CST);
	return __atomic_load_n(&wake->word, __ATOMIC_SEQ_CST);
}

void wake_wait(struct wake *wake, uint32_t seen, struct mono until)
{
	/* FUTEX_WAIT_BITSET takes an instant of the monotonic clock. */
	struct timespec at = {
		.tv_sec = (time_t)(until.ns / NS_PER_S),
		.tv_nsec = (long)(until.ns % NS_PER_S),
	};

	/* Not FUTEX_PRIVATE: the word is shared between processes. */
	syscall(SYS_futex, &wake->word, FUTEX_WAIT_BITSET, seen, &at, NULL,
		FUTEX_BITSET_MATCH_ANY);
}

void wake_disarm(struct wake *wake)
{
	__atomic_store_n(&wake->asleep, 0, __ATOMIC_RELAXED);
}

void wake_ring(struct wake *wake, int bell_fd)
{
	int saved = errno;

	__atomic_fetch_add(&wake->word, 1, __ATOMIC_SEQ_CST);
	/*
	 * Only the sleeper takes its mark away. If we did, it could be the one
	 * of its next sleep, on a word that has our post in it already: then
	 * nobody would wake it for the next post.
	 */
	if (__atomic_load_n(&wake->asleep, __ATOMIC_SEQ_CST)) {
		if (bell_fd >= 0)
			(void)eventfd_write(bell_fd, 1);
		else
			syscall(SYS_futex, &wake->word, FUTEX_WAKE, 1, NULL,
				NULL, 0);
	}
	errno = saved;
}

void wake_post(struct wake *wake)
{
	wake_ring(wake, -1);
}
