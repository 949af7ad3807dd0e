/* lwip_host.c - Debian's liblwip as a host with clients, in this process */
/* SPDX-License-Identifier: Apache-2.0 */
#include <dlfcn.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* Its headers are not ours to warn about. */
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wconversion"
#pragma GCC diagnostic ignored "-Wundef"
#pragma GCC diagnostic ignored "-Wpedantic"
#include <lwip/etharp.h>
#include <lwip/init.h>
#include <lwip/netif.h>
#include <lwip/pbuf.h>
#include <lwip/priv/tcp_priv.h>
#include <lwip/tcp.h>
#include <lwip/timeouts.h>
#include <netif/ethernet.h>
#pragma GCC diagnostic pop
/* lwIP's posix header gives errno another meaning. */

#include "tests/lwip_host.h"

/*
 * Its names are ours too (tcp_output()), so it is opened at run time and the
 * two never meet: of this program it only sees sys_now().
 */
#define LWIP_CALLS(X)                                                          \
	X(lwip_init)                                                           \
	X(netif_add)                                                           \
	X(netif_set_default)                                                   \
	X(netif_set_up)                                                        \
	X(netif_set_link_up)                                                   \
	X(etharp_output)                                                       \
	X(ethernet_input)                                                      \
	X(pbuf_alloc)                                                          \
	X(pbuf_take)                                                           \
	X(pbuf_free)                                                           \
	X(pbuf_cat)                                                            \
	X(pbuf_copy_partial)                                                   \
	X(pbuf_free_header)                                                    \
	X(sys_check_timeouts)                                                  \
	X(sys_timeouts_sleeptime)                                              \
	X(tcp_new_ip_type)                                                     \
	X(tcp_arg)                                                             \
	X(tcp_recv)                                                            \
	X(tcp_err)                                                             \
	X(tcp_connect)                                                         \
	X(tcp_write)                                                           \
	X(tcp_output)                                                          \
	X(tcp_recved)                                                          \
	X(tcp_bind)                                                            \
	X(tcp_listen_with_backlog)                                             \
	X(tcp_accept)                                                          \
	X(tcp_shutdown)                                                        \
	X(tcp_close)                                                           \
	X(tcp_abort)

#define LWIP_DECLARE(f) __typeof__(f) *f##_;
static struct {
	LWIP_CALLS(LWIP_DECLARE)
	struct tcp_pcb **active, **waiting;
} lwip;

struct client {
	struct tcp_pcb *pcb; /* lwIP's */
	struct pbuf *input; /* unread */
	bool used, open, ended, shut;
	int error; /* 0 or -errno */
	uint16_t port;
};

static struct client clients[LWIP_CLIENT_COUNT];
static struct netif netif;
static lwip_frame_out *frame_out;
static void *frame_arg;
static uint64_t time_ns;
static bool started;
static struct tcp_pcb *accepted;

/* lwIP finds this one before its own. */
u32_t sys_now(void);
u32_t sys_now(void)
{
	return (u32_t)(time_ns / 1000000);
}

static err_t link_output(struct netif *n, struct pbuf *p)
{
	static uint8_t frame[2048];

	(void)n;
	lwip.pbuf_copy_partial_(p, frame, p->tot_len, 0);
	frame_out(frame_arg, frame, p->tot_len);
	return ERR_OK;
}

static void *symbol(void *library, const char *name)
{
	void *at = dlsym(library, name);

	if (!at)
		abort();
	return at;
}

#define LWIP_FIND(f) *(void **)&lwip.f##_ = symbol(library, #f);

static bool open_library(void)
{
	void *library = dlopen("liblwip.so.0", RTLD_NOW | RTLD_LOCAL);

	if (!library)
		return false;
	LWIP_CALLS(LWIP_FIND)
	lwip.active = symbol(library, "tcp_active_pcbs");
	lwip.waiting = symbol(library, "tcp_tw_pcbs");
	return true;
}

static err_t netif_begin(struct netif *n)
{
	static const uint8_t mac[6] = {2, 0, 0, 0, 0, 2};

	n->name[0] = 't';
	n->name[1] = 'w';
	n->mtu = 1500;
	n->hwaddr_len = 6;
	memcpy(n->hwaddr, mac, 6);
	n->output = lwip.etharp_output_;
	n->linkoutput = link_output;
	n->flags = NETIF_FLAG_BROADCAST | NETIF_FLAG_ETHARP |
		   NETIF_FLAG_ETHERNET | NETIF_FLAG_LINK_UP | NETIF_FLAG_UP;
	return ERR_OK;
}

bool lwip_host_start(lwip_frame_out *out, void *arg)
{
	ip4_addr_t own, mask, gateway;

	frame_out = out;
	frame_arg = arg;
	if (started)
		return true;
	if (!open_library())
		return false;
	started = true;
	lwip.lwip_init_();
	IP4_ADDR(&own, 10, 0, 0, 2);
	IP4_ADDR(&mask, 255, 255, 255, 0);
	IP4_ADDR(&gateway, 0, 0, 0, 0);
	lwip.netif_add_(&netif, &own, &mask, &gateway, NULL, netif_begin,
		lwip.ethernet_input_);
	lwip.netif_set_default_(&netif);
	lwip.netif_set_up_(&netif);
	lwip.netif_set_link_up_(&netif);
	return true;
}

void lwip_host_set_time(uint64_t ns)
{
	time_ns = ns;
}

void lwip_host_input(const uint8_t *frame, size_t length)
{
	struct pbuf *p = lwip.pbuf_alloc_(PBUF_RAW, (u16_t)length, PBUF_RAM);

	if (!p)
		abort();
	lwip.pbuf_take_(p, frame, (u16_t)length);
	if (netif.input(p, &netif) != ERR_OK)
		lwip.pbuf_free_(p);
}

void lwip_host_poll(void)
{
	lwip.sys_check_timeouts_();
}

uint32_t lwip_host_sleep_ms(void)
{
	return lwip.sys_timeouts_sleeptime_();
}

/* --- clients --- */

static err_t connected(void *arg, struct tcp_pcb *pcb, err_t err)
{
	struct client *c = arg;

	(void)pcb;
	(void)err;
	c->open = true;
	return ERR_OK;
}

static err_t received(void *arg, struct tcp_pcb *pcb, struct pbuf *p, err_t err)
{
	struct client *c = arg;

	(void)pcb;
	(void)err;
	if (!p)
		c->ended = true;
	else if (c->input)
		lwip.pbuf_cat_(c->input, p);
	else
		c->input = p;
	return ERR_OK;
}

static void failed(void *arg, err_t err)
{
	struct client *c = arg;

	c->pcb = NULL;
	c->error = err == ERR_RST && !c->open ? -ECONNREFUSED
		   : err == ERR_RST           ? -ECONNRESET
					      : -ETIMEDOUT;
	/* What was received before a reset is gone, as with sockets. */
	if (c->input)
		lwip.pbuf_free_(c->input);
	c->input = NULL;
}

int lwip_client_connect(uint16_t port)
{
	ip_addr_t to;
	int i = 0;

	while (i < LWIP_CLIENT_COUNT && clients[i].used)
		i++;
	if (i == LWIP_CLIENT_COUNT)
		return -1;
	clients[i] = (struct client){.used = true};
	clients[i].pcb = lwip.tcp_new_ip_type_(IPADDR_TYPE_V4);
	if (!clients[i].pcb)
		return -1;
	IP_ADDR4(&to, 10, 0, 0, 1);
	lwip.tcp_arg_(clients[i].pcb, &clients[i]);
	lwip.tcp_recv_(clients[i].pcb, received);
	lwip.tcp_err_(clients[i].pcb, failed);
	tcp_nagle_disable(clients[i].pcb);
	if (lwip.tcp_connect_(clients[i].pcb, &to, port, connected) != ERR_OK)
		return -1;
	clients[i].port = clients[i].pcb->local_port;
	return i;
}

int lwip_client_state(int client)
{
	const struct client *c = &clients[client];

	return c->error ? c->error : c->open;
}

uint16_t lwip_client_port(int client)
{
	return clients[client].port;
}

long lwip_client_send(int client, const void *data, size_t length)
{
	struct client *c = &clients[client];
	size_t room;

	if (!c->pcb || c->shut)
		return c->error ? c->error : -EPIPE;
	room = tcp_sndbuf(c->pcb);
	if (length > room)
		length = room;
	if (length == 0 || lwip.tcp_write_(c->pcb, data, (u16_t)length,
				   TCP_WRITE_FLAG_COPY) != ERR_OK)
		return -EAGAIN;
	lwip.tcp_output_(c->pcb);
	return (long)length;
}

long lwip_client_receive(int client, void *data, size_t length)
{
	struct client *c = &clients[client];
	u16_t part;

	if (!c->input && c->ended)
		return 0;
	if (!c->input)
		return c->error ? c->error : -EAGAIN;
	/* A pbuf's total is 16 bits wide, so is what can be taken. */
	part = lwip.pbuf_copy_partial_(
		c->input, data, length < 60000 ? (u16_t)length : 60000, 0);
	c->input = lwip.pbuf_free_header_(c->input, part);
	if (c->pcb)
		lwip.tcp_recved_(c->pcb, part);
	return part;
}

void lwip_client_shutdown(int client)
{
	struct client *c = &clients[client];

	if (c->pcb && !c->shut)
		lwip.tcp_shutdown_(c->pcb, 0, 1);
	c->shut = true;
}

static void forget(struct client *c)
{
	if (c->input)
		lwip.pbuf_free_(c->input);
	*c = (struct client){0};
}

void lwip_client_close(int client)
{
	struct client *c = &clients[client];

	if (c->pcb) {
		/* Unread bytes: lwIP resets, as sockets do. */
		lwip.tcp_arg_(c->pcb, NULL);
		lwip.tcp_recv_(c->pcb, NULL);
		lwip.tcp_err_(c->pcb, NULL);
		if (lwip.tcp_close_(c->pcb) != ERR_OK)
			lwip.tcp_abort_(c->pcb);
	}
	forget(c);
}

void lwip_client_abort(int client)
{
	struct client *c = &clients[client];

	if (c->pcb) {
		lwip.tcp_arg_(c->pcb, NULL);
		lwip.tcp_err_(c->pcb, NULL);
		lwip.tcp_abort_(c->pcb);
	}
	forget(c);
}

void lwip_host_clear(void)
{
	for (int i = 0; i < LWIP_CLIENT_COUNT; i++)
		if (clients[i].used)
			lwip_client_abort(i);
	while (*lwip.active) {
		lwip.tcp_arg_(*lwip.active, NULL);
		lwip.tcp_err_(*lwip.active, NULL);
		lwip.tcp_abort_(*lwip.active);
	}
	while (*lwip.waiting)
		lwip.tcp_abort_(*lwip.waiting);
}

/* --- a server that only sends --- */

static err_t accept_one(void *arg, struct tcp_pcb *pcb, err_t err)
{
	(void)arg;
	(void)err;
	tcp_nagle_disable(pcb);
	accepted = pcb;
	return ERR_OK;
}

bool lwip_server_listen(uint16_t port)
{
	struct tcp_pcb *pcb = lwip.tcp_new_ip_type_(IPADDR_TYPE_V4);
	ip_addr_t any;

	IP_ADDR4(&any, 0, 0, 0, 0);
	if (!pcb || lwip.tcp_bind_(pcb, &any, port) != ERR_OK)
		return false;
	pcb = lwip.tcp_listen_with_backlog_(pcb, 255);
	if (!pcb)
		return false;
	lwip.tcp_accept_(pcb, accept_one);
	return true;
}

void lwip_server_input_syn(const uint8_t *frame, size_t length)
{
	struct tcp_pcb *others = *lwip.active;

	*lwip.active = NULL;
	lwip_host_input(frame, length);
	if (*lwip.active)
		(*lwip.active)->next = others;
	else
		*lwip.active = others;
}

void *lwip_server_accept(void)
{
	struct tcp_pcb *pcb = accepted;

	accepted = NULL;
	return pcb;
}

bool lwip_server_send(void *connection, const void *data, size_t length)
{
	struct tcp_pcb *pcb = connection;

	return lwip.tcp_write_(pcb, data, (u16_t)length, TCP_WRITE_FLAG_COPY) ==
		       ERR_OK &&
	       lwip.tcp_output_(pcb) == ERR_OK;
}

void *lwip_server_swap(void *list)
{
	struct tcp_pcb *old = *lwip.active;

	*lwip.active = list;
	return old;
}
