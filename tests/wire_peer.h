/* wire_peer.h - a small TCP client of its own, for the wire's other end */
/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Why:   a peer in virtual time that has SACK, timestamps and window scale,
 *        and that can be slow, lazy or rude on purpose. It shares no code
 *        with dataplane/: what both got wrong alike would not be seen.
 * Bytes: it sends pattern(send_seed) and expects pattern(receive_seed), so
 *        it keeps none; bytes out of order are compared when they come.
 * It is no model of congestion control: it has what its window allows in
 * flight, and goes back to the first missing byte after a timeout.
 */
#ifndef HEDDLE_TESTS_WIRE_PEER_H
#define HEDDLE_TESTS_WIRE_PEER_H

#include "tests/wire.h"

#define PEER_COUNT_MAX 8
#define PEER_ISLAND_COUNT 64

extern const uint8_t peer_mac[6], server_mac[6];
extern const uint8_t peer_ip4[4], server_ip4[4];
extern const uint8_t peer_ip6[16], server_ip6[16];

enum peer_state {
	PEER_IDLE,
	PEER_SYN_SENT,
	PEER_OPEN,
	PEER_DONE, /* both directions ended, all acknowledged */
	PEER_RESET,
	PEER_GAVE_UP
};

struct peer_config {
	bool ip6, sack, timestamps, scale;
	uint16_t mss; /* said, and kept to */
	uint32_t receive_bytes; /* buffer */
	uint32_t send_window; /* most that is in flight */
	uint64_t read_bytes_per_s; /* 0 = reads at once */
	uint64_t ack_delay_ns; /* 0 = acknowledges each segment */
	uint64_t send_seed, receive_seed;
	uint64_t send_total;
	bool close_last; /* its FIN follows the server's */
	uint64_t give_up_ns; /* without any progress */
	uint16_t port, server_port;
};

struct peer_island {
	uint64_t start, end; /* offsets in the stream */
};

struct wire_peer {
	struct peer_config config;
	enum peer_state state;
	uint32_t iss, irs;
	uint64_t sent, acked; /* stream offsets; the FIN is one past the end */
	uint64_t sent_max;
	uint64_t received; /* in order */
	uint64_t read; /* by its application */
	uint64_t edge; /* offset up to which the window was opened */
	struct peer_island islands[PEER_ISLAND_COUNT];
	uint32_t island_count, latest;
	uint64_t fin_at; /* offset of the server's FIN, UINT64_MAX = unknown */
	bool fin_taken, corrupt_bytes, server_sack, server_ts, server_scale;
	uint8_t server_shift;
	uint16_t server_mss;
	uint64_t window_end; /* offset to which the server lets us send */
	uint32_t wl1, wl2;
	uint32_t ts_recent;
	uint64_t rto_ns, rto_at_ns, ack_at_ns, read_at_ns, read_ns;
	uint64_t progress_ns;
	bool ack_due;
	uint64_t last_data_ns; /* when the last new byte came */
};

struct peer_host {
	struct wire *wire;
	uint8_t end; /* which end of the wire it is */
	struct wire_peer peers[PEER_COUNT_MAX];
	uint32_t count;
	uint16_t ip_id;
};

void peer_host_init(struct peer_host *h, struct wire *w, uint8_t end);
struct wire_peer *peer_connect(
	struct peer_host *h, const struct peer_config *config);
bool peers_ended(const struct peer_host *h);

/* A sum that is independent of dataplane/net_checksum.c. */
uint16_t peer_checksum(uint32_t sum, const uint8_t *data, size_t length);

#endif
