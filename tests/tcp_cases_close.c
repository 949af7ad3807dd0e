/* tcp_cases_close.c - every way a connection ends, segment by segment */
/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/tcp_cases.h"

/* Both have closed, we first: TIME-WAIT. */
#define WAITING                                                                \
	OPEN "close;> FA seq 1 ack 1;< A seq 1 ack 2;< FA seq 1 ack 2;"        \
	     "> A seq 2 ack 2;news clean;state TIME-WAIT;"

const struct tcp_script tcp_cases_close[] = {
	{"peer closes, then we", "9293 3.6",
		OPEN "< FA seq 1;> A seq 1 ack 2;news done;state CLOSE-WAIT;"
		     "close;> FA seq 1 ack 2;state LAST-ACK;< A seq 2 ack 2;"
		     "news clean;state LISTEN"},
	{"we close, then the peer", "9293 3.6", WAITING "> none"},
	{"fin and ack in one", "9293 3.6",
		OPEN "close;> FA seq 1;< FA seq 1 ack 2;> A seq 2 ack 2;"
		     "state TIME-WAIT;news clean"},
	{"simultaneous close", "9293 3.6",
		OPEN "close;> FA seq 1 ack 1;state FIN-WAIT-1;< FA seq 1 ack 1;"
		     "> A seq 2 ack 2;state CLOSING;< A seq 2 ack 2;"
		     "state TIME-WAIT;news clean"},
	{"fin behind data", "9293 3.10.4",
		OPEN "send 10;> PA;close;> FA seq 11;state FIN-WAIT-1;"
		     "< A seq 1 ack 12;state FIN-WAIT-2"},
	{"fin in the segment of the last data", "9293 3.10.4",
		"< S seq 0 mss 1460;> SA;< A seq 1 win 0;news opened;send 10;"
		"close;< A seq 1 win 5000;> FPA seq 1 len 10;state FIN-WAIT-1"},
	{"fin waits for the data before it", "9293 3.10.4",
		"< S seq 0 mss 1460;> SA;< A seq 1 win 1460;news opened;"
		"send 2000;> A len 1460;close;> none;< A seq 1 ack 1461;"
		"> FPA seq 1461 len 540"},
	{"fin is sent again", "6298 5.4",
		OPEN "close;> FA seq 1;+ 201ms;> FA seq 1;+ 401ms;> FA seq 1"},
	{"data and fin are sent again together", "6298 5.4",
		OPEN
		"send 10;> PA;close;> FA seq 11;+ 201ms;> FPA seq 1 len 10;"
		"> none"},
	{"data acknowledged, fin not", "9293 3.6",
		OPEN "send 10;> PA;close;> FA seq 11;< A seq 1 ack 11;"
		     "state FIN-WAIT-1;+ 201ms;> FA seq 11"},
	{"fin with data", "9293 3.10.7.4",
		OPEN "< FPA seq 1 len 10;> A ack 12;news data;news done;"
		     "unread 10;state CLOSE-WAIT"},
	{"fin before its data", "9293 3.10.7.4",
		OPEN "< FA seq 11 len 5;> A ack 1;news none;"
		     "state ESTABLISHED;< A seq 1 len 10;> A ack 17;news data;"
		     "news done;unread 15"},
	{"bare fin before its data", "9293 3.10.7.4",
		OPEN "< FA seq 11;> A ack 1;< A seq 1 len 10;> A ack 12;"
		     "news data;news done;unread 10"},
	{"data behind a fin is nothing", "9293 3.10.7.4",
		OPEN "< FA seq 11;> A ack 1;< A seq 1 len 30;> A ack 12;"
		     "unread 10;news data;news done"},
	{"fin again", "9293 3.10.7.4",
		OPEN "< FA seq 1;> A ack 2;news done;< FA seq 1;> A ack 2;"
		     "news none;state CLOSE-WAIT"},
	{"data after the fin is nothing", "9293 3.10.7.4",
		OPEN "< FA seq 1;> A ack 2;news done;< A seq 2 len 10;"
		     "> A ack 2;unread 0"},
	{"fin at a full window", "9293 3.10.7.4",
		"config recv 2048;" OPEN "< FA seq 1 len 2048;> A ack 2050;"
		"news data;news done;unread 2048"},
	{"fin past the window is cut off", "9293 3.10.7.4",
		"config recv 2048;" OPEN "< FA seq 1 len 2049;> A ack 2049;"
		"news data;state ESTABLISHED"},
	{"sending goes on after the peer's fin", "9293 3.6",
		OPEN "< FA seq 1;> A ack 2;news done;send 100;"
		     "> PA seq 1 ack 2 len 100;< A seq 2 ack 101"},
	{"unread bytes outlive the peer's fin", "stream.h",
		OPEN "< FPA seq 1 len 10;> A ack 12;news data;news done;"
		     "read 4;read 6;unread 0"},
	/* --- half-close by us --- */
	{"half-close receives on", "9293 3.6",
		OPEN "finish;> FA seq 1;state FIN-WAIT-1;< A seq 1 ack 2;"
		     "state FIN-WAIT-2;< PA seq 1 ack 2 len 10;news data;"
		     "unread 10;+ 11ms;> A seq 2 ack 11"},
	{"half-close, then the peer's end", "9293 3.6",
		OPEN "finish;> FA;< A seq 1 ack 2;< FA seq 1 ack 2 len 10;"
		     "> A ack 12;news data;news done;unread 10;"
		     "state TIME-WAIT;read 10;close;news clean"},
	{"what is unread outlives time-wait", "rule",
		OPEN "finish;> FA;< FA seq 1 ack 2 len 10;> A ack 12;news data;"
		     "news done;+ 120s;unread 10;close;news clean;"
		     "state LISTEN"},
	{"half-close has no time limit", "9293 3.6",
		OPEN "finish;> FA;< A seq 1 ack 2;+ 600s;> none;"
		     "state FIN-WAIT-2"},
	{"finish after the peer's fin waits for close", "rule",
		OPEN "< FPA seq 1 len 5;> A ack 7;news data;news done;finish;"
		     "> FA seq 1;< A seq 7 ack 2;news none;read 5;close;"
		     "news clean;state LISTEN"},
	{"data in fin-wait-1", "9293 3.10.7.4",
		OPEN "finish;> FA;< PA seq 1 ack 1 len 10;news data;unread 10;"
		     "+ 11ms;> A seq 2 ack 11"},
	/* --- after close() --- */
	{"what comes after close is acknowledged, dropped", "rule",
		OPEN "close;> FA;< A seq 1 ack 2;< PA seq 1 ack 2 len 10;"
		     "> A seq 2 ack 11;news none;< FA seq 11 ack 2;> A ack 12;"
		     "news clean"},
	{"fin-wait-2 ends after a while", "rule",
		OPEN
		"close;> FA;< A seq 1 ack 2;+ 59s;> none;"
		"state FIN-WAIT-2;+ 2s;> RA seq 2;news clean;state LISTEN"},
	{"unread input is dropped by close", "rule",
		OPEN "< PA seq 1 len 10;news data;close;> FA seq 1 ack 11;"
		     "< FA seq 11 ack 2;> A ack 12;news clean"},
	{"close without an answer times out", "9293 3.8.3",
		"config user 1000;" OPEN "close;> FA;+ 990ms;> FA;> FA;+ 20ms;"
		"> RA;news timeout"},
	/* --- abort, reset --- */
	{"abort resets", "9293 3.10.5",
		OPEN "abort;> RA seq 1 ack 1;news reset;state LISTEN"},
	{"abort with data in flight", "9293 3.10.5",
		OPEN "send 10;> PA;abort;> RA seq 11;news reset"},
	{"abort in close-wait", "9293 3.10.5",
		OPEN
		"< FA seq 1;> A;news done;abort;> RA seq 1 ack 2;news reset"},
	{"segments after abort are reset", "9293 3.10.7.1",
		OPEN "abort;> RA;news reset;< A seq 1 ack 1;> R seq 1"},
	{"reset in established", "9293 3.10.7.4",
		OPEN "< R seq 1;news reset;state LISTEN;> none"},
	{"reset with an ack", "9293 3.10.7.4",
		OPEN "< RA seq 1 ack 1;news reset"},
	{"reset in close-wait", "9293 3.10.7.4",
		OPEN "< FA seq 1;> A;news done;< R seq 2;news reset"},
	{"reset in fin-wait-1", "9293 3.10.7.4",
		OPEN "close;> FA;< R seq 1;news reset;state LISTEN"},
	{"reset in fin-wait-2", "9293 3.10.7.4",
		OPEN "close;> FA;< A seq 1 ack 2;< R seq 1;news reset"},
	{"reset in closing", "9293 3.10.7.4",
		OPEN "close;> FA;< FA seq 1;> A;state CLOSING;< R seq 2;"
		     "news reset"},
	{"reset in last-ack", "9293 3.10.7.4",
		OPEN
		"< FA seq 1;> A;news done;close;> FA;< R seq 2;news reset"},
	{"reset drops what is unread", "9293 3.10.7.4",
		OPEN
		"< PA seq 1 len 10;news data;< R seq 11;news reset;unread 0"},
	/* --- TIME-WAIT --- */
	{"time-wait ends", "9293 3.6.1",
		WAITING "+ 59s;state TIME-WAIT;+ 2s;state LISTEN;news none"},
	{"fin again in time-wait", "9293 3.10.7.4",
		WAITING "< FA seq 1 ack 2;> A seq 2 ack 2;state TIME-WAIT"},
	{"and it starts the time again", "9293 3.10.7.4",
		WAITING "+ 40s;< FA seq 1 ack 2;> A;+ 40s;state TIME-WAIT;"
			"+ 21s;state LISTEN"},
	{"reset in time-wait is ignored", "1337",
		WAITING "< R seq 2;> none;state TIME-WAIT"},
	{"an old syn in time-wait is answered", "9293 3.10.7.4",
		WAITING "< S seq 0 mss 1460;> A seq 2 ack 2;state TIME-WAIT"},
	{"a newer syn in time-wait opens", "6191, 1122 4.2.2.13",
		WAITING "< S seq 100 mss 1460;> SA ack 101;"
			"state SYN-RECEIVED"},
	{"data in time-wait is answered", "9293 3.10.7.4",
		WAITING "< A seq 2 ack 2 len 5;> A seq 2 ack 2;unread 0"},
	{"ack in time-wait is nothing", "9293 3.10.7.4",
		WAITING "< A seq 2 ack 2;> none;state TIME-WAIT"},
	{0},
};
