#!/bin/bash
# dpdk_node.sh - a node over a polled port, beside one over the kernel's sockets
# SPDX-License-Identifier: Apache-2.0
# usage: tests/dpdk_node.sh BUILD af_packet|af_xdp|tap   (ends with the line
# that tests/run.sh reads)
# Everything is in a network namespace of its own, which takes no privilege
# where user namespaces are allowed; af_xdp loads a program into the kernel, and
# does. af_packet, af_xdp: the port is one end of a veth pair, curl is at the
# other. tap: the port makes its interface itself, and has off-loads in
# software, checksums and cuts of segments.
set -u
build=$1 kind=$2
. tests/openai_venv.sh
if [ -z "${HEDDLE_TEST_INSIDE:-}" ]; then
	for tool in curl ip ethtool unshare; do
		command -v "$tool" >/dev/null || {
			echo "SKIP: needs $tool"
			exit 77
		}
	done
	get_openai >/dev/null 2>&1 # what is out of reach inside
	for flags in -Urn -n; do
		[ "$kind$flags" = af_xdp-Urn ] && continue
		unshare "$flags" true 2>/dev/null &&
			HEDDLE_TEST_INSIDE=1 exec unshare "$flags" "$0" "$@"
	done
	echo "SKIP: no network namespace may be made here"
	exit 77
fi
work=$(mktemp -d)
polled='' plain=''
finish() {
	for node in $polled $plain; do
		kill -9 "$node" 2>/dev/null
	done
	wait
	rm -rf "$work"
}
trap finish EXIT
. tests/verdict.sh
shown="out err polled.log"

# --- the network ----------------------------------------------------------------------
ip link set lo up
case $kind in
af_packet | af_xdp)
	device=net_${kind}0,iface=nic0 standby=net_${kind}1,iface=nic1
	ip link add nic0 type veth peer name wire0 || exit 1
	# The port's end is not the kernel's: no address of its own there.
	echo 1 >/proc/sys/net/ipv6/conf/nic0/disable_ipv6
	wire=wire0
	;;
tap)
	device=net_tap0,iface=nic0
	[ -w /dev/net/tun ] || {
		echo "SKIP: no /dev/net/tun here"
		exit 77
	}
	wire=nic0
	;;
*) exit 2 ;;
esac
# The kernel leaves checksums of what it sends to the other end of a veth to
# whoever takes it from there, and that end is ours: it has to fill them in.
lay_wire() {
	# A tap has the port's own address of the link; two cannot.
	[ "$kind" != tap ] || ip link set $wire address 0a:00:00:00:00:01
	ip addr replace 10.9.0.1/24 dev $wire
	ip addr replace fd09::1/64 dev $wire nodad
	ip link set $wire up
	ethtool -K $wire tx off >/dev/null 2>&1
	[ "$kind" = tap ] || ip link set nic0 up
}
[ "$kind" = tap ] || lay_wire

# --- nodes and clients ----------------------------------------------------------------
model=$work/model
tools/bench/frontend-model.sh "$model" || exit 1
heddled=("$build/heddled" --model "$model" --name mock --device null
	--drain-timeout 30s)
# In the environment, so that flags take their place: lists of flags add up.
over_port=(env RUNTIME_DIRECTORY="$work" HEDDLE_LISTEN='*:8000' HEDDLE_NIC_DEVICE="$device"
	HEDDLE_NIC_ADDRESS="10.9.0.2/24,fd09::2/64" "${heddled[@]}" --nic dpdk
	--admin 127.0.0.1:8001 --control "$work/polled.socket")
# The tap cuts where its MTU has room for a frame's head too.
start_polled() {
	[ "$kind" != tap ] || set -- --nic-mtu 1400 "$@"
	: >"$work/polled.log"
	"${over_port[@]}" --null-step-us 200 "$@" 2>"$work/polled.log" &
	polled=$!
	eventually logged "ready: " polled.log || return 1
	[ "$kind" != tap ] || lay_wire
}
end_polled() {
	local ending=$polled
	polled=
	kill -TERM "$ending" && wait "$ending"
}
api=http://10.9.0.2:8000 other=http://127.0.0.1:8000
metric() { # NAME [WHERE]
	curl -sS -m 60 http://127.0.0.1:8001/metrics |
		sed -n "s/^$1{[^}]*${2:-}[^}]*} //p" | tail -n 1
}
# What differs from one request to the next: its id and the time.
normal() { sed -E 's/"id":"[a-z]+-[0-9a-f]*"/"id":""/; s/"created":[0-9]+/"created":0/'; }
ask() { curl -sS -N -m 60 -H 'content-type: application/json' "$@"; }
# same PATH [OPTION OF CURL]...: the answers of both nodes, and not none.
same() {
	local path=$1
	shift
	ask -w '\n%{http_code}' "$api$path" "$@" 2>"$work/err" | normal >"$work/out"
	ask -w '\n%{http_code}' "$other$path" "$@" 2>"$work/err" | normal >"$work/expected"
	[ "$(wc -c <"$work/out")" -gt 40 ] && cmp "$work/out" "$work/expected" 2>>"$work/err"
}
completion() { # SEED TOKENS STREAM
	echo "{\"model\":\"mock\",\"prompt\":\"hello $1\",\"seed\":$1,\"max_tokens\":$2,\"stream\":$3}"
}

# --- before anything runs -------------------------------------------------------------
refuses() { # TEXT OPTION...
	local text=$1
	shift
	"${over_port[@]}" --check "$@" >"$work/out" 2>"$work/err"
	[ $? = 1 ] && grep -qF -- "$text" "$work/err"
}
"${over_port[@]}" --check >"$work/out" 2>"$work/err"
status=$?
if grep -q "this build has no DPDK" "$work/err"; then
	echo "SKIP: this build has no DPDK"
	exit 77
fi
if [ "$kind" = af_xdp ] && grep -q AF_XDP "$work/err"; then
	echo "SKIP: $(cat "$work/err")"
	exit 77
fi
[ "$status" = 0 ] && grep -qx "configuration OK" "$work/out"
verdict check__good $?
refuses "there is no interface eth99 here" --nic-device net_af_packet0,iface=eth99
verdict check__an_interface_that_is_not_there $?
refuses "there is no card ff1f:1f:1f.7" --nic-device ff1f:1f:1f.7
verdict check__a_card_that_is_not_there $?
refuses "nic-core: this process may not use processor 1023" --nic-core 1023
verdict check__a_processor_that_is_not_there $?
refuses "is none of nic-address" --listen 10.9.0.3:8000 &&
	refuses "takes no free port" --listen '*:0' &&
	refuses "given twice" --listen '10.9.0.2:80,[fd09::2]:80'
verdict check__addresses_to_listen_on $?
refuses "is not ADDR/BITS" --nic-address 10.9.0.2 &&
	refuses "is no address of a network" --nic-address 10.9.0.2/33 &&
	refuses "the second address of its family" --nic-address 10.9.0.2/24,10.9.0.3/24 &&
	refuses "no address of this family" --nic-address 10.9.0.2/24 --nic-gateway fd09::1
verdict check__addresses_of_the_port $?
refuses "there is no user \"nobody-at-all\"" --user nobody-at-all
verdict check__a_user_that_is_not_there $?
refuses "there is no card 0000:ff:1f.7" --nic-standby 0000:ff:1f.7 &&
	refuses "is no second port" --nic-standby "$device"
verdict check__a_second_port_that_is_not_there $?
card=$(for one in /sys/bus/pci/devices/*/driver; do
	[ -e "$one" ] && [ "$(basename "$(readlink "$one")")" != vfio-pci ] &&
		[ "$(basename "$(readlink "$one")")" != mlx5_core ] && basename "${one%/driver}" && break
done)
if [ -n "$card" ]; then
	refuses "deploy/nic-setup bind $card" --nic-device "$card"
	verdict check__a_card_of_the_kernel $?
else
	echo "  SKIP: no device on a PCI bus here"
fi
if [ "$kind" != tap ]; then
	ip link set nic0 down
	refuses "nic0 is down: ip link set nic0 up" --nic-mtu 9000 &&
		grep -qF "the MTU of nic0 is 1500" "$work/err"
	verdict check__names_all_that_is_missing $?
	ip link set nic0 up
	refuses "the kernel has 10.9.0.1 on wire0 too" \
		--nic-device net_af_packet0,iface=wire0 --nic-address 10.9.0.1/24
	verdict check__an_address_that_the_kernel_has $?
	refuses "ip link set nic0 arp off" --nic-standby net_af_packet1,iface=wire0 &&
		grep -qF "the kernel answers ARP on wire0, with the MAC of both ports" "$work/err"
	verdict check__ports_that_the_kernel_answers_by $?
fi
if [ "$kind" = af_xdp ]; then
	unshare -Ur "${over_port[@]}" --check >"$work/out" 2>"$work/err"
	[ $? = 1 ] && grep -qF "AF_XDP loads a program into the kernel" "$work/err"
	verdict check__a_program_may_be_loaded $?
	refuses "nic-queues: 2, and nic0 has at most 1 for AF_XDP" --nic-queues 2
	verdict check__queues_of_the_interface $?
fi

# --- two nodes, the same answers ------------------------------------------------------
"${heddled[@]}" --listen 127.0.0.1:8000 --admin 127.0.0.1:8002 \
	--control "$work/plain.socket" 2>"$work/plain.log" &
plain=$!
eventually logged "ready: " plain.log
verdict start__over_the_kernel $?
start_polled
verdict start__over_the_port $?
same /v1/models
verdict models__same $?
same /v1/completions -d "$(completion 1 50 false)"
verdict completion__same $?
same /v1/completions -d "$(completion 2 50 true)" && grep -q DONE "$work/out"
verdict stream__same $?
chat='{"model":"mock","messages":[{"role":"user","content":"hi"}],"seed":3,"max_tokens":40'
same /v1/chat/completions -d "$chat}" &&
	same /v1/chat/completions -d "$chat,\"stream\":true,\"stream_options\":{\"include_usage\":true}}"
verdict chat__same $?
same /v1/completions -d '{"model":' && grep -qx 400 "$work/out" &&
	same /v1/completions -d '{"model":"other","prompt":"a"}' && grep -qx 404 "$work/out" &&
	same /nowhere && grep -qx 404 "$work/out"
verdict errors__same $?
{
	printf '{"model":"mock","seed":4,"max_tokens":20,"prompt":"'
	yes 'so much to say' | tr '\n' ' ' | head -c 1000000
	printf '"}'
} >"$work/long"
same /v1/completions --data-binary "@$work/long" && grep -qx 200 "$work/out"
verdict prompt_of_a_megabyte__same $?
# An answer that is larger than any buffer on the way: segments of full size.
same /v1/completions -d '{"model":"mock","prompt":["a","b","c","d"],"n":8,"seed":5,"max_tokens":4000,"ignore_eos":true}' &&
	[ "$(wc -c <"$work/out")" -gt 300000 ]
verdict answer_of_many_segments__same $?
ask "$api/v1/models" "$api/v1/models" -w '%{num_connects}\n' >"$work/out" 2>"$work/err"
[ "$(grep -c '}0$' "$work/out")" = 1 ]
verdict keep_alive__one_connection $?

many() { # FOLDER URL
	local clients=()
	mkdir "$work/$1"
	for i in $(seq 64); do
		ask "$2/v1/completions" -d "$(completion "$i" 200 true)" \
			>"$work/$1/$i" 2>>"$work/err" &
		clients+=($!)
	done
	wait "${clients[@]}"
}
# Where all files of one folder are as those of the other.
all_same() { # FOLDER EXPECTED
	differ=0
	for i in $(cd "$work/$1" && ls); do
		grep -q '^data: \[DONE\]' "$work/$1/$i" &&
			cmp -s <(normal <"$work/$1/$i") <(normal <"$work/$2/$i") ||
			differ=$((differ + 1))
	done
	echo "$differ streams differ" >"$work/out"
	[ "$differ" = 0 ]
}
# Streams that go on while something happens; the caller waits for `clients`.
begin_streams() { # FOLDER COUNT TOKENS
	clients=()
	mkdir "$work/$1"
	for i in $(seq "$2"); do
		ask "$api/v1/completions" -d "{\"model\":\"mock\",\"prompt\":\"a\",\"max_tokens\":$3,\"seed\":9,\"stream\":true,\"ignore_eos\":true}" \
			>"$work/$1/$i" 2>>"$work/err" &
		clients+=($!)
	done
}
all_began() { # FOLDER COUNT
	for i in $(seq "$2"); do grep -q '"text"' "$work/$1/$i" || return 1; done
}
many polled "$api"
many plain "$other"
all_same polled plain
verdict streams_at_once__same $?

eventually curl -sS -g -m 5 'http://[fd09::2]:8000/v1/models' >"$work/out" 2>"$work/err" &&
	grep -q '"id":"mock"' "$work/out"
verdict ip6 $?

# --- what is counted ------------------------------------------------------------------
curl -sS -m 60 http://127.0.0.1:8001/metrics 2>"$work/err" | grep -a '^heddle_\(nic\|tcp\|poll\)' >"$work/out"
[ "$(metric heddle_nic_link_up)" = 1 ] &&
	[ "$(metric heddle_nic_in_frames_total)" -gt 1000 ] &&
	[ "$(metric heddle_nic_out_frames_total)" -gt 300 ] &&
	[ "$(metric heddle_nic_lost_total in_port)" = 0 ] &&
	[ "$(metric heddle_nic_lost_total in_pieces)" = 0 ] &&
	[ "$(metric heddle_nic_lost_total out_port)" = 0 ]
verdict metrics__of_the_port $?
asleep() { # the thread, most of the time when nothing happens
	local slept cpu
	slept=$(metric heddle_poll_slept_seconds_total)
	sleep 1
	slept=$(awk "BEGIN { print $(metric heddle_poll_slept_seconds_total) - $slept }")
	cpu=$(metric heddle_poll_sleep_seconds_count)
	echo "slept $slept s, $cpu times" >"$work/out"
	awk "BEGIN { exit !($slept > 0.5 && $cpu > 10 && $(metric heddle_poll_idle_seconds_total) > 0) }"
}
eventually asleep
verdict metrics__sleeps_when_idle $?
ctl() { "$build/heddlectl" --control "$work/polled.socket" "$@" >"$work/out" 2>"$work/err"; }
ctl info && grep -q "http://10.9.0.2:8000" "$work/out"
verdict heddlectl__over_its_socket $?
ctl stat && grep -qx "poll.backend: dpdk" "$work/out" && grep -qx "nic.link_up: yes" "$work/out" &&
	grep -q "^  stack  *[0-9.]* *[0-9.]* %$" "$work/out" && grep -q "^  wake-up .*p99 below" "$work/out"
verdict heddlectl__stat_of_the_port $?
"$build/heddlectl" --control "$work/plain.socket" stat >"$work/out" 2>"$work/err" &&
	grep -qx "poll.backend: kernel" "$work/out" && grep -q "^  sleep  *[0-9.]* *[0-9.]* %$" "$work/out" &&
	! grep -q "^nic\." "$work/out"
verdict heddlectl__stat_of_sockets $?
all_stages() {
	for stage in rx stack front tx; do
		awk "BEGIN { exit !($(metric heddle_poll_stage_seconds_total $stage) > 0) }" || return 1
	done
}
curl -sS -m 60 http://127.0.0.1:8001/metrics 2>"$work/err" | grep '^heddle_poll' >"$work/out"
all_stages && [ "$(metric heddle_poll_empty_turns_total)" -gt 0 ] &&
	[ "$(metric heddle_poll_bursts_total)" -gt 0 ]
verdict metrics__of_each_stage $?

# --- what the port sees, for tcpdump ------------------------------------------------
"$build/heddlectl" --control "$work/plain.socket" capture start "$work/no.pcap" >"$work/out" 2>"$work/err"
[ $? = 1 ] && grep -q "nic: kernel has no port" "$work/err" && [ ! -e "$work/no.pcap" ]
verdict capture__not_of_sockets $?
ctl capture start "$work/port.pcap" && grep -qx "state: running" "$work/out" &&
	! ctl capture start "$work/two.pcap" && grep -q "port.pcap is being written" "$work/err" &&
	[ ! -e "$work/two.pcap" ]
verdict capture__one_at_a_time $?
curl -sS -m 60 "$api/v1/models" >"$work/answer" 2>"$work/err"
ctl capture stop && grep -qx "state: stopped" "$work/out" && grep -qx "dropped: 0" "$work/out" &&
	[ "$(stat -c %a:%s "$work/port.pcap")" = "600:$(sed -n 's/^bytes: //p' "$work/out")" ]
verdict capture__stops_with_the_whole_file $?
python3 - "$work/port.pcap" >"$work/out" 2>"$work/err" <<'END'
import struct, sys
data = open(sys.argv[1], "rb").read()
magic, major, minor, zone, accuracy, longest, link = struct.unpack_from("<IHHIIII", data)
assert (magic, major, minor, link) == (0xa1b23c4d, 2, 4, 1), (hex(magic), major, minor, link)
at, before, text = 24, 0, {True: b"", False: b""}
while at < len(data):
    s, ns, length, wire = struct.unpack_from("<IIII", data, at)
    frame = data[at + 16:at + 16 + length]
    at += 16 + length
    assert length == wire <= longest and len(frame) == length, (at, length)
    # Both directions, each in its order; a burst of one may pass the other.
    assert s * 10**9 + ns + 10**9 > before
    before = s * 10**9 + ns
    if frame[12:14] == b"\x08\x00" and frame[23] == 6:
        text[frame[26:30] == bytes([10, 9, 0, 2])] += frame[54:]
print(len(text[True]), len(text[False]))
assert b"GET /v1/models" in text[False] and b"HTTP/1.1 200 OK" in text[True]
assert b'"id":"mock"' in text[True]
END
verdict capture__request_and_answer_are_in_it $?
if command -v tcpdump >/dev/null; then
	# Without a user of its own to change to, which it may not here.
	unshare -U tcpdump -nr - "tcp port 8000" <"$work/port.pcap" >"$work/out" 2>"$work/err" &&
		grep -q "10.9.0.2.8000 > 10.9.0.1" "$work/out" && grep -q "10.9.0.1.* > 10.9.0.2.8000" "$work/out"
	verdict capture__tcpdump_reads_it $?
else
	echo "  SKIP: no tcpdump here"
fi
! ctl capture start "$work/port.pcap" && grep -q "File exists" "$work/err" &&
	! ctl capture start /no/such/place && ! ctl capture start "$work/x" --max-bytes 10
verdict capture__files_that_are_refused $?
full() { ctl capture show && grep -qx "state: full" "$work/out"; }
one_more() { curl -sS -m 60 "$api/v1/models" -o /dev/null 2>"$work/err"; full; }
ctl capture start "$work/small.pcap" --max-bytes 4096 && eventually one_more &&
	[ "$(stat -c %s "$work/small.pcap")" -le 4096 ] && [ "$(stat -c %s "$work/small.pcap")" -gt 2000 ]
verdict capture__ends_when_it_is_full $?

# --- DPDK's own telemetry -------------------------------------------------------------
place=$(sed -n "s/.*DPDK's telemetry: //p" "$work/polled.log" | tail -n 1)
[ "$place" = "$work/dpdk/heddle/dpdk_telemetry.v2" ] &&
	python3 - "$place" >"$work/out" 2>"$work/err" <<'END'
import json, socket, sys
s = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
s.connect(sys.argv[1])
hello = json.loads(s.recv(16384))
s.send(b"/ethdev/list")
ports = json.loads(s.recv(16384))["/ethdev/list"]
s.send(b"/ethdev/stats,%d" % ports[0])
stats = json.loads(s.recv(16384))["/ethdev/stats"]
print(hello, ports, stats)
assert stats["ipackets"] > 100
END
verdict telemetry__answers $?
dropped_since() { [ "$(metric heddle_nic_lost_total in_tcp)" -gt "$1" ]; }
if [ "$kind" != tap ]; then
	before=$(metric heddle_nic_lost_total in_tcp)
	ethtool -K wire0 tx on >/dev/null 2>&1
	curl -sS -m 2 "$api/v1/models" >"$work/out" 2>"$work/err"
	[ $? = 28 ] && eventually dropped_since "$before"
	verdict checksum__an_incomplete_one_is_dropped_and_counted $?
	ethtool -K wire0 tx off >/dev/null 2>&1
fi

# --- what the role may do -------------------------------------------------------------
front=$("$build/heddlectl" --control "$work/polled.socket" info | sed -n 's/^dataplane\.pid: //p')
grep -h '^Cap\(Prm\|Eff\|Amb\)\|^NoNewPrivs' "/proc/$front"/task/*/status >"$work/out" 2>"$work/err"
[ "$(wc -l <"$work/out")" -ge 16 ] && ! grep '^Cap' "$work/out" | grep -qv '0000000000000000$' &&
	! grep -q '^NoNewPrivs:.*0$' "$work/out"
verdict privileges__none_are_left_in_any_thread $?

# --- ends -----------------------------------------------------------------------------
front=$("$build/heddlectl" --control "$work/polled.socket" info | sed -n 's/^dataplane\.pid: //p')
kill -9 "$front"
serves() { curl -sS -m 5 "$api/v1/models" 2>"$work/err" | grep -q '"id":"mock"'; }
again() {
	local pid
	pid=$("$build/heddlectl" --control "$work/polled.socket" info | sed -n 's/^dataplane\.pid: //p')
	[ "${pid:-0}" != 0 ] && [ "$pid" != "$front" ] || return 1
	[ "$kind" != tap ] || lay_wire 2>/dev/null
	serves
}
eventually again
verdict killed__serves_again $?
# Two seconds of steps at least.
ask "$api/v1/completions" -d '{"model":"mock","prompt":"a","max_tokens":10000,"seed":9,"stream":true,"ignore_eos":true}' \
	>"$work/out" 2>"$work/err" &
client=$!
eventually grep -q '"text"' "$work/out"
kill -TERM "$polled"
refused() { [ "$(ask -o "$work/refusal" -w '%{http_code}' "$api/v1/completions" -d "$(completion 1 1 false)" 2>&1)" = 503 ]; }
eventually refused && kill -0 "$client" && grep -q '"error"' "$work/refusal"
verdict drain__new_requests_are_refused_meanwhile $?
wait "$client" && grep -q '^data: \[DONE\]' "$work/out"
verdict drain__a_stream_goes_on_to_its_end $?
wait "$polled"
status=$?
polled=
[ "$status" = 0 ] && ! serves
verdict drain__ends $?
start_polled --nic-spin 0us --nic-sleep 5ms && serves && end_polled
verdict restart__at_once_and_mostly_asleep $?
# The first that this process may use.
core=$(taskset -cp $$ | sed 's/.*: //; s/[-,].*//')
start_polled --nic-core "$core" && serves && end_polled
verdict core__of_its_own $?

# --- several queues -------------------------------------------------------------------
# A loop each; the kernel spreads connections over them.
refuses "2 processors for nic-queues: 3" --nic-queues 3 --nic-core 0,1 &&
	refuses "processor 0 is given twice" --nic-queues 2 --nic-core 0,0 &&
	refuses "is no processor" --nic-core 1024 &&
	{ [ "$kind" = af_xdp ] || refuses "2 loops share 3 connections: each needs two" --nic-queues 2 --connections 3; }
verdict check__queues_and_processors $?
if [ "$kind" = af_packet ]; then
	refuses "qpairs=3 is not nic-queues: 2" --nic-queues 2 --nic-device "$device,qpairs=3"
	verdict check__pairs_that_nobody_would_look_at $?
fi
of_loops() { # NAME: of the first and of the second loop
	echo "$(metric "$1" 'loop="0"') $(metric "$1" 'loop="1"')"
}
# Frames that are for all loops are a handful; streams are more.
both_served() {
	local first second
	read -r first second <<<"$(of_loops heddle_poll_bursts_total)"
	echo "$first and $second bursts" >"$work/out"
	[ "$first" -gt 20 ] && [ "$second" -gt 20 ]
}
several_queues() {
	start_polled --nic-queues 2 && eventually serves
	verdict queues__start $?
	many queues "$api"
	all_same queues plain
	verdict queues__streams_at_once_same $?
	both_served
	verdict queues__both_loops_served $?
	same /v1/completions --data-binary "@$work/long" && grep -qx 200 "$work/out" &&
		same /v1/completions -d '{"model":"mock","prompt":["a","b","c","d"],"n":8,"seed":5,"max_tokens":4000,"ignore_eos":true}' &&
		[ "$(wc -c <"$work/out")" -gt 300000 ]
	verdict queues__large_prompt_and_answer_same $?
	curl -sS -m 60 http://127.0.0.1:8001/metrics 2>"$work/err" | grep -a '^heddle_nic' >"$work/out"
	[ "$(metric heddle_nic_handed_total)" -gt 0 ] && [ "$(metric heddle_nic_link_up)" = 1 ] &&
		[ "$(metric heddle_nic_ports)" = 1 ] && [ "$(metric heddle_nic_lost_total handed)" = 0 ] &&
		[ "$(metric heddle_nic_lost_total out_port)" = 0 ]
	verdict queues__metrics_of_the_port $?
	ctl stat && grep -q "^loop 0 of the dataplane (nic: dpdk)" "$work/out" && grep -q "^loop 1 of the dataplane (nic: dpdk)" "$work/out"
	verdict queues__stat_of_each $?
	# Of each address some connection goes to each loop.
	both_ip6() {
		local before after
		before=$(of_loops heddle_poll_bursts_total)
		for _ in $(seq 16); do
			curl -sS -g -m 5 'http://[fd09::2]:8000/v1/models' >"$work/out" 2>"$work/err" || return 1
			grep -q '"id":"mock"' "$work/out" || return 1
		done
		after=$(of_loops heddle_poll_bursts_total)
		[ "${before% *}" -lt "${after% *}" ] && [ "${before#* }" -lt "${after#* }" ]
	}
	eventually both_ip6
	verdict queues__ip6 $?
	ctl capture start "$work/queues.pcap" && grep -qx "state: running" "$work/out"
	for i in $(seq 16); do
		curl -sS -m 60 "$api/v1/models" -o /dev/null 2>>"$work/err"
	done
	ctl capture stop && grep -qx "state: stopped" "$work/out" && grep -qx "dropped: 0" "$work/out" &&
		python3 - "$work/queues.pcap" >"$work/out" 2>"$work/err" <<'END'
import struct, sys
data = open(sys.argv[1], "rb").read()
at, asked, answered = 24, set(), set()
while at < len(data):
    length = struct.unpack_from("<I", data, at + 8)[0]
    frame = data[at + 16:at + 16 + length]
    at += 16 + length
    if frame[12:14] == b"\x08\x00" and frame[23] == 6:
        out = frame[26:30] == bytes([10, 9, 0, 2])
        port = frame[36:38] if out else frame[34:36]
        if b"HTTP/1.1 200 OK" in frame[54:]:
            answered.add(port)
        if b"GET /v1/models" in frame[54:]:
            asked.add(port)
print(len(asked), len(answered))
assert len(asked) == 16 and asked == answered
END
	verdict queues__a_capture_of_all $?
	ctl reload && serves
	verdict queues__reload $?
	front=$("$build/heddlectl" --control "$work/polled.socket" info | sed -n 's/^dataplane\.pid: //p')
	kill -9 "$front"
	eventually again && many queues_again "$api" && all_same queues_again plain
	verdict queues__killed_serves_again $?
	# Two seconds of steps at least, over both loops, to the end of each.
	begin_streams drain 8 10000
	eventually all_began drain 8 && kill -TERM "$polled" && eventually refused &&
		grep -q '"error"' "$work/refusal" && wait "${clients[@]}" &&
		[ "$(grep -l '^data: \[DONE\]' "$work"/drain/* | wc -l)" = 8 ] && wait "$polled"
	status=$?
	polled=
	[ "$status" = 0 ] && ! serves
	verdict queues__drain $?
	if [ "$(nproc)" -ge 2 ]; then
		cores=$(python3 -c 'import os; print(*sorted(os.sched_getaffinity(0))[:2], sep=",")')
		start_polled --nic-queues 2 --nic-core "$cores" && eventually serves &&
			front=$("$build/heddlectl" --control "$work/polled.socket" info | sed -n 's/^dataplane\.pid: //p') &&
			for core in ${cores/,/ }; do
				grep -qx "Cpus_allowed_list:	$core" /proc/"$front"/task/*/status || break
			done && grep -hx "Cpus_allowed_list:	$core" /proc/"$front"/task/*/status >"$work/out" && end_polled
		verdict queues__a_core_each $?
	else
		echo "  SKIP: one processor"
	fi
}
if [ "$kind" = af_xdp ]; then
	echo "  SKIP: a veth has one queue for AF_XDP"
else
	several_queues
fi

# --- TLS ------------------------------------------------------------------------------
if command -v openssl >/dev/null; then
	openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 \
		-subj /CN=port -addext subjectAltName=IP:10.9.0.2,IP:fd09::2 \
		-keyout "$work/tls.key" -out "$work/tls.pem" 2>"$work/err"
	export CURL_CA_BUNDLE=$work/tls.pem
	clear=$api api=https://10.9.0.2:8000
	tls=(--tls-certificate "$work/tls.pem" --tls-key "$work/tls.key")
	start_polled "${tls[@]}" &&
		same /v1/models && same /v1/completions -d "$(completion 7 50 false)"
	verdict tls__same $?
	same /v1/completions -d "$(completion 8 200 true)" && grep -q DONE "$work/out" &&
		same /v1/chat/completions -d "$chat,\"stream\":true}"
	verdict tls__stream_same $?
	same /v1/completions --data-binary "@$work/long" && grep -qx 200 "$work/out"
	verdict tls__prompt_of_a_megabyte_same $?
	same /v1/completions -d '{"model":"mock","prompt":["a","b","c","d"],"n":8,"seed":5,"max_tokens":4000,"ignore_eos":true}' &&
		[ "$(wc -c <"$work/out")" -gt 300000 ]
	verdict tls__answer_of_many_records_same $?
	many secret "$api"
	all_same secret plain
	verdict tls__streams_at_once_same $?
	eventually ask -g 'https://[fd09::2]:8000/v1/models' >"$work/out" 2>"$work/err" &&
		grep -q '"id":"mock"' "$work/out"
	verdict tls__ip6 $?
	! curl -sS -m 10 "$clear/v1/models" >"$work/out" 2>"$work/err" &&
		! grep -q mock "$work/out"
	verdict tls__no_plain_text $?
	curl -sS -m 10 --tls-max 1.2 "$api/v1/models" >"$work/out" 2>"$work/err"
	[ $? = 35 ] && [ ! -s "$work/out" ]
	verdict tls__1_2_is_refused $?
	if has_openai; then
		SSL_CERT_FILE=$work/tls.pem "$openai_python" -B - "$api" >"$work/out" 2>"$work/err" <<'CLIENT'
import sys
import openai
client = openai.OpenAI(base_url=sys.argv[1] + "/v1", api_key="-", max_retries=0)
ask = {"model": "mock", "seed": 3, "max_tokens": 40,
       "messages": [{"role": "user", "content": "hi"}]}
whole = client.chat.completions.create(**ask).choices[0].message.content
pieces = [chunk.choices[0].delta.content or ""
          for chunk in client.chat.completions.create(stream=True, **ask)
          if chunk.choices]
assert whole and "".join(pieces) == whole, (whole, pieces)
CLIENT
		verdict tls__openai_package $?
	else
		echo "  SKIP: openai $openai_version cannot be installed here (python3-venv, PyPI)"
	fi
	end_polled
	verdict tls__ends $?
	if [ "$kind" != af_xdp ]; then
		start_polled --nic-queues 2 "${tls[@]}" && eventually serves &&
			many secret_queues "$api" && all_same secret_queues plain
		verdict tls__queues_same $?
		both_served && end_polled
		verdict tls__queues_end $?
	fi
	unset CURL_CA_BUNDLE
	api=$clear
else
	echo "  SKIP: TLS needs openssl"
fi
if [ "$kind" = tap ]; then
	:
elif ip link add link wire0 name wire0.7 type vlan id 7 2>/dev/null; then
	ip addr add 10.7.0.1/24 dev wire0.7 && ip link set wire0.7 up
	ethtool -K wire0.7 tx off >/dev/null 2>&1
	api=http://10.7.0.2:8000
	start_polled --nic-vlan 7 --nic-address 10.7.0.2/24 && serves &&
		same /v1/completions -d "$(completion 6 100 true)" && end_polled
	verdict vlan__same $?
else
	echo "  SKIP: this kernel has no VLANs"
fi

# --- a second port ----------------------------------------------------------------------
# Two ports to one switch, which is the client's end; the stream goes on over
# the other when the first one's link is gone, with the same MAC.
api=http://10.9.0.2:8000
lay_switch() {
	ip link add nic1 type veth peer name wire1 && ip link add switch0 type bridge &&
		echo 1 >/proc/sys/net/ipv6/conf/nic1/disable_ipv6 &&
		ip addr flush dev wire0 && ip link set wire0 master switch0 && ip link set wire1 master switch0 &&
		ip addr add 10.9.0.1/24 dev switch0 && ip addr add fd09::1/64 dev switch0 nodad &&
		ip link set nic1 up && ip link set wire1 up && ip link set switch0 up &&
		ip link set nic0 arp off && ip link set nic1 arp off &&
		ethtool -K wire1 tx off && ethtool -K switch0 tx off
}
standby_queues() {
	# Both queues change places; streams of both loops go on.
	ip link set nic1 up
	start_polled --nic-queues 2 --nic-standby "$standby" --null-step-us 2000 &&
		eventually active_is 0
	verdict standby__queues_start $?
	begin_streams over_two_ports 6 1500
	# A kernel behind a port with our MAC says that the clients are there.
	eventually all_began over_two_ports 6 && lie_about_clients
	verdict standby__queues_serve $?
	ip link set wire0 down
	eventually active_is 1 && wait "${clients[@]}"
	verdict standby__queues_take_over $?
	ask "$other/v1/completions" -d '{"model":"mock","prompt":"a","max_tokens":1500,"seed":9,"stream":true,"ignore_eos":true}' |
		text_of >"$work/expected"
	for i in $(seq 6); do
		text_of <"$work/over_two_ports/$i" | cmp - "$work/expected" || break
	done >"$work/out" 2>&1
	[ ! -s "$work/out" ] && [ "$(wc -c <"$work/expected")" -gt 2500 ] && end_polled
	verdict standby__queues_lose_not_a_byte $?
}
lie_about_clients() {
	ip -o link show nic0 | python3 -c '
import re, socket, sys
ours = bytes.fromhex(re.search("link/ether (\\S+)", sys.stdin.read())[1].replace(":", ""))
wire = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
wire.bind(("wire0", 0))
wire.send(ours * 2 + bytes.fromhex("0806000108000604" "0002") + ours + bytes([10, 9, 0, 1]) + ours + bytes([10, 9, 0, 2]))'
}
# Tokens that waited together may be in one event: the text counts.
text_of() {
	python3 -c '
import json, sys
for line in sys.stdin:
    if line.startswith("data: {"):
        sys.stdout.write(json.loads(line[6:])["choices"][0]["text"])'
}
lines() { [ "$(grep -c '"text"' "$work/out")" -ge "$1" ]; }
active_is() { [ "$(metric heddle_nic_port_active)" = "$1" ] && [ "$(metric heddle_nic_link_up)" = 1 ]; }
if [ "$kind" = tap ]; then
	:
elif lay_switch >"$work/out" 2>"$work/err"; then
	# Six seconds of steps: the link goes in the middle.
	start_polled --nic-standby "$standby" --null-step-us 2000 && eventually active_is 0 &&
		[ "$(metric heddle_nic_ports)" = 2 ]
	verdict standby__starts $?
	ask "$api/v1/completions" -d '{"model":"mock","prompt":"a","max_tokens":3000,"seed":9,"stream":true,"ignore_eos":true}' \
		>"$work/out" 2>"$work/err" &
	client=$!
	eventually lines 50
	ip link set wire0 down
	eventually active_is 1
	verdict standby__takes_over $?
	seen=$(grep -c '"text"' "$work/out")
	eventually lines $((seen + 100)) && kill -0 "$client"
	verdict standby__a_stream_goes_on $?
	# Back again, by the same rule: only when the other is gone.
	ip link set wire0 up
	[ "$(metric heddle_nic_port_active)" = 1 ] && ip link set nic1 down && eventually active_is 0
	verdict standby__and_back_when_that_one_fails $?
	wait "$client" && grep -q '^data: \[DONE\]' "$work/out"
	text_of <"$work/out" >"$work/over_two"
	ask "$other/v1/completions" -d '{"model":"mock","prompt":"a","max_tokens":3000,"seed":9,"stream":true,"ignore_eos":true}' |
		text_of >"$work/expected"
	cmp "$work/over_two" "$work/expected" >"$work/out" 2>&1 && [ "$(wc -c <"$work/expected")" -gt 5000 ]
	verdict standby__not_a_byte_is_lost $?
	[ "$(metric heddle_nic_takeovers_total)" = 2 ] && eventually serves && end_polled
	verdict standby__ends $?
	[ "$kind" = af_xdp ] || standby_queues
else
	echo "  SKIP: this kernel has no bridges"
fi
suite "dpdk_node_$kind"
