/* tcp_cases.h - scripts of single segments, by what they are about */
/* SPDX-License-Identifier: Apache-2.0 */
#ifndef HEDDLE_TESTS_TCP_CASES_H
#define HEDDLE_TESTS_TCP_CASES_H

#include "tests/tcp_script.h"

/* Ended by an entry without a name. */
extern const struct tcp_script tcp_cases_open[], tcp_cases_data[],
	tcp_cases_loss[], tcp_cases_close[], tcp_cases_attack[];

/* A connection without options but the MSS; one with SACK; with timestamps. */
#define OPEN                                                                   \
	"< S seq 0 mss 1460;> SA seq 0 ack 1 mss 1460;< A seq 1;news opened;"
#define OPEN_SACK                                                              \
	"< S seq 0 mss 1460 sackok;> SA seq 0 ack 1 sackok;< A seq 1;"         \
	"news opened;"
#define OPEN_TS                                                                \
	"< S seq 0 mss 1460 ts 100 0;> SA seq 0 ack 1 ts * 100;"               \
	"< A seq 1 ts 101 0;news opened;"

#endif
