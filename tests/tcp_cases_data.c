/* tcp_cases_data.c - data, windows, ACKs, segment by segment */
/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/tcp_cases.h"

const struct tcp_script tcp_cases_data[] = {
	{"data is taken, its ack delayed", "9293 3.8.6.3",
		OPEN "< PA seq 1 len 100;news data;unread 100;> none;+ 9ms;"
		     "> none;+ 2ms;> A seq 1 ack 101"},
	{"every second segment is acknowledged at once", "9293 3.8.6.3",
		OPEN "< A seq 1 len 1460;> none;< A seq 1461 len 1460;"
		     "> A ack 2921;news data"},
	{"an answer carries the ack", "9293 3.8.6.3",
		OPEN "< PA seq 1 len 100;news data;send 50;"
		     "> PA seq 1 ack 101 len 50;+ 50ms;"
		     "< A seq 101 ack 51;> none"},
	{"old data is answered", "9293 3.10.7.4",
		OPEN "< PA seq 1 len 10;+ 11ms;> A ack 11;news data;"
		     "< PA seq 1 len 10;> A seq 1 ack 11;unread 10;news none"},
	{"half old data: the new half is taken", "9293 3.10.7.4",
		OPEN "< PA seq 1 len 10;+ 11ms;> A ack 11;news data;"
		     "< PA seq 6 len 10;> A ack 16;unread 15"},
	{"data before the window and after", "9293 3.10.7.4",
		"config recv 2048;" OPEN "< A seq 1 len 2100;> A ack 2049;"
		"unread 2048;news data"},
	{"data beyond the window is answered, not taken", "9293 3.10.7.4",
		OPEN
		"< PA seq 32769 len 10;> A seq 1 ack 1;unread 0;news none"},
	{"data at the last place is held", "9293 3.10.7.4",
		OPEN "< PA seq 32768 len 1;> A ack 1;unread 0;news none"},
	{"data around the last place is cut", "9293 3.10.7.4",
		"config recv 2048;" OPEN "< A seq 2047 len 10;> A ack 1;"
		"< A seq 1 len 2046;> A ack 2049;unread 2048;news data"},
	{"out of order waits", "9293 3.10.7.4",
		OPEN "< A seq 11 len 10;> A ack 1;unread 0;news none;"
		     "< A seq 1 len 10;> A ack 21;unread 20;news data"},
	{"three islands join", "9293 3.10.7.4",
		OPEN "< A seq 11 len 10;> A ack 1;< A seq 31 len 10;> A ack 1;"
		     "< A seq 21 len 10;> A ack 1;< A seq 1 len 10;> A ack 41;"
		     "unread 40;news data"},
	{"islands that overlap", "9293 3.10.7.4",
		OPEN "< A seq 11 len 20;> A ack 1;< A seq 21 len 30;> A ack 1;"
		     "< A seq 1 len 60;> A ack 61;unread 60;news data"},
	{"an island within one", "9293 3.10.7.4",
		OPEN "< A seq 11 len 30;> A ack 1;< A seq 21 len 5;> A ack 1;"
		     "< A seq 1 len 10;> A ack 41;unread 40;news data"},
	{"island that touches what is in order", "9293 3.10.7.4",
		OPEN "< A seq 2 len 9;> A ack 1;< A seq 1 len 1;> A ack 11;"
		     "unread 10;news data"},
	{"data is taken while it is being read", "9293 3.10.7.4",
		OPEN "< A seq 1 len 1000;news data;read 400;"
		     "< A seq 1001 len 1000;> A ack 2001;read 1600;unread 0"},
	{"segment without ack is dropped", "9293 3.10.7.4",
		OPEN "< P seq 1 len 10;> none;unread 0"},
	{"urgent data is data", "6093 6",
		OPEN
		"< PAU seq 1 len 10;news data;unread 10;+ 11ms;> A ack 11"},
	{"psh is not needed", "9293 3.9.1.2",
		OPEN "< A seq 1 len 10;news data;unread 10;+ 11ms;> A ack 11"},
	/* --- SACK out --- */
	{"an island is reported", "2018 4",
		OPEN_SACK "< A seq 11 len 10;> A ack 1 sack 11-21"},
	{"the newest island comes first, all are told", "2018 4",
		OPEN_SACK "< A seq 11 len 10;> A ack 1 sack 11-21;"
			  "< A seq 31 len 10;> A ack 1 sack 31-41 sack 11-21;"
			  "< A seq 51 len 10;"
			  "> A sack 51-61 sack 31-41 sack 11-21"},
	{"a filled hole is told as one island", "2018 4",
		OPEN_SACK "< A seq 11 len 10;> A;< A seq 31 len 10;> A;"
			  "< A seq 21 len 10;> A ack 1 sack 11-41"},
	{"no islands, no sack", "2018 4",
		OPEN_SACK "< A seq 11 len 10;> A;< A seq 1 len 10;"
			  "> A ack 21 nosack;news data"},
	{"duplicate is reported", "2883 4.1",
		OPEN_SACK "< A seq 1 len 10;+ 11ms;> A ack 11;"
			  "< A seq 1 len 10;> A ack 11 sack 1-11;news data"},
	{"duplicate in part is reported", "2883 4.2",
		OPEN_SACK "< A seq 1 len 10;+ 11ms;> A ack 11;"
			  "< A seq 6 len 10;> A ack 16 sack 6-11;news data"},
	{"duplicate of an island is reported", "2883 4.1.2",
		OPEN_SACK "< A seq 11 len 10;> A;< A seq 11 len 10;"
			  "> A ack 1 sack 11-21"},
	{"a duplicate is reported once", "2883 3",
		OPEN_SACK "< A seq 1 len 10;+ 11ms;> A;< A seq 1 len 10;"
			  "> A sack 1-11;< A seq 11 len 10;+ 11ms;"
			  "> A ack 21 nosack;news data"},
	/* --- our window --- */
	{"window shrinks as bytes wait", "9293 3.8.6",
		OPEN "< A seq 1 len 1460;+ 11ms;> A ack 1461 win 31308;"
		     "news data"},
	{"window closes", "9293 3.8.6",
		"config recv 2048;" OPEN "< A seq 1 len 2048;+ 11ms;"
		"> A ack 2049 win 0;news data"},
	{"data at a closed window is refused", "9293 3.10.7.4",
		"config recv 2048;" OPEN "< A seq 1 len 2048;+ 11ms;> A win 0;"
		"< A seq 2049 len 1;> A ack 2049 win 0;unread 2048;news data"},
	{"its ack is taken all the same", "9293 3.10.7.4",
		"config recv 2048;" OPEN "send 10;> PA;< A seq 1 len 2048;"
		"+ 11ms;> A win 0;< A seq 2049 ack 11 len 1;> A win 0;"
		"+ 2s;> none;news data"},
	{"reading opens it, and that is told", "9293 3.8.6.2.2",
		"config recv 2048;" OPEN "< A seq 1 len 2048;+ 11ms;> A win 0;"
		"news data;read 2048;> A ack 2049 win 2048"},
	{"a little room is not told", "9293 3.8.6.2.2",
		"config recv 8192;< S seq 0 mss 1460;> SA;< A seq 1;"
		"news opened;< A seq 1 len 4000;+ 11ms;> A win 4192;"
		"news data;read 1000;> none"},
	{"the advertised edge does not move back", "9293 3.8.6",
		"config recv 8192;" OPEN "< A seq 1 len 1000;+ 11ms;"
		"> A ack 1001 win 7192;news data;read 100;"
		"< A seq 1001 len 100;+ 11ms;> A ack 1101 win 7092"},
	{"keep-alive of the peer is answered", "9293 3.8.4",
		OPEN "< A seq 0;> A seq 1 ack 1"},
	{"keep-alive with a byte is answered", "9293 3.8.4",
		OPEN "< A seq 0 len 1;> A seq 1 ack 1;unread 0"},
	/* --- their window --- */
	{"no more than the window", "9293 3.8.6",
		"< S seq 0 mss 1460;> SA;< A seq 1 win 2000;news opened;"
		"send 4000;> A seq 1 len 1460;> none"},
	{"a window below a segment is used when large of its kind",
		"9293 3.8.6.2.1",
		"< S seq 0 mss 1460;> SA;< A seq 1 win 1000;news opened;"
		"send 4000;> A seq 1 len 1000"},
	{"the rest follows as the window opens", "9293 3.8.6",
		"< S seq 0 mss 1460;> SA;< A seq 1 win 1460;news opened;"
		"send 2000;> A seq 1 len 1460;< A seq 1 ack 1461 win 1460;"
		"> PA seq 1461 len 540"},
	{"an older segment does not move the window", "9293 3.10.7.4",
		OPEN "< A seq 11 ack 1 win 65535 len 10;> A ack 1;"
		     "< A seq 1 ack 1 win 10;send 100;> PA seq 1 len 100"},
	{"closed window is probed", "9293 3.8.6.1",
		"< S seq 0 mss 1460;> SA;< A seq 1 win 0;news opened;send 10;"
		"> none;+ 201ms;> A seq 0 len 0"},
	{"it is probed ever later", "9293 3.8.6.1",
		"< S seq 0 mss 1460;> SA;< A seq 1 win 0;news opened;send 10;"
		"+ 201ms;> A seq 0;< A seq 1 win 0;+ 398ms;> none;+ 11ms;"
		"> A seq 0;< A seq 1 win 0;+ 790ms;> none;+ 20ms;> A seq 0"},
	{"it opens", "9293 3.8.6.1",
		"< S seq 0 mss 1460;> SA;< A seq 1 win 0;news opened;send 10;"
		"+ 201ms;> A seq 0;< A seq 1 win 5000;> PA seq 1 len 10"},
	{"a silly window is used at last", "9293 3.8.6.2.1",
		"< S seq 0 mss 1460;> SA;< A seq 1 win 4000;news opened;"
		"send 1460;> PA seq 1 len 1460;< A seq 1 ack 1461 win 100;"
		"send 1460;> none;+ 201ms;> A seq 1461 len 100"},
	{"a shrunk window stops new data", "9293 3.8.6",
		OPEN "send 1000;> PA seq 1 len 1000;< A seq 1 ack 1 win 500;"
		     "send 1000;> none;< A seq 1 ack 1001 win 5000;"
		     "> PA seq 1001 len 1000"},
	{"an older ack does not move the window, in a newer segment",
		"9293 3.10.7.4",
		OPEN "send 10;> PA;< A seq 1 ack 11;"
		     "< A seq 11 ack 1 len 5 win 5;> A;send 100;"
		     "> PA seq 11 len 100"},
	/* --- sending --- */
	{"small pieces share a segment", "rule: no Nagle",
		OPEN "send 10;> PA seq 1 len 10;send 20;> PA seq 11 len 20"},
	{"no wait for an ack before a small one", "rule: no Nagle",
		OPEN "send 10;> PA len 10;send 10;> PA len 10;send 10;"
		     "> PA len 10"},
	{"ten segments at first", "6928 2",
		OPEN "send 20000;> A seq 1 len 1460;> A len 1460;> A len 1460;"
		     "> A len 1460;> A len 1460;> A len 1460;> A len 1460;"
		     "> A len 1460;> A len 1460;> A seq 13141 len 1460;> none"},
	{"each ack lets two more go in slow start", "5681 3.1",
		OPEN "send 20000;> A;> A;> A;> A;> A;> A;> A;> A;> A;> A;"
		     "< A seq 1 ack 1461;> A seq 14601 len 1460;"
		     "> A seq 16061 len 1460;> none"},
	{"a window that was not tried does not grow", "7661 4.1",
		OPEN "send 1460;> PA;< A seq 1 ack 1461;send 1460;> PA;"
		     "< A seq 1 ack 2921;send 1460;> PA;< A seq 1 ack 4381;"
		     "send 20000;> A;> A;> A;> A;> A;> A;> A;> A;> A;"
		     "> A seq 17521 len 1460;> none"},
	{"a pause begins with ten segments again", "5681 4.1",
		OPEN "send 14600;> A;> A;> A;> A;> A;> A;> A;> A;> A;> PA;"
		     "< A seq 1 ack 14601;+ 5s;send 30000;> A;> A;> A;> A;> A;"
		     "> A;> A;> A;> A;> A seq 27741 len 1460;> none"},
	{"without a pause there are twenty", "5681 3.1",
		OPEN "send 14600;> A;> A;> A;> A;> A;> A;> A;> A;> A;> PA;"
		     "< A seq 1 ack 14601;send 30000;> A;> A;> A;> A;> A;> A;"
		     "> A;> A;> A;> A;> A;> A;> A;> A;> A;> A;> A;> A;> A;"
		     "> A seq 42341 len 1460;> none"},
	{"ack of nothing new sends nothing", "9293 3.10.7.4",
		OPEN "send 10;> PA;< A seq 1 ack 11;> none;< A seq 1 ack 11;"
		     "> none"},
	{"ack of the future is answered, dropped", "9293 3.10.7.4",
		OPEN "< PA seq 1 ack 2 len 5;> A seq 1 ack 1;unread 0"},
	{"an old ack does not move back", "9293 3.10.7.4",
		OPEN "send 10;> PA;< A seq 1 ack 11;send 10;"
		     "> PA seq 11 len 10;< A seq 1 ack 1;< A seq 1 ack 21;"
		     "+ 5s;> none"},
	{"data with an old ack is taken", "9293 3.10.7.4",
		OPEN "send 10;> PA;< A seq 1 ack 11;< A seq 1 ack 5 len 10;"
		     "news data;unread 10;+ 11ms;> A seq 11 ack 11"},
	{"room is what is not acknowledged", "stream.h",
		"config sendbuf 4096;" OPEN "room 4096;send 4000;> A;> A;> PA;"
		"room 96;want 1000;news none;< A seq 1 ack 1461;news room;"
		"room 1556;< A seq 1 ack 4001;room 4096"},
	{"room that is there is news at once", "stream.h",
		OPEN "want 100;news room"},
	/* --- keep-alive, user timeout --- */
	{"silence is probed", "9293 3.8.4",
		"config keepalive 10000;" OPEN "+ 9990ms;> none;+ 20ms;"
		"> A seq 0 ack 1"},
	{"an answer begins it anew", "9293 3.8.4",
		"config keepalive 10000;" OPEN "+ 10010ms;> A seq 0;< A seq 1;"
		"+ 9980ms;> none;+ 30ms;> A seq 0"},
	{"no answer ends it", "9293 3.8.4",
		"config keepalive 10000;" OPEN "+ 686s;> A;> A;> A;> A;> A;"
		"> A;> A;> A;> A;> RA seq 1;news timeout"},
	{"user timeout of data", "9293 3.8.3",
		"config user 3000;" OPEN "send 10;> PA;+ 2990ms;> PA;> PA;"
		"> PA;+ 20ms;> RA;news timeout;state LISTEN"},
	{"user timeout of a closed window", "rule",
		"config user 2900;< S seq 0 mss 1460;> SA;< A seq 1 win 0;"
		"news opened;send 10;+ 201ms;> A seq 0;< A seq 1 win 0;+ 400ms;"
		"> A seq 0;< A seq 1 win 0;+ 2290ms;> A seq 0;"
		"+ 20ms;> RA;news timeout"},
	{0},
};
