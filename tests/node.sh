#!/bin/bash
# node.sh - heddled and heddlectl as a user meets them (processes, signals)
# SPDX-License-Identifier: Apache-2.0
# usage: tests/node.sh BUILD   (ends with the line that tests/run.sh reads)
set -u
heddled=$1/heddled ctl=$1/heddlectl
. tests/user_node.sh

# --- a model without weights -----------------------------------------------------
woven_model
model=$work/model
cat >"$work/heddle.yaml" <<-EOF
	config-version: 1
	model: $model
	name: woven
	device: ["null", "null"]
	listen: 127.0.0.1:0
	admin: 127.0.0.1:0
	control: $work/run/control
	null-step-us: 1000
	slots: 256
	pages: 4096
	connections: 128
	drain-timeout: 30s
EOF

# --- helpers ------------------------------------------------------------------------
gone() { ! kill -0 "$1" 2>/dev/null; }
completion() { # MAX_TOKENS [OPTION OF CURL]
	ask ${2:-} "$api/v1/completions" -d "{\"model\":\"woven\",\"prompt\":\"hello\",\"max_tokens\":$1}"
}
reply_is() { [ "$(curl -s -m 10 -o /dev/null -w '%{http_code}' "$1")" = "$2" ]; }
children() { pgrep -P "$node" | wc -l; }
end_node() { # STATUS
	wait "$node"
	local status=$?
	node=
	[ "$status" = "$1" ]
}
leftovers() { # whatever a node could leave behind
	[ ! -e "$work/run/control" ] && ! pgrep -f "$work/heddle.yaml" >/dev/null &&
		[ "$(find /dev/shm -newer "$work/heddle.yaml" -name '*heddle*' | wc -l)" = 0 ]
}

# --- before anything runs -------------------------------------------------------------
"$heddled" -c "$work/heddle.yaml" --check >"$work/out" 2>"$work/err" &&
	grep -qx "configuration OK" "$work/out"
verdict check__good $?
printf 'model: %s\nslot: 3\n' "$model" >"$work/bad.yaml"
"$heddled" -c "$work/bad.yaml" --check >"$work/out" 2>"$work/err"
[ $? = 1 ] && grep -qF 'bad.yaml:2:1: unknown key "slot"; the nearest is "slots"' "$work/err"
verdict check__line_and_column $?
"$heddled" -c "$work/heddle.yaml" --device cpu >"$work/out" 2>"$work/err"
[ $? = 1 ] && grep -qF "holds no *.safetensors" "$work/err"
verdict device_cpu__without_weights_ends_with_nothing_left $?
printf '{"a":' >"$work/tokenizer.json"
mkdir "$work/broken" && cp "$model"/* "$work/broken/" &&
	cp "$work/tokenizer.json" "$work/broken/"
"$heddled" -c "$work/heddle.yaml" --model "$work/broken" >"$work/out" 2>"$work/err"
[ $? = 1 ] && grep -qF "tokenizer.json" "$work/err" && leftovers
verdict start__broken_tokenizer_ends_with_nothing_left $?
"$heddled" --nonsense >"$work/out" 2>"$work/err"
[ $? = 2 ]
verdict usage__exit_status $?
ctl info >"$work/out" 2>"$work/err"
[ $? = 3 ]
verdict heddlectl__no_node $?
# Of another process, which goes on; and which ends meanwhile, as a node does
# whose io_uring the kernel still takes apart.
listens() { # SECONDS: on a port that it prints
	python3 -c '
import socket, sys, time
with socket.create_server(("127.0.0.1", 0)) as listener:
    print(listener.getsockname()[1], flush=True)
    time.sleep(float(sys.argv[1]))' "$1" >"$work/port" &
	eventually test -s "$work/port"
}
listens 60 && other=$!
"$heddled" -c "$work/heddle.yaml" --admin "127.0.0.1:$(cat "$work/port")" >"$work/out" 2>"$work/err"
[ $? = 1 ] && grep -qF "another process listens there" "$work/err" && leftovers
verdict start__address_in_use $?
kill "$other"
: >"$work/port"
listens 1 && start --admin "127.0.0.1:$(cat "$work/port")" && kill -TERM "$node" && end_node 0
verdict start__address_in_use_no_more $?
printf 'sesame' | "$heddled" --hash-key team >"$work/keys" &&
	grep -qE '^[0-9a-f]{64} team$' "$work/keys"
verdict hash_key__prints_a_line $?

# --- a node that serves ---------------------------------------------------------------
start
verdict start__ready $?
ask "$api/v1/models" | grep -q '"id":"woven"'
verdict models $?
completion 20 | grep -q '"completion_tokens":20'
verdict completion $?
ask -N "$api/v1/chat/completions" -d '{"model":"woven","messages":[{"role":"user","content":"hi"}],"max_tokens":9,"stream":true,"stream_options":{"include_usage":true}}' >"$work/out"
grep -q '"completion_tokens":9' "$work/out" && grep -qx 'data: \[DONE\]' "$work/out"
verdict chat__stream $?
reply_is "$admin/ready" 200 && reply_is "$admin/health" 200 && reply_is "$api/metrics" 404
verdict admin__health_and_metrics_apart $?
ctl info >"$work/out" && grep -qx "state: serving" "$work/out" &&
	grep -qx "computes: no" "$work/out"
verdict heddlectl__info $?
exact() { # the last request's slot goes just after its last byte
	ctl stat -o json | python3 -c 'import json,sys; s=json.load(sys.stdin); sys.exit(s["output_tokens_total"] != 29 or s["slots_used"] != 0)'
}
eventually exact
verdict heddlectl__stat_counts_exactly $?
ctl config show >"$work/out" && grep -qF "slots: 256  # file $work/heddle.yaml:9" "$work/out" &&
	grep -qx 'ring: 16384  # default' "$work/out"
verdict heddlectl__config_show $?
ctl log loud >"$work/out" 2>"$work/err"
[ $? = 2 ] && ctl log debug | grep -qx ok
verdict heddlectl__log $?
python3 - "$work/run/control" <<-'EOF'
	import socket, sys
	s = socket.socket(socket.AF_UNIX)
	s.connect(sys.argv[1])
	s.sendall(b"stat -o json\nnonsense\n" + b"x" * 5000 + b"\n")
	text = b""
	while part := s.recv(65536):
	    text += part
	parts = text.split(b"\n\n")
	assert parts[0].startswith(b"{") and parts[1].startswith(b"error: "), parts
	assert b"longer than" in parts[2], parts
EOF
verdict control_socket__lines $?

# --- reload ------------------------------------------------------------------------------
cp "$work/heddle.yaml" "$work/good.yaml"
printf 'api-keys: %s\nslots2: 1\n' "$work/keys" >>"$work/heddle.yaml"
kill -HUP "$node"
eventually logged "heddle.yaml:14:1: unknown key" && completion 3 | grep -q '"completion_tokens":3'
verdict reload__bad_file_keeps_the_old $?
cp "$work/good.yaml" "$work/heddle.yaml"
printf 'api-keys: %s\nring: 64\n' "$work/keys" >>"$work/heddle.yaml"
ctl reload >"$work/out" && grep -qx "needs_restart: ring" "$work/out" &&
	eventually reply_is "$api/v1/models" 401 &&
	ask -H 'authorization: Bearer sesame' "$api/v1/models" | grep -q woven
verdict reload__keys_come_into_force $?
cp "$work/good.yaml" "$work/heddle.yaml"
kill -HUP "$node"
eventually reply_is "$api/v1/models" 200
verdict reload__and_out_of_it $?

# --- roles that die -------------------------------------------------------------------------
stream "$work/a" woven 60000
first=$stream
stream "$work/b" woven 60000
second=$stream
descriptors=$(ls "/proc/$node/fd" | wc -l)
kill_role rank0
wait "$first"
a=$?
eventually logged "rank 0 serves again"
kill_role rank1
wait "$second"
[ $? = 0 ] && [ "$a" = 0 ] && grep -q '"code":"engine_lost"' "$work/a" &&
	grep -q '"code":"engine_lost"' "$work/b"
verdict engine_killed__its_requests_get_an_error $?
eventually ready && completion 50 | grep -q '"completion_tokens":50' &&
	eventually reply_is "$admin/ready" 200
verdict engine_killed__serves_again $?
stream "$work/a" woven 60000
kill_role dataplane
wait "$stream"
[ $? != 0 ] && completion 5 | grep -q '"completion_tokens":5' && eventually ready
verdict dataplane_killed__serves_again_on_the_same_port $?
idle() { ctl stat -o json | grep -q '"slots_used":0,"pages_used":0' && ctl stat | grep -qx 'running: 0'; }
eventually idle
verdict dataplane_killed__its_requests_are_cleared_away $?
[ "$(ls "/proc/$node/fd" | wc -l)" = "$descriptors" ] && [ "$(children)" = 3 ]
verdict deaths__leave_no_descriptor_and_no_process $?
kill -STOP "$(pid_of rank1)"
eventually reply_is "$admin/health" 503
red=$?
kill -CONT "$(pid_of rank1)"
eventually reply_is "$admin/health" 200 && [ "$red" = 0 ]
verdict engine_stopped__health_goes_red_and_back $?

# --- the end --------------------------------------------------------------------------------
stream "$work/a" woven 4000
kill -TERM "$node"
eventually reply_is "$api/ready" 503
completion 3 -i >"$work/out" 2>"$work/err"
grep -q '^HTTP/1.1 503 ' "$work/out" && grep -qi '^retry-after-ms: ' "$work/out" &&
	grep -q '"code":"draining"' "$work/out" &&
	reply_is "$admin/ready" 503 && reply_is "$admin/live" 200 &&
	ask "$admin/metrics" | grep -q '^heddle_'
refused=$?
wait "$stream"
[ $? = 0 ] && grep -qx 'data: \[DONE\]' "$work/a" && [ "$refused" = 0 ] &&
	grep -q '"finish_reason":"length"' "$work/a"
verdict sigterm__open_requests_end $?
end_node 0 && leftovers
verdict sigterm__nothing_is_left $?
start
stream "$work/a" woven 60000
kill -TERM "$node"
eventually logged "draining"
kill -TERM "$node"
wait "$stream"
end_node 0 && leftovers && ! grep -q 'DONE' "$work/a"
verdict second_sigterm__is_quick $?
start
stream "$work/a" woven 60000
ctl shutdown | grep -qx ok
wait "$stream"
end_node 0 && leftovers
verdict heddlectl__shutdown $?
start
roles=$(pgrep -P "$node")
kill -9 "$node"
wait "$node" 2>/dev/null
for pid in $roles; do eventually gone "$pid" || break; done
verdict control_killed__its_roles_end_too $?
node=
start
verdict start__over_the_socket_of_a_killed_node $?
ctl drain | grep -qx ok && end_node 0 && leftovers
verdict heddlectl__drain $?

# --- TLS -------------------------------------------------------------------------------------
identity() { # NAME: a self-signed certificate, in place at once as a renewal is
	openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 \
		-subj "/CN=$1" -addext "subjectAltName=IP:127.0.0.1" \
		-keyout "$work/$1.key" -out "$work/$1.pem" 2>"$work/err"
}
issue() { # NAME: becomes the node's
	cp "$work/$1.key" "$work/tls.key.new" && mv "$work/tls.key.new" "$work/tls.key"
	cp "$work/$1.pem" "$work/tls.pem.new" && mv "$work/tls.pem.new" "$work/tls.pem"
}
tls_chat() { # NAME
	ask --cacert "$work/$1.pem" "$api/v1/chat/completions" -d \
		'{"model":"woven","messages":[{"role":"user","content":"hi"}],"max_tokens":5}' |
		grep -q '"completion_tokens":5'
}
if command -v openssl >/dev/null; then
	identity old && identity new && issue old
	printf 'tls-certificate: %s\ntls-key: %s\n' "$work/tls.pem" "$work/tls.key" \
		>>"$work/heddle.yaml"
	cp "$work/new.key" "$work/tls.key"
	"$heddled" -c "$work/heddle.yaml" --check >"$work/out" 2>"$work/err"
	[ $? = 1 ] && grep -q 'tls.pem: .*key' "$work/err"
	verdict tls__a_key_that_does_not_fit_is_found_by_check $?
	issue old
	start && [[ "$api" = https://* ]] && tls_chat old &&
		[ "$(curl -s -m 10 --cacert "$work/old.pem" -o /dev/null -w '%{ssl_verify_result}' "$api/v1/models")" = 0 ]
	verdict tls__chat_over_1_3 $?
	curl -s -m 10 --tls-max 1.2 --cacert "$work/old.pem" "$api/v1/models" >"$work/out"
	[ $? = 35 ] && [ ! -s "$work/out" ]
	verdict tls__1_2_is_refused $?
	curl -s -m 10 "$api/v1/models" >"$work/out"
	[ $? = 60 ] && reply_is "http://${api#https://}/v1/models" 000
	verdict tls__neither_strangers_nor_plain_text $?
	: >"$work/a"
	curl -sSN -m 60 --cacert "$work/old.pem" -o "$work/a" "$api/v1/completions" -d \
		'{"model":"woven","prompt":"hello","max_tokens":3000,"stream":true}' &
	stream=$!
	eventually grep -q '"text":"' "$work/a"
	issue new
	kill -HUP "$node"
	eventually tls_chat new 2>"$work/err" && ! tls_chat old 2>"$work/err" &&
		kill -0 "$stream" && wait "$stream" && grep -qx 'data: \[DONE\]' "$work/a"
	verdict tls__sighup_takes_a_new_certificate_and_open_streams_go_on $?
	echo nonsense >"$work/tls.pem"
	kill -HUP "$node"
	eventually logged "tls.pem: TLS certificate" && tls_chat new
	verdict tls__a_bad_certificate_keeps_the_old $?
	issue new
	kill_role dataplane
	eventually tls_chat new 2>"$work/err"
	verdict tls__a_new_life_has_the_new_certificate $?
	kill -TERM "$node"
	end_node 0 && leftovers
	verdict tls__ends $?
	cp "$work/good.yaml" "$work/heddle.yaml"
else
	echo "  SKIP: TLS through a node needs openssl"
fi

# --- another user ---------------------------------------------------------------------
"$heddled" -c "$work/heddle.yaml" --check --user no-such-user >"$work/out" 2>"$work/err"
[ $? = 1 ] && grep -qF 'there is no user "no-such-user"' "$work/err"
verdict user__one_that_is_not_there $?
powers() { grep -h '^Cap\(Prm\|Eff\)' "/proc/$1"/task/*/status | sort -u; }
bare() { [ "$(powers "$(pid_of dataplane)" | grep -v '0000000000000000$' | wc -l)" = 0 ]; }
if [ "$(id -u)" = 0 ] && grep -q 4294967295 /proc/self/uid_map && id nobody >/dev/null 2>&1; then
	start --user nobody
	front=$(pid_of dataplane)
	ids=$(sed -n 's/^[UG]id:[[:space:]]*//p' "/proc/$front/status" | tr -s '[:space:]' '\n' | sort -u)
	[ "$ids" = "$(printf '%s\n' "$(id -u nobody)" "$(id -g nobody)" | sort -u)" ] &&
		grep -q '^Groups:[[:space:]]*$' "/proc/$front/status" && bare && completion 5 >"$work/out"
	verdict user__the_dataplane_becomes_it $?
	kill -9 "$front"
	eventually reply_is "$api/v1/models" 200 && bare
	verdict user__so_does_its_next_life $?
	front=$(pid_of dataplane)
	kill -9 "$node"
	wait "$node" 2>/dev/null
	node=
	eventually gone "$front"
	verdict user__ends_with_control_all_the_same $?
else
	start && bare && kill -TERM "$node" && end_node 0
	verdict user__no_privileges_are_kept $?
	echo "  SKIP: only root may become another user"
fi

# --- several loops ------------------------------------------------------------------------------
# Each has 64 of the 128 connections, so of 90 that stay both have some.
refused() { ! "$heddled" -c "$work/heddle.yaml" --check "$@" >"$work/out" 2>&1; }
refused --nic-queues 9 && refused --nic-queues 0 &&
	refused --nic-queues 3 --connections 2 && grep -q "3 loops share 2 connections" "$work/out"
verdict loops__numbers_that_are_refused $?
cat >"$work/loops.py" <<-'EOF'
	import json, os, select, signal, socket, sys
	host, port = sys.argv[1].split("//")[1].split(":")
	clients = [socket.create_connection((host, int(port)), 60) for _ in range(90)]
	text = [b""] * len(clients)
	def ask(i, **more):
	    body = json.dumps({"model": "woven", "prompt": "hello", "ignore_eos": True, **more}).encode()
	    text[i] = b""
	    clients[i].sendall(b"POST /v1/completions HTTP/1.1\r\nhost: x\r\ncontent-length: %d\r\n\r\n" % len(body) + body)
	def hear(*ends): # of all, in any order: who does not read is cut off
	    waits = {client: i for i, client in enumerate(clients)}
	    while waits:
	        for client in select.select(list(waits), [], [], 60)[0]:
	            i, part = waits[client], client.recv(65536)
	            assert part, (i, text[i][-300:])
	            text[i] = (text[i] + part)[-2000:] # the end decides
	            if any(end in text[i] for end in ends):
	                del waits[client]
	                if b"[DONE]" in ends:
	                    client.close()
	everybody = range(len(clients))
	for i in everybody: ask(i, max_tokens=20)
	hear(b'"completion_tokens":20')
	for i in everybody: ask(i, max_tokens=2500, stream=True)
	hear(b'"text":"')
	os.kill(int(sys.argv[2]), signal.SIGKILL if sys.argv[3] == "kill" else signal.SIGTERM)
	hear(b"[DONE]", b"engine_lost")
	lost = sum(b"engine_lost" in t for t in text)
	print(lost, "of", len(clients), "lost")
	assert 20 < lost < 70 if sys.argv[3] == "kill" else lost == 0
EOF
start --nic-queues 2 --drain-timeout 60s
python3 "$work/loops.py" "$api" "$(pid_of rank0)" kill >"$work/out" 2>"$work/err"
verdict loops__a_rank_that_dies_ends_its_requests_in_all $?
eventually idle && eventually ready && ask "$admin/metrics" >"$work/out" &&
	[ "$(grep -c '^heddle_poll_turns_total{.*loop="[01]"} [1-9]' "$work/out")" = 2 ] &&
	grep -q '^heddle_http_requests_total{.*engine="0"} 18[0-9]$' "$work/out" &&
	[ "$(ctl stat | grep -c '^loop . of the dataplane')" = 2 ]
verdict loops__are_counted_together_and_apart $?
printf 'api-keys: %s\n' "$work/keys" >>"$work/heddle.yaml"
kill -HUP "$node"
all_reply() {
	for _ in $(seq 20); do reply_is "$api/v1/models" "$1" || return 1; done
}
eventually all_reply 401
refusing=$?
cp "$work/good.yaml" "$work/heddle.yaml"
kill -HUP "$node"
eventually all_reply 200 && [ "$refusing" = 0 ]
verdict loops__all_read_the_configuration_again $?
kill_role dataplane
eventually ready && completion 5 | grep -q '"completion_tokens":5' && eventually idle
verdict loops__a_dataplane_that_dies_comes_back $?
python3 "$work/loops.py" "$api" "$node" term >"$work/out" 2>"$work/err" && end_node 0 && leftovers
verdict loops__what_is_open_in_any_ends $?

# --- the service manager ------------------------------------------------------------------------
notify=$work/notify
python3 - "$notify" >"$work/notices" <<-'EOF' &
	import socket, sys
	s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
	s.bind(sys.argv[1])
	s.settimeout(60)
	while True:
	    text = s.recv(4096).decode()
	    print(text.replace("\n", " "), flush=True)
	    if "STOPPING" in text:
	        break
EOF
manager=$!
eventually test -S "$notify"
start
kill -HUP "$node"
eventually grep -q "RELOADING=1 MONOTONIC_USEC=" "$work/notices"
kill -TERM "$node"
end_node 0
wait "$manager"
grep -q "^READY=1 STATUS=serving woven" "$work/notices" && grep -q "^STOPPING=1" "$work/notices"
verdict notify__ready_reloading_stopping $?

suite node_sh
