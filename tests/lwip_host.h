/* lwip_host.h - Debian's liblwip as a host with clients, in this process */
/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Why:   a peer that we did not write: lwIP's raw API, one thread, no socket.
 * Time:  lwIP asks sys_now(), which is here; it follows lwip_host_set_time().
 * One:   lwIP is one stack per process, so is this.
 */
#ifndef HEDDLE_TESTS_LWIP_HOST_H
#define HEDDLE_TESTS_LWIP_HOST_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define LWIP_CLIENT_COUNT 1100

typedef void lwip_frame_out(void *arg, const uint8_t *frame, size_t length);

/* Address 10.0.0.2/24; frames leave by `out`. Call once, later calls change
 * where frames go. False: there is no liblwip here. */
bool lwip_host_start(lwip_frame_out *out, void *arg);
void lwip_host_set_time(uint64_t ns);
void lwip_host_input(const uint8_t *frame, size_t length);
/* Run lwIP's timers. */
void lwip_host_poll(void);
/* Milliseconds until it wants to be polled. */
uint32_t lwip_host_sleep_ms(void);

/* Begin to connect to 10.0.0.1; a client, or -1. */
int lwip_client_connect(uint16_t port);
/* 0 = not yet, 1 = open, -errno. */
int lwip_client_state(int client);
uint16_t lwip_client_port(int client);
/* As send() and recv() that do not wait; 0 of receive is the end. */
long lwip_client_send(int client, const void *data, size_t length);
long lwip_client_receive(int client, void *data, size_t length);
void lwip_client_shutdown(int client);
void lwip_client_close(int client);
void lwip_client_abort(int client);
/* --- as a server that only sends; with lwip_host_start()'s addresses --- */
/* Take all that connect to `port`. False: it is taken. */
bool lwip_server_listen(uint16_t port);
/*
 * As lwip_host_input(), for a SYN of an address that has no connection: lwIP
 * would look through all of them first, and opening many would take for ever.
 */
void lwip_server_input_syn(const uint8_t *frame, size_t length);
/* The connection that was accepted last, NULL = none since. */
void *lwip_server_accept(void);
bool lwip_server_send(void *connection, const void *data, size_t length);
/*
 * lwIP looks for connections in one list. Put `list` (NULL = an empty one) in
 * its place; returns what was there.
 */
void *lwip_server_swap(void *list);

/* Abort all and forget their states, TIME_WAIT included. */
void lwip_host_clear(void);

#endif
