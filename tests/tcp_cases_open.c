/* tcp_cases_open.c - handshakes and options, segment by segment */
/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/tcp_cases.h"

const struct tcp_script tcp_cases_open[] = {
	{"syn is answered", "9293 3.10.7.2",
		"< S seq 0 mss 1460;> SA seq 0 ack 1 mss 1460 win 32768;"
		"state SYN-RECEIVED;news none"},
	{"the third segment opens", "9293 3.10.7.4",
		"< S seq 0 mss 1460;> SA seq 0 ack 1;state SYN-RECEIVED;"
		"< A seq 1 ack 1;state ESTABLISHED;news opened;news none"},
	{"data may come with the third segment", "9293 3.10.7.4",
		"< S seq 0 mss 1460;> SA;< PA seq 1 ack 1 len 10;news opened;"
		"news data;unread 10;+ 11ms;> A seq 1 ack 11"},
	{"data in a syn is not taken", "9293 3.4",
		"< S seq 0 len 5 mss 1460;> SA seq 0 ack 1;< A seq 1 ack 1;"
		"news opened;unread 0;< PA seq 1 ack 1 len 5;unread 5;+ 11ms;"
		"> A ack 6"},
	{"fin with the third segment", "9293 3.10.7.4",
		"< S seq 0 mss 1460;> SA;< FA seq 1 ack 1;> A seq 1 ack 2;"
		"news opened;news done;state CLOSE-WAIT"},
	{"rst in listen is ignored", "9293 3.10.7.2",
		"< R seq 5;> none;state LISTEN"},
	{"ack in listen is reset", "9293 3.10.7.2",
		"< A seq 5 ack 77;> R seq 77;state LISTEN"},
	{"ack with data in listen is reset", "9293 3.10.7.2",
		"< PA seq 5 ack 77 len 9;> R seq 77"},
	{"syn and ack in listen is reset", "9293 3.10.7.2",
		"< SA seq 5 ack 77;> R seq 77"},
	{"syn and rst in listen is ignored", "9293 3.10.7.2",
		"< SR seq 5;> none"},
	{"syn and fin in listen is refused", "9293 3.10.7.2",
		"< SF seq 5;> RA seq 0 ack 7;state LISTEN"},
	{"nothing set in listen is refused", "9293 3.10.7.1",
		"< . seq 5;> RA seq 0 ack 5"},
	{"fin in listen is refused", "9293 3.10.7.1",
		"< F seq 5;> RA seq 0 ack 6"},
	{"fin and ack in listen is reset", "9293 3.10.7.1",
		"< FA seq 5 ack 9;> R seq 9"},
	{"syn again is answered again", "9293 3.10.7.4",
		"< S seq 0 mss 1460;> SA seq 0 ack 1;"
		"< S seq 0 mss 1460;> SA seq 0 ack 1;state SYN-RECEIVED"},
	{"syn and ack is repeated after a second", "6298 2.1",
		"< S seq 0 mss 1460;> SA;+ 999ms;> none;+ 2ms;> SA seq 0 ack "
		"1"},
	{"it is repeated ever later", "6298 5.5",
		"< S seq 0 mss 1460;> SA;+ 1001ms;> SA;+ 1990ms;> none;"
		"+ 20ms;> SA;+ 3980ms;> none;+ 40ms;> SA"},
	{"half open is forgotten at last", "9293 3.8.3",
		"< S seq 0 mss 1460;> SA;+ 32s;> SA;> SA;> SA;> SA;> SA;"
		"state SYN-RECEIVED;+ 60s;state LISTEN;news none"},
	{"wrong ack in syn-received is reset", "9293 3.10.7.4",
		"< S seq 0 mss 1460;> SA;< A seq 1 ack 7;> R seq 7;"
		"state SYN-RECEIVED"},
	{"ack of our syn's own number is reset", "9293 3.10.7.4",
		"< S seq 0 mss 1460;> SA;< A seq 1 ack 0;> R seq 0;"
		"state SYN-RECEIVED"},
	{"rst in syn-received goes back to listen", "9293 3.10.7.4",
		"< S seq 0 mss 1460;> SA;< R seq 1;> none;state LISTEN;"
		"news none"},
	{"rst beside the number does not", "5961 3.2",
		"< S seq 0 mss 1460;> SA;< R seq 2;> A seq 1 ack 1;"
		"state SYN-RECEIVED"},
	{"rst outside of the window is nothing", "9293 3.10.7.4",
		"< S seq 0 mss 1460;> SA;< R seq 40000;> none;"
		"state SYN-RECEIVED"},
	{"other syn in syn-received is challenged", "5961 4.2",
		"< S seq 0 mss 1460;> SA;< S seq 9 mss 1460;> A seq 1 ack 1;"
		"state SYN-RECEIVED"},
	{"segment without ack is dropped", "9293 3.10.7.4",
		"< S seq 0 mss 1460;> SA;< . seq 1 len 4;> none;"
		"state SYN-RECEIVED"},
	{"fin without ack is dropped", "9293 3.10.7.4",
		"< S seq 0 mss 1460;> SA;< F seq 1;> none;state SYN-RECEIVED"},
	{"empty segment left of the window is answered", "9293 3.10.7.4",
		"< S seq 0 mss 1460;> SA;< A seq 0 ack 1;> A seq 1 ack 1;"
		"state SYN-RECEIVED"},
	{"a lost third segment is made up by data", "9293 3.10.7.4",
		"< S seq 0 mss 1460;> SA;< A seq 11 ack 1 len 10;news opened;"
		"> A seq 1 ack 1;< A seq 1 ack 1 len 10;> A seq 1 ack 21;"
		"unread 20;news data"},
	/* --- MSS --- */
	{"no mss means 536", "9293 3.7.1",
		"< S seq 0;> SA mss 1460;< A seq 1;news opened;send 600;"
		"> A seq 1 len 536;> PA seq 537 len 64"},
	{"mss of the peer is kept to", "9293 3.7.1",
		"< S seq 0 mss 1000;> SA;< A seq 1;news opened;send 1500;"
		"> A seq 1 len 1000;> PA seq 1001 len 500"},
	{"our mtu bounds it", "9293 3.7.1",
		"< S seq 0 mss 8960;> SA mss 1460;< A seq 1;news opened;"
		"send 1461;> A seq 1 len 1460;> PA len 1"},
	{"jumbo frames", "9293 3.7.1",
		"config mtu 9000;< S seq 0 mss 8960;> SA mss 8960;< A seq 1;"
		"news opened;send 10000;> A seq 1 len 8960;> PA len 1040"},
	{"jumbo, smaller peer", "9293 3.7.1",
		"config mtu 9000;< S seq 0 mss 536;> SA mss 8960;< A seq 1;"
		"news opened;send 537;> A seq 1 len 536;> PA len 1"},
	{"absurd mss is raised", "rule: 64 at least",
		"< S seq 0 mss 1;> SA;< A seq 1;news opened;send 65;"
		"> A seq 1 len 64;> PA len 1"},
	{"mss after the handshake is ignored", "9293 3.1",
		OPEN "< A seq 1 ack 1 mss 100;send 200;> PA seq 1 len 200"},
	/* --- window scale --- */
	{"scale is agreed on", "7323 2.2",
		"config recv 200000;< S seq 0 mss 1460 scale 7;"
		"> SA scale 2 win 65535;< A seq 1;news opened"},
	{"scale is not offered first", "7323 2.2",
		"< S seq 0 mss 1460;> SA noscale;< A seq 1;news opened"},
	{"a syn's window is never scaled", "7323 2.2",
		"< S seq 0 mss 1460 scale 10 win 100;> SA;"
		"< A seq 1 ack 1 win 1;news opened;send 2000;> A len 1024"},
	{"the peer's scale is applied", "7323 2.3",
		"< S seq 0 mss 1460 scale 8;> SA;< A seq 1 win 4;news opened;"
		"send 1024;> PA len 1024"},
	{"scale above 14 means 14", "7323 2.3",
		"< S seq 0 mss 1460 scale 15;> SA;< A seq 1 win 1;news opened;"
		"send 1000;> PA len 1000"},
	{"our scaled window is told", "7323 2.3",
		"config recv 200000;< S seq 0 mss 1460 scale 0;> SA scale 2;"
		"< PA seq 1 len 100;news opened;news data;+ 11ms;"
		"> A ack 101 win 49975"},
	/* --- timestamps --- */
	{"timestamps are agreed on", "7323 3.2",
		"< S seq 0 mss 1460 ts 5 0;> SA ts * 5;< A seq 1 ts 6 0;"
		"news opened;send 10;> PA len 10 ts * 6"},
	{"timestamps are not offered first", "7323 3.2",
		OPEN "send 10;> PA len 10 nots"},
	{"they take twelve bytes of each segment", "7323 3.2",
		OPEN_TS "send 1460;> A len 1448 ts * 101;> PA len 12 ts * 101"},
	{"segment without is dropped", "7323 3.2",
		OPEN_TS "< PA seq 1 len 5;> none;news none;unread 0"},
	{"reset without is taken", "7323 3.2", OPEN_TS "< R seq 1;news reset"},
	{"old timestamp is answered and dropped", "7323 5.3",
		OPEN_TS "< PA seq 1 len 5 ts 99 0;> A seq 1 ack 1 ts * 101;"
			"news none"},
	{"equal timestamp passes", "7323 5.3",
		OPEN_TS "< PA seq 1 len 5 ts 101 0;news data;+ 11ms;> A ack 6"},
	{"old timestamp on a reset passes", "7323 5.2",
		OPEN_TS "< R seq 1 ts 50 0;news reset"},
	{"echo is of the segment that moved the edge", "7323 4.3",
		OPEN_TS "< A seq 11 len 10 ts 150 0;> A ack 1 ts * 101;"
			"< A seq 1 len 10 ts 140 0;> A ack 21 ts * 140;"
			"news data"},
	{"delayed ack echoes the first", "7323 4.3",
		OPEN_TS "< A seq 1 len 10 ts 110 0;< A seq 11 len 10 ts 120 0;"
			"> A ack 21 ts * 110;news data"},
	{"wrapped timestamp is newer", "7323 5.2",
		"< S seq 0 mss 1460 ts 4294967290 0;> SA;"
		"< A seq 1 ts 4294967291 0;news opened;"
		"< PA seq 1 len 5 ts 3 0;news data;+ 11ms;> A ack 6 ts * 3"},
	{"after 24 days any timestamp passes", "7323 5.5",
		"config keepalive 4000000000;" OPEN_TS "+ 2100000s;"
		"< PA seq 1 len 5 ts 7 0;news data;+ 11ms;> A ack 6 ts * 7"},
	/* --- SACK permitted --- */
	{"sack is agreed on", "2018 2",
		"< S seq 0 mss 1460 sackok;> SA sackok"},
	{"sack is not offered first", "2018 2",
		"< S seq 0 mss 1460;> SA nosack"},
	{"sack permitted later means nothing", "2018 2",
		OPEN "< A seq 1 sackok;< A seq 11 len 10;> A ack 1 nosack"},
	/* --- options of every shape --- */
	{"end of options ends them", "9293 3.1",
		"< S seq 0 opt 00020405;> SA;< A seq 1;news opened;"
		"send 537;> A len 536;> PA len 1"},
	{"no-operations are skipped", "9293 3.1",
		"< S seq 0 opt 0101010102040200;> SA;< A seq 1;news opened;"
		"send 513;> A len 512;> PA len 1"},
	{"unknown option is skipped", "9293 3.1",
		"< S seq 0 opt fd04aaaa02040200;> SA;< A seq 1;news opened;"
		"send 513;> A len 512;> PA len 1"},
	{"option of length 0 drops the segment", "9293 3.1, rule",
		"< S seq 0 opt 02000000;> none;state LISTEN"},
	{"option of length 1 drops the segment", "9293 3.1, rule",
		"< S seq 0 opt fd010000;> none"},
	{"option past the header drops the segment", "9293 3.1, rule",
		"< S seq 0 opt 01010204;> none"},
	{"option without a length drops the segment", "9293 3.1, rule",
		"< S seq 0 opt 010101fd;> none"},
	{"mss option of a wrong size is skipped", "9293 3.1",
		"< S seq 0 opt 0203ff00;> SA;< A seq 1;news opened;send 537;"
		"> A len 536;> PA len 1"},
	{"bad option does not end a connection", "9293 3.1, rule",
		OPEN "< A seq 1 opt 08000000 len 4;> none;news none;"
		     "state ESTABLISHED"},
	/* --- limits --- */
	{"syn is dropped when all are taken", "rule",
		"config open 1;" OPEN "peer 4001;< S seq 0 mss 1460;> none"},
	{"third segment waits when all are taken", "rule",
		"config open 1;< S seq 0 mss 1460;> SA;peer 4001;"
		"< S seq 0 mss 1460;> SA;< A seq 1;news opened;peer 4000;"
		"< A seq 1;> none;news none;state SYN-RECEIVED"},
	{0},
};
