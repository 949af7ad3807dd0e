/* tcp_cases_attack.c - segments of somebody who guesses */
/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/tcp_cases.h"

const struct tcp_script tcp_cases_attack[] = {
	{"reset in the window is challenged", "5961 3.2",
		OPEN "< R seq 100;> A seq 1 ack 1;state ESTABLISHED;news none"},
	{"reset one beside is challenged", "5961 3.2",
		OPEN "< R seq 2;> A seq 1 ack 1;state ESTABLISHED"},
	{"reset left of the window is dropped", "5961 3.2",
		OPEN "< R seq 0;> none;state ESTABLISHED"},
	{"reset at the window's end is challenged", "5961 3.2",
		OPEN "< R seq 32768;> A seq 1 ack 1;state ESTABLISHED"},
	{"reset beyond the window is dropped", "5961 3.2",
		OPEN "< R seq 32770;> none;state ESTABLISHED"},
	{"reset half the numbers away is dropped", "5961 3.2",
		OPEN "< R seq 2147483649;> none;state ESTABLISHED"},
	{"the peer's answer to a challenge ends it", "5961 3.2",
		OPEN "< R seq 100;> A seq 1 ack 1;< R seq 1;news reset"},
	{"challenges are few", "5961 7",
		OPEN "< R seq 100;> A;< R seq 200;< R seq 300;< R seq 400;"
		     "> none;+ 501ms;< R seq 500;> A"},
	{"syn in the window is challenged", "5961 4.2",
		OPEN "< S seq 100;> A seq 1 ack 1;state ESTABLISHED;news none"},
	{"syn at the exact number is challenged", "5961 4.2",
		OPEN "< S seq 1;> A seq 1 ack 1;state ESTABLISHED"},
	{"syn outside of the window is answered", "5961 4.2",
		OPEN "< S seq 4000000;> A seq 1 ack 1;state ESTABLISHED"},
	{"the syn of long ago is answered", "5961 4.2",
		OPEN "< S seq 0 mss 1460;> A seq 1 ack 1;state ESTABLISHED"},
	{"syn and ack is answered", "5961 4.2",
		OPEN "< SA seq 0 ack 1;> A seq 1 ack 1;state ESTABLISHED"},
	{"syn and fin in the window is challenged", "5961 4.2",
		OPEN "< SF seq 50;> A seq 1 ack 1;state ESTABLISHED"},
	{"a rebooted peer gets rid of us", "9293 3.5.1",
		OPEN "< S seq 5000;> A seq 1 ack 1;< R seq 1;news reset;"
		     "state LISTEN;< S seq 5000 mss 1460;> SA ack 5001"},
	{"data with an ack too old", "5961 5.2",
		OPEN
		"< PA seq 1 ack 4294900000 len 10;> A seq 1 ack 1;unread 0;"
		"news none"},
	{"data with an ack of the future", "5961 5.2",
		OPEN "< PA seq 1 ack 1000 len 10;> A seq 1 ack 1;unread 0"},
	{"data with an ack within the largest window", "5961 5.2",
		OPEN "send 10;> PA;< A seq 1 ack 11;< PA seq 1 ack 1 len 10;"
		     "unread 10;news data;+ 11ms;> A"},
	{"fin with an ack of the future", "5961 5.2",
		OPEN "< FA seq 1 ack 1000;> A seq 1 ack 1;state ESTABLISHED"},
	{"data outside of the window", "9293 3.10.7.4",
		OPEN "< PA seq 100000 len 10;> A seq 1 ack 1;unread 0"},
	{"fin outside of the window", "9293 3.10.7.4",
		OPEN "< FA seq 100000;> A seq 1 ack 1;state ESTABLISHED"},
	{"empty segments outside make one answer", "9293 3.10.7.4, 5961 7",
		OPEN "< A seq 100000;> A seq 1 ack 1;< A seq 100001;"
		     "< A seq 100002;> none"},
	{"seventeen islands are too many", "rule: 16",
		OPEN "< A seq 3 len 1;> A;< A seq 5 len 1;> A;< A seq 7 len 1;"
		     "> A;< A seq 9 len 1;> A;< A seq 11 len 1;> A;"
		     "< A seq 13 len 1;> A;< A seq 15 len 1;> A;"
		     "< A seq 17 len 1;> A;< A seq 19 len 1;> A;"
		     "< A seq 21 len 1;> A;< A seq 23 len 1;> A;"
		     "< A seq 25 len 1;> A;< A seq 27 len 1;> A;"
		     "< A seq 29 len 1;> A;< A seq 31 len 1;> A;"
		     "< A seq 33 len 1;> A;< A seq 35 len 1;> A ack 1;"
		     "< A seq 1 len 34;> A ack 35;unread 34;news data"},
	{"a window of nothing does not fool fin", "9293 3.10.7.4",
		"config recv 2048;" OPEN "< A seq 1 len 2048;+ 11ms;> A win 0;"
		"< FA seq 2060;> A ack 2049;state ESTABLISHED;news data"},
	/* --- cookies --- */
	{"a cookie opens a connection", "4987 3.6",
		"config half 1;< S seq 0 mss 1460;> SA;peer 4001;"
		"< S seq 0 mss 1460;> SA seq 0 ack 1 mss 1460 win 32768;"
		"state LISTEN;< A seq 1 ack 1;news opened;state ESTABLISHED;"
		"send 2000;> A len 1460;> PA len 540"},
	{"it remembers scale, sack and timestamps", "4987, rule",
		"config half 1;< S seq 0 mss 1460;> SA;peer 4001;"
		"< S seq 0 mss 1000 sackok scale 3 ts 7 0;"
		"> SA seq 0 ack 1 sackok ts * 7 scale 0;state LISTEN"},
	{"without timestamps neither scale nor sack", "4987, rule",
		"config half 1;< S seq 0 mss 1460;> SA;peer 4001;"
		"< S seq 0 mss 1460 sackok scale 3;> SA nosack noscale"},
	{"it rounds the mss down", "4987, rule",
		"config half 1;< S seq 0 mss 1460;> SA;peer 4001;"
		"< S seq 0 mss 1459;> SA;< A seq 1;news opened;send 1441;"
		"> A len 1440;> PA len 1"},
	{"data with the cookie's ack is taken", "4987",
		"config half 1;< S seq 0 mss 1460;> SA;peer 4001;"
		"< S seq 0 mss 1460;> SA;< PA seq 1 len 10;news opened;"
		"news data;unread 10;+ 11ms;> A ack 11"},
	{"a guessed cookie is reset", "4987",
		"config half 1;< S seq 0 mss 1460;> SA;peer 4001;"
		"< S seq 0 mss 1460;> SA;< A seq 1 ack 2;> R seq 2;"
		"state LISTEN"},
	{"a cookie for another number is reset", "4987",
		"config half 1;< S seq 0 mss 1460;> SA;peer 4001;"
		"< S seq 0 mss 1460;> SA;< A seq 2 ack 1;> R seq 1;"
		"state LISTEN"},
	{"a cookie with another mss in it is reset", "4987",
		"config half 1;< S seq 0 mss 1460;> SA;peer 4001;"
		"< S seq 0 mss 1460;> SA;< A seq 1 ack 16777217;> R;"
		"state LISTEN"},
	{"a cookie grows old", "4987",
		"config half 1;< S seq 0 mss 1460;> SA;peer 4001;"
		"< S seq 0 mss 1460;> SA;peer 4000;+ 20s;> SA;> SA;> SA;> SA;"
		"+ 180s;> SA;peer 4001;< A seq 1 ack 1;> R"},
	{"no cookies out, none taken", "4987",
		"< S seq 0 mss 1460;> SA;peer 4001;< A seq 1 ack 1;> R;"
		"state LISTEN"},
	{0},
};
