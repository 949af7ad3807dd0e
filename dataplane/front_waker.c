/* front_waker.c - the wake word of the role ends the loop's wait (futex ->) */
/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The network thread waits in one place, for its sockets; other roles know
 * only the wake word in shared memory. One thread that does nothing else
 * hands on what they post. It is woken only after wake_arm(), which the
 * network thread calls before it sleeps: while that has work neither a post
 * nor this thread costs a system call. (io_uring can wait for such a word
 * itself, but from Linux 6.7 on.)
 *
 * No post is lost: whatever changes the word while this thread is between two
 * waits, or has not begun yet, is seen by the next, which then does not sleep.
 */
#include "dataplane/front_private.h"

/* The bound of base/wake.h: the word is only a hint. */
#define WAIT_NS (1 * NS_PER_S)

static void *hand_on(void *arg)
{
	struct front *front = arg;
	uint32_t seen = front->waker_seen, fresh;

	while (!__atomic_load_n(&front->waker_stop, __ATOMIC_ACQUIRE)) {
		wake_wait(front->wake, seen, mono_add(mono_now(), WAIT_NS));
		fresh = wake_word(front->wake);
		if (fresh == seen)
			continue;
		seen = fresh;
		front->loop.ops->wake(&front->loop);
	}
	return NULL;
}

int front_waker_start(struct front *front, struct error *err)
{
	int rc;

	/* Now: when the thread comes to run there may have been a post. */
	front->waker_seen = wake_word(front->wake);
	rc = pthread_create(&front->waker, NULL, hand_on, front);
	if (rc)
		return error_set(err, rc, "a thread cannot start");
	front->waker_started = true;
	return 0;
}

void front_waker_stop(struct front *front)
{
	if (!front->waker_started)
		return;
	__atomic_store_n(&front->waker_stop, true, __ATOMIC_RELEASE);
	(void)wake_arm(front->wake);
	wake_post(front->wake);
	pthread_join(front->waker, NULL);
	front->waker_started = false;
}
