#!/bin/bash
# adapters_node.sh - adapters that come and go in a node that serves (-> verdict)
# SPDX-License-Identifier: Apache-2.0
# usage: tests/adapters_node.sh BUILD [null|cpu]   (ends with the line that
# tests/run.sh reads)
set -u
build=$(cd "$1" && pwd) device=${2:-null}
heddled=$build/heddled ctl=$build/heddlectl eval=$build/heddle-eval
make=$build/tests/make_adapter
. tests/user_node.sh

# --- a model and adapters ----------------------------------------------------------
model=$work/model root=$work/root
mkdir "$root"
if [ "$device" = cpu ]; then
	# Some milliseconds a token: answers last long enough to act meanwhile.
	base=deploy/demo/model long=4000 some=1300
	mkdir "$model"
	cp "$base"/*.json "$base"/*.safetensors "$model/"
else
	base=tests/golden/qwen3_moe long=60000 some=6000
	woven_model
	cp $base/*.safetensors "$model/"
fi
for i in 1 2 3; do
	"$make" "$base" "10$i" bf16 "$root/a$i" || exit 1
done
cat >"$work/heddle.yaml" <<-EOF2
	config-version: 1
	model: $model
	name: woven
	device: ["$device", "$device"]
	adapter: ["first=$root/a1"]
	adapter-root: $root
	listen: 127.0.0.1:0
	admin: 127.0.0.1:0
	control: $work/run/control
	null-step-us: 1000
	cpu-threads: 1
	cpu-sequences: 8
	cpu-rows: 64
	kv-tokens: 40000
	slots: 256
	pages: 8192
	connections: 128
	drain-timeout: 10s
EOF2

# --- helpers -----------------------------------------------------------------------
adapter() { ctl adapter "$@" >"$work/out" 2>"$work/err"; }
refuses() { # TEXT ARGUMENT...
	local text=$1
	shift
	adapter "$@"
	[ $? = 1 ] && grep -qF -- "$text" "$work/err"
}
completion() { # MODEL MAX_TOKENS: the status, the body in $work/reply
	ask -o "$work/reply" -w '%{http_code}' "$api/v1/completions" -d \
		"{\"model\":\"$1\",\"prompt\":\"hello\",\"max_tokens\":$2,\"ignore_eos\":true}"
}
serves() { [ "$(completion "$1" 3)" = 200 ] && grep -q '"completion_tokens":3' "$work/reply"; }
unknown() { [ "$(completion "$1" 3)" = 404 ] && grep -q '"code":"model_not_found"' "$work/reply"; }
whole() { grep -qx 'data: \[DONE\]' "$1" && grep -q '"finish_reason":"length"' "$1"; }
listed() { ctl adapter list | grep -qE -- "$1"; }
not_listed() { ! listed "$1"; }
both_resident() { # NAME
	[ "$(ctl -o json adapter show "$1" | grep -o '"state":"resident"' | wc -l)" = 3 ]
}
balanced() { # of every rank the parts add up; ARGUMENT: pages of adapters in all
	ctl -o json mem | python3 -c '
import json, sys
pages = 0
for r in json.load(sys.stdin)["ranks"]:
    parts = [r[k]["pages"] for k in ("base", "adapters", "kv_held", "kv_idle", "free")]
    assert sum(parts) == r["pages"] and r["page_bytes"] > 0, r
    assert sum(a["pages"] for a in r["each_adapter"]) == r["adapters"]["pages"], r
    pages += r["adapters"]["pages"]
sys.exit(len(sys.argv) > 1 and pages != int(sys.argv[1]))' "$@"
}
http() { # STATUS TEXT ROUTE BODY
	[ "$(ask -o "$work/reply" -w '%{http_code}' "$admin/v1/$3" -d "$4")" = "$1" ] &&
		grep -qF -- "$2" "$work/reply"
}

# --- before anything runs ------------------------------------------------------------
"$heddled" -c "$work/heddle.yaml" --check >"$work/out" 2>"$work/err" &&
	grep -qx "configuration OK" "$work/out"
verdict check__good $?
bad() { # ADAPTER TEXT
	"$heddled" -c "$work/heddle.yaml" --check --adapter "$1" >"$work/out" 2>"$work/err"
	[ $? = 1 ] && grep -qF -- "$2" "$work/err"
}
bad "x=/nowhere" 'adapter "x": /nowhere: No such file' && bad "x" "is not NAME=DIR" &&
	bad "woven=$root/a1" "is a name of the model" && bad "-x=$root/a1" "no name" &&
	bad "x=$model" "expert_cfg.json" && bad "x=$root/a1,x=$root/a2" "twice"
verdict check__bad_adapters $?

# --- the life of one -------------------------------------------------------------------
start
verdict start__ready $?
serves woven && serves first && unknown second
verdict start__its_adapter_serves $?
both_resident first && listed '^first +resident .* no ' && balanced
verdict start__is_on_every_rank $?
adapter load second "$root/a2" --pin --weight 3 && grep -q "^instance: " "$work/out" && serves second
verdict load__serves_at_once $?
(cd "$root" && ctl adapter load third a3) >"$work/out" 2>"$work/err" && serves third &&
	listed "third +resident .* $root/a3\$"
verdict load__a_relative_path_is_the_users $?
ask "$api/v1/models" >"$work/out" && python3 - "$work/out" <<-'EOF2'
	import json, sys
	all = {m["id"]: m["parent"] for m in json.load(open(sys.argv[1]))["data"]}
	assert all == {"woven": None, "first": "woven", "second": "woven", "third": "woven"}, all
EOF2
verdict models__adapters_have_a_parent $?
ask "$api/v1/models/second" | grep -q '"parent":"woven"' &&
	[ "$(ask -o /dev/null -w '%{http_code}' "$api/v1/models/none")" = 404 ]
verdict model__one_of_them $?
adapter show second && grep -qx "pinned: yes" "$work/out" && grep -qx "weight: 3" "$work/out" &&
	refuses 'no adapter "none"' show none
verdict show $?
refuses "is pinned" unload second && refuses "is pinned" unload second --now && serves second &&
	adapter unpin second && refuses 'no adapter "none"' pin none
verdict pin__is_kept_until_unpinned $?
adapter weight second 9 && adapter show second && grep -qx "weight: 9" "$work/out" &&
	listed "second +resident +[0-9]+ +no +9 " && refuses 'no adapter "none"' weight none 2 && serves second
verdict weight__while_it_serves $?
cp -r "$root/a3" "$root/with blanks" && (cd "$root" && ctl adapter load "two words" "with blanks") >"$work/out" 2>"$work/err" &&
	serves "two words" && listed "^two words +resident .* $root/with blanks\$" &&
	python3 - "$work/run/control" 'adapter unload "two words"' <<-'EOF2' && unknown "two words"
		import socket, sys
		s = socket.socket(socket.AF_UNIX)
		s.connect(sys.argv[1])
		s.sendall(sys.argv[2].encode() + b"\n")
		answer = b""
		while not answer.endswith(b"\n\n"):
		    answer += s.recv(4096) or sys.exit(1)
		sys.exit(b"freed_pages: " not in answer)
EOF2
verdict load__names_and_paths_with_blanks $?
refuses "is there already" load first "$root/a1" && refuses "name of the model" load woven "$root/a1" &&
	refuses "No such file" load x /nowhere && refuses "expert_cfg.json" load x "$model" &&
	refuses 'no adapter "x"' replace x "$root/a1" && refuses 'no adapter "x"' unload x
verdict refusals__say_why $?
mkdir "$work/link" && cp "$root/a1"/*.json "$work/link/" && ln -s "$root/a1"/*1.safetensors "$work/link/m.safetensors" &&
	refuses "leads out of the directory" load x "$work/link"
verdict load__a_link_that_leads_out $?
ctl adapter load $'a\nb' /x >"$work/out" 2>"$work/err"
[ $? = 2 ] && ctl adapter load "$(head -c 10000 /dev/zero | tr '\0' x)" /x >"$work/out" 2>"$work/err"
[ $? = 2 ] && refuses "is no name" load 'a"b' "$root/a1"
verdict load__bad_names $?
before=$(ctl -o json mem | python3 -c 'import json,sys; print(sum(r["adapters"]["pages"] for r in json.load(sys.stdin)["ranks"]))')
adapter unload third && freed=$(sed -n 's/^freed_pages: //p' "$work/out") && [ "$freed" -gt 0 ] &&
	balanced $((before - freed)) && unknown third && not_listed third
verdict unload__says_what_came_back $?

# --- with requests -----------------------------------------------------------------------
stream "$work/a" second $long
adapter unload second --no-wait && eventually unknown second && listed "second +draining" &&
	refuses "is being unloaded" load second "$root/a2" && serves woven
verdict unload__waits_for_its_users $?
adapter unload second --now && wait "$stream"
grep -q '"text":"' "$work/a" && ! whole "$work/a" && not_listed second && balanced
verdict unload_now__cancels_them $?
adapter load second "$root/a2"
stream "$work/a" second $((long / 30))
adapter unload second && wait "$stream" && whole "$work/a" && not_listed second
verdict unload__ends_after_the_last_token $?
stream "$work/a" first $some
adapter replace first "$root/a2" && listed "first +resident .* $root/a2" && listed "first +draining .* $root/a1" &&
	serves first
verdict replace__two_are_there $?
refuses "busy" replace first "$root/a3"
verdict replace__a_third_is_busy $?
wait "$stream" && whole "$work/a" && eventually not_listed "draining" && balanced
verdict replace__the_old_one_goes_with_its_last_request $?
stream "$work/a" first $((long / 30))
adapter replace first "$root/a3" --drain && wait "$stream" && whole "$work/a" && serves first &&
	listed "first +resident .* $root/a3" && not_listed draining
verdict replace_drain__the_old_one_first $?
rm -rf "$work/moved" && cp -r "$root/a1" "$work/moved" && adapter load moving "$work/moved" &&
	mv "$work/moved" "$work/elsewhere" && cp -r "$root/a2" "$work/moved" &&
	kill_role rank0 && eventually ready && eventually both_resident moving && serves moving &&
	adapter unload moving
verdict engine_killed__its_adapters_are_there_again_whatever_became_of_the_files $?

# --- what dies --------------------------------------------------------------------------
stream "$work/a" first $long
has_user() { # ADAPTER: $victim, the rank
	victim=$(ctl -o json adapter show "$1" | python3 -c '
import json, sys
for r in json.load(sys.stdin)["instances"][0]["ranks"]:
    if r["users"]: print("rank%d" % r["rank"])') && [ -n "$victim" ]
}
eventually has_user first && adapter unload first --no-wait && eventually listed "first +draining" && kill_role "$victim"
# Books of a new life come after its first word.
if [ "$device" = null ]; then
	wait "$stream"
	grep -q '"code":"engine_lost"' "$work/a" && eventually not_listed first && eventually ready && eventually balanced
else
	eventually ready && adapter unload first --now && wait "$stream"
	not_listed first && eventually balanced
fi
verdict engine_killed__while_it_drains $?
adapter load first "$root/a1" && kill -STOP "$(pid_of rank1)" && adapter load second "$root/a2" --no-wait &&
	listed "second +(staging|loading)" && unknown second && kill_role rank1 &&
	eventually serves second && eventually both_resident second && serves first
verdict engine_killed__while_it_loads $?
kill -STOP "$(pid_of rank1)" && adapter load third "$root/a3" --no-wait &&
	refuses "is busy" unload third && { ctl adapter unload third --now >"$work/out" 2>"$work/err" & } &&
	later=$! && kill -CONT "$(pid_of rank1)" && wait $later && eventually not_listed third && unknown third
verdict unload_now__while_it_loads $?
stream "$work/a" first $((long / 10))
adapter replace first "$root/a2" && kill_role rank0 && kill_role rank1
wait "$stream"
eventually ready && eventually both_resident first && eventually not_listed draining && serves first && balanced
verdict engines_killed__after_replace $?
kill_role dataplane && eventually ready && eventually serves first && serves second &&
	adapter unload second && unknown second
verdict dataplane_killed__knows_the_names_again $?
kill -HUP "$node" && eventually logged "configuration read again" && serves first
verdict reload__keeps_them $?

# --- clients that never rest ----------------------------------------------------------------
adapter load busy "$root/a1"
for i in 1 2 3 4; do
	(for j in $(seq 12); do
		[ "$(curl -sS -m 60 -o /dev/null -w '%{http_code}' -H 'content-type: application/json' "$api/v1/completions" \
			-d '{"model":"busy","prompt":"hello","max_tokens":20}')" = 200 ] || echo lost >>"$work/lost"
	done) &
	clients="${clients:-} $!"
done
for i in 2 3 1 2 3; do eventually adapter replace busy "$root/a$i" || echo refused >>"$work/lost"; done
wait $clients
[ ! -e "$work/lost" ] && eventually not_listed draining && adapter unload busy && balanced
verdict replace__under_traffic_loses_nothing $?

# --- HTTP --------------------------------------------------------------------------------
http 200 "Success: LoRA adapter 'web' added successfully." load_lora_adapter \
	'{"lora_name":"web","lora_path":"a1"}' && serves web
verdict http_load__beneath_the_root $?
http 400 "has already been loaded" load_lora_adapter "{\"lora_name\":\"web\",\"lora_path\":\"$root/a2\"}" &&
	http 200 "Success" load_lora_adapter "{\"lora_name\":\"web\",\"lora_path\":\"$root/a2\",\"load_inplace\":true}" &&
	listed "web +resident"
verdict http_load__in_place $?
ln -s "$model" "$root/out"
http 400 "not beneath" load_lora_adapter "{\"lora_name\":\"x\",\"lora_path\":\"$model\"}" &&
	http 400 "leads out" load_lora_adapter '{"lora_name":"x","lora_path":"../model"}' &&
	http 400 "leads out" load_lora_adapter "{\"lora_name\":\"x\",\"lora_path\":\"$root/../model\"}" &&
	http 400 "leads out" load_lora_adapter '{"lora_name":"x","lora_path":"out"}' &&
	http 404 "No such file" load_lora_adapter '{"lora_name":"x","lora_path":"none"}'
verdict http_load__nothing_outside $?
http 400 "must be provided" load_lora_adapter '{"lora_name":"x"}' &&
	http 400 "must have no" load_lora_adapter '{"lora_name":"a\nb","lora_path":"a1"}' &&
	http 400 "at most 127" load_lora_adapter "{\"lora_name\":\"$(head -c 10000 /dev/zero | tr '\0' x)\",\"lora_path\":\"a1\"}" &&
	http 400 "control character" load_lora_adapter '{"lora_name":"x","lora_path":"a\n1"}' &&
	http 400 "at most 1023" load_lora_adapter "{\"lora_name\":\"x\",\"lora_path\":\"$(head -c 10000 /dev/zero | tr '\0' x)\"}" &&
	http 400 "invalid_json" load_lora_adapter '{' && http 400 "lora_name" unload_lora_adapter '{}' &&
	http 400 "name of the model" load_lora_adapter '{"lora_name":"woven","lora_path":"a1"}'
verdict http_load__bad_requests $?
http 200 "Success: LoRA adapter 'web' removed successfully." unload_lora_adapter '{"lora_name":"web"}' &&
	unknown web && http 404 "cannot be found" unload_lora_adapter '{"lora_name":"web"}' &&
	[ "$(ask -o /dev/null -w '%{http_code}' "$api/v1/load_lora_adapter" -d '{}')" = 404 ]
verdict http_unload $?

# --- numbers -------------------------------------------------------------------------------
serves first
ask "$admin/metrics" >"$work/out"
grep -q '^heddle_adapter_state{.*adapter="first".*state="resident"} 1$' "$work/out" &&
	grep -q '^heddle_model_requests_total{model_name="first",engine="0"} [1-9]' "$work/out" &&
	grep -q '^vllm:generation_tokens_total{model_name="first"' "$work/out" &&
	grep -q '^vllm:lora_requests_info{' "$work/out" &&
	grep -q '^heddle_pool_pages{.*owner="free"} [0-9]' "$work/out"
verdict metrics $?
if [ "$device" = null ]; then
	mkdir "$root/big" && cp "$root/a1"/*.json "$root/big/" && truncate -s 2G "$root/big/m.safetensors"
	refuses "replace with --drain" replace first "$root/big" && serves first &&
		refuses "are free" load big "$root/big" && unknown big && balanced
	verdict no_memory__says_so_and_keeps_the_old $?
fi

# --- the end --------------------------------------------------------------------------------
kill -TERM "$node"
wait "$node"
[ $? = 0 ]
verdict sigterm__ends_well $?
node=
sed -i '/^adapter-root/d' "$work/heddle.yaml"
start && serves first && unknown second && http 400 "--adapter-root" load_lora_adapter '{"lora_name":"x","lora_path":"a1"}'
verdict restart__what_was_configured $?
kill -TERM "$node"
wait "$node"
node=
# --- who signed it ----------------------------------------------------------------------------
rm -rf "$root/big"
if command -v openssl >/dev/null; then
	openssl genpkey -algorithm ed25519 -out "$work/key.pem" && openssl pkey -in "$work/key.pem" -pubout -out "$work/public.pem"
	keys="--adapter-keys $work/public.pem"
	# shellcheck disable=SC2086 # two words
	"$heddled" -c "$work/heddle.yaml" --check $keys >"$work/out" 2>"$work/err"
	[ $? = 1 ] && grep -q 'adapter "first": is not signed: .*/a1/heddle-manifest.json' "$work/err" &&
		! "$heddled" -c "$work/heddle.yaml" --check --adapter-keys /nowhere >"$work/out" 2>"$work/err" &&
		grep -q 'adapter-keys: /nowhere: No such file' "$work/err"
	verdict keys__start_without_a_signature $?
	"$eval" sign --key "$work/key.pem" "$root/a1" && "$eval" sign --key "$work/key.pem" --name second "$root/a2" &&
		"$eval" verify --keys "$work/public.pem" "$root/a2" >"$work/out" &&
		! "$eval" verify --keys "$work/public.pem" --name other "$root/a2" 2>"$work/err" &&
		grep -q 'is of an adapter that is called "second"' "$work/err"
	verdict keys__sign_and_verify $?
	# shellcheck disable=SC2086 # two words
	start $keys --adapter-root "$root" && serves first && refuses "is not signed" load third "$root/a3" && unknown third &&
		http 400 "is not signed" load_lora_adapter '{"lora_name":"third","lora_path":"a3"}' &&
		refuses 'called "second"' load third "$root/a2" && adapter load second "$root/a2" && serves second
	verdict keys__signed_ones_alone $?
	cp -r "$root/a1" "$root/more" && : >"$root/more/notes" && refuses "more/notes: is not in" load third "$root/more" &&
		cp -r "$root/a1" "$root/cut" && truncate -s -1 "$root"/cut/*1.safetensors &&
		refuses "heddle-manifest.json says" replace first "$root/cut" && serves first
	verdict keys__not_what_was_signed $?
	cp -r "$root/a1" "$root/flipped" && printf x | dd of="$(echo "$root"/flipped/*1.safetensors)" bs=1 seek=9000 conv=notrunc status=none
	! "$eval" verify --keys "$work/public.pem" "$root/flipped" 2>"$work/err" && grep -q "SHA-256" "$work/err"
	verdict keys__a_changed_byte_is_seen $?
	if [ "$device" = cpu ]; then
		refuses "its SHA-256 is not the one of the manifest" replace first "$root/flipped" && serves first &&
			refuses "SHA-256" load third "$root/flipped" && unknown third && serves second && balanced
		verdict keys__a_changed_byte_is_refused_and_the_old_stays $?
	fi
	kill -TERM "$node"
	wait "$node"
	node=
fi
rm -rf "$work/broken" && cp -r "$root/a1" "$work/broken" && truncate -s -1 "$work/broken"/*1.safetensors
[ "$device" = cpu ] || truncate -s 2G "$work/broken"/*1.safetensors
"$heddled" -c "$work/heddle.yaml" --adapter "broken=$work/broken" >"$work/out" 2>"$work/err"
[ $? = 1 ] && grep -q 'adapter "broken": .*broken' "$work/err" && [ ! -e "$work/run/control" ]
verdict start__a_bad_adapter_is_named $?

suite "adapters_node_$device"
