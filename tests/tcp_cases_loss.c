/* tcp_cases_loss.c - loss and what is done about it, segment by segment */
/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/tcp_cases.h"

/* Six full segments are in flight, numbers 1 to 8760. */
#define SIX "send 8760;> A;> A;> A;> A;> A;> PA seq 7301 len 1460;"

const struct tcp_script tcp_cases_loss[] = {
	{"rto without sack", "6298 5.1",
		OPEN "send 10;> PA;+ 199ms;> none;+ 2ms;> PA seq 1 len 10"},
	{"rto doubles", "6298 5.5",
		OPEN "send 10;> PA;+ 201ms;> PA seq 1;+ 395ms;> none;+ 10ms;"
		     "> PA seq 1;+ 790ms;> none;+ 20ms;> PA seq 1"},
	{"an ack of new data ends the backing off", "6298 5.3",
		OPEN "send 10;> PA;+ 201ms;> PA seq 1;< A seq 1 ack 11;"
		     "send 10;> PA seq 11;+ 199ms;> none;+ 2ms;> PA seq 11"},
	{"the timer starts again with each ack", "6298 5.3",
		OPEN "send 10;> PA;+ 150ms;send 10;> PA seq 11;"
		     "< A seq 1 ack 11;+ 190ms;> none;+ 300ms;> PA seq 11"},
	{"an rto sends one segment", "5681 3.1",
		OPEN SIX "+ 201ms;> A seq 1 len 1460;> none"},
	{"then two in slow start", "5681 3.1",
		OPEN SIX "+ 201ms;> A seq 1 len 1460;< A seq 1 ack 1461;"
			 "> A seq 1461 len 1460;> A seq 2921 len 1460;> none"},
	{"an ack of all ends the recovery", "5681 3.1",
		OPEN SIX "+ 201ms;> A seq 1;< A seq 1 ack 8761;> none;"
			 "send 10;> PA seq 8761 len 10"},
	{"two duplicates do nothing", "5681 3.2",
		OPEN SIX "< A seq 1 ack 1;< A seq 1 ack 1;> none"},
	{"the third sends it again", "5681 3.2",
		OPEN SIX "< A seq 1 ack 1;< A seq 1 ack 1;< A seq 1 ack 1;"
			 "> A seq 1 len 1460;> none"},
	{"a duplicate with data is none", "5681 2",
		OPEN SIX "< A seq 1 ack 1 len 1;< A seq 2 ack 1 len 1;> A;"
			 "< A seq 3 ack 1 len 1;+ 11ms;> A;news data"},
	{"a duplicate with another window is none", "5681 2",
		OPEN SIX "< A seq 1 win 60000;< A seq 1 win 60001;"
			 "< A seq 1 win 60002;> none"},
	{"partial ack sends the next hole", "6582 3.2",
		OPEN SIX "< A seq 1;< A seq 1;< A seq 1;> A seq 1;"
			 "< A seq 1 ack 2921;> A seq 2921 len 1460;> none"},
	{"full ack ends it", "6582 3.2",
		OPEN SIX "< A seq 1;< A seq 1;< A seq 1;> A seq 1;"
			 "< A seq 1 ack 8761;> none;send 10;> PA seq 8761"},
	{"limited transmit", "3042 2",
		OPEN "send 17520;> A;> A;> A;> A;> A;> A;> A;> A;> A;> A;"
		     "< A seq 1 ack 1;> A seq 14601 len 1460;"
		     "< A seq 1 ack 1;> PA seq 16061 len 1460;> none"},
	/* --- SACK --- */
	{"three islands are a loss", "6675 5",
		OPEN_SACK SIX "< A seq 1 sack 1461-2921;> none;"
			      "< A seq 1 sack 4381-5841;> none;"
			      "< A seq 1 sack 7301-8761;> A seq 1 len 1460;"
			      "> A seq 2921 len 1460;> A seq 5841 len 1460;"
			      "> none"},
	{"three segments above are a loss", "6675 5",
		OPEN_SACK SIX "< A seq 1 sack 1461-5841;> A seq 1 len 1460;"
			      "> none"},
	{"two segments above are not", "6675 4",
		OPEN_SACK SIX "< A seq 1 sack 1461-4381;> none"},
	{"three duplicates of small ones are", "6675 5",
		OPEN_SACK "send 100;> PA;send 100;> PA;send 100;> PA;send 100;"
			  "> PA;< A seq 1 sack 101-201;< A seq 1 sack 101-301;"
			  "> none;< A seq 1 sack 101-401;> A seq 1 len 100;"
			  "> none"},
	{"what is sacked is not sent again", "6675 5",
		OPEN_SACK SIX "< A seq 1 sack 1461-8761;> A seq 1 len 1460;"
			      "< A seq 1 ack 8761;> none"},
	{"a partial ack sends the next hole", "6675 5",
		OPEN_SACK SIX "< A seq 1 sack 1461-5841;> A seq 1 len 1460;"
			      "< A seq 1 ack 5841 sack 7301-8761;"
			      "> A seq 5841 len 1460;> none"},
	{"sack of the future is ignored", "2018 5",
		OPEN_SACK SIX "< A seq 1 sack 1461-9999;> none"},
	{"sack of the past is ignored", "2018 5",
		OPEN_SACK SIX "< A seq 1 ack 2921 sack 1-1461;"
			      "< A seq 1 ack 2921 sack 1-1461;"
			      "< A seq 1 ack 2921 sack 1-1461;> none"},
	{"sack with its ends swapped is ignored", "2018 5",
		OPEN_SACK SIX "< A seq 1 sack 5841-1461;> none"},
	{"sack without agreement is ignored", "2018 2",
		OPEN SIX "< A seq 1 sack 1461-5841;> none"},
	{"sacks survive one rto", "6675 5.1",
		OPEN_SACK SIX "< A seq 1 sack 1461-2921;+ 201ms;"
			      "> A seq 1 len 1460;< A seq 1 ack 2921;"
			      "> A seq 2921 len 1460;> A seq 4381 len 1460;"
			      "> none"},
	{"a second rto forgets them", "2018 8",
		OPEN_SACK SIX "< A seq 1 sack 1461-2921;+ 201ms;> A seq 1;"
			      "+ 401ms;> A seq 1;< A seq 1 ack 1461;"
			      "> A seq 1461 len 1460;> A seq 2921 len 1460"},
	{"resent and lost again is seen", "6675, rule",
		OPEN_SACK
		"send 60000;> A;> A;> A;> A;> A;> A;> A;> A;> A;> A;"
		"< A seq 1 sack 1461-14601;> A seq 1 len 1460;"
		"> A seq 14601;> A seq 16061;> A seq 17521;"
		"> A seq 18981;> A seq 20441;> A seq 21901;"
		"< A seq 1 sack 1461-20441;> A seq 1 len 1460;"
		"> A seq 23361;> A seq 24821;> A seq 26281;> A seq 27741;"
		"> none"},
	{"a fourth island loses the second hole, before new data", "6675 4",
		"< S seq 0 mss 1460 sackok;> SA;< A seq 1 win 800;news opened;"
		"send 100;> PA;send 100;> PA;send 100;> PA;send 100;> PA;"
		"send 100;> PA;send 100;> PA;send 100;> PA;send 100;> PA;"
		"send 1000;< A seq 1 win 800 sack 101-201;"
		"< A seq 1 win 800 sack 301-401;> none;"
		"< A seq 1 win 800 sack 501-601;> A seq 1 len 100;> none;"
		"< A seq 1 win 800 sack 701-801;> A seq 201 len 100;> none"},
	{"the rto of the first sample", "6298 2.2",
		"< S seq 0 mss 1460;> SA;+ 100ms;< A seq 1;news opened;"
		"send 10;> PA;+ 299ms;> none;+ 2ms;> PA seq 1"},
	{"the rto of the second", "6298 2.3",
		"< S seq 0 mss 1460;> SA;+ 100ms;< A seq 1;news opened;"
		"send 10;> PA;+ 180ms;< A seq 1 ack 11;send 10;> PA seq 11;"
		"+ 339ms;> none;+ 2ms;> PA seq 11"},
	{"what was sent twice is not timed", "6298 3",
		"< S seq 0 mss 1460;> SA;+ 100ms;< A seq 1;news opened;"
		"send 10;> PA;+ 301ms;> PA seq 1;+ 250ms;< A seq 1 ack 11;"
		"send 10;> PA seq 11;+ 299ms;> none;+ 2ms;> PA seq 11"},
	/* --- tail loss probe --- */
	{"the last segment is probed after two round trips", "8985 7.2",
		"< S seq 0 mss 1460 sackok;> SA;+ 10ms;< A seq 1;news opened;"
		"send 2920;> A seq 1;> PA seq 1461;+ 21ms;> none;+ 2ms;"
		"> PA seq 1461 len 1460"},
	{"less than two full ones may be acked late", "8985 7.2, 9293 3.8.6.3",
		"< S seq 0 mss 1460 sackok;> SA;+ 10ms;< A seq 1;news opened;"
		"send 10;> PA seq 1;+ 81ms;> none;+ 2ms;> PA seq 1 len 10"},
	{"a delayed ack is no loss, of small ones either", "9293 3.8.6.3",
		"< S seq 0 mss 1460 sackok;> SA;< A seq 1;news opened;"
		"send 200;> PA seq 1;+ 5ms;send 200;> PA seq 201;+ 5ms;"
		"send 200;> PA seq 401;+ 44ms;> none;< A seq 1 ack 601;"
		"+ 5s;> none"},
	{"the probe is the last segment", "8985 7.3",
		"< S seq 0 mss 1460 sackok;> SA;+ 10ms;< A seq 1;news opened;"
		"send 2000;> A seq 1;> PA seq 1461;+ 83ms;> PA seq 541;> none"},
	{"there is one probe, then the rto", "8985 7.2",
		"< S seq 0 mss 1460 sackok;> SA;+ 10ms;< A seq 1;news opened;"
		"send 10;> PA seq 1;+ 83ms;> PA seq 1;+ 195ms;> none;+ 10ms;"
		"> PA seq 1;+ 390ms;> none;+ 20ms;> PA seq 1"},
	{"an ack puts the probe off", "8985 7.2",
		"< S seq 0 mss 1460 sackok;> SA;+ 10ms;< A seq 1;news opened;"
		"send 10;> PA seq 1;+ 10ms;< A seq 1 ack 11;+ 5s;> none"},
	{"no probe without sack", "8985 7.2",
		"< S seq 0 mss 1460;> SA;+ 10ms;< A seq 1;news opened;"
		"send 10;> PA seq 1;+ 150ms;> none;+ 60ms;> PA seq 1"},
	{"segments that vanish get smaller", "4821",
		OPEN "send 1460;> PA;+ 201ms;> PA len 1460;+ 401ms;"
		     "> PA len 1460;+ 801ms;> PA len 1460;+ 1601ms;"
		     "> A seq 1 len 536"},
	{0},
};
