#!/bin/bash
# soak_adapters.sh - adapters come and go under traffic; nothing may be left
# SPDX-License-Identifier: Apache-2.0
# usage: tests/soak_adapters.sh BUILD [SECONDS]   (ends with the line that
# run.sh reads)
# The bundled model computes on two ranks, whose pool holds fewer adapters than
# are asked for at times; adapters are signed, and the node has the key.
set -u
build=$1 seconds=${2:-60}
. tests/run_node.sh
. tests/verdict.sh
shown="log client"
# AddressSanitizer keeps what was freed, by default 256 MB of it; its own free
# lists and shadow still grow by 9 MiB in the first 20 s, and then ever less.
export ASAN_OPTIONS="${ASAN_OPTIONS:+$ASAN_OPTIONS:}quarantine_size_mb=1"
growth_max_kib=8192
case $build in *asan*) growth_max_kib=16384 ;; esac
base=deploy/demo/model root="$work/with blanks"
mkdir "$root"
signs=()
if command -v openssl >/dev/null; then
	openssl genpkey -algorithm ed25519 -out "$work/key.pem" 2>/dev/null
	openssl pkey -in "$work/key.pem" -pubout -out "$work/public.pem"
	signs=(--adapter-keys "$work/public.pem")
fi
sign() { # DIRECTORY
	[ ${#signs[@]} = 0 ] || "$build/heddle-eval" sign --key "$work/key.pem" "$1"
}
for i in 0 1 2 3; do
	"$build/tests/make_adapter" "$base" $((10 + i)) bf16 "$root/s$i" &&
		sign "$root/s$i" || exit 1
done
# Signed, and then changed; or, where nobody signs, cut off.
cp -r "$root/s0" "$root/broken"
for file in "$root"/broken/*.safetensors; do
	if [ ${#signs[@]} = 0 ]; then
		truncate -s -1 "$file"
	else
		printf x | dd of="$file" bs=1 seek=20000 conv=notrunc status=none
	fi
done
run_node soak_adapters --model "$base" --name base --device cpu,cpu \
	--context 1024 --cpu-sequences 8 --cpu-threads 1 --pool-bytes 24MiB \
	--slots 64 --pages 4096 --connections 64 --stall-timeout 20s \
	"${signs[@]}"
front=$(pid_of dataplane) ranks="$(pid_of rank0) $(pid_of rank1)"
files() { find "/proc/$1/fd" -mindepth 1 | wc -l; }
all_files() { for process in "$node" $front $ranks; do files "$process"; done | xargs; }
resident_kib() {
	for process in $node $front $ranks; do
		cat "/proc/$process/status"
	done | awk '/^RssAnon/ { sum += $2 } END { print sum }'
}
seed=${SEED:-$RANDOM}
echo "  $seconds s, seed $seed"
# Once round, so that pools and arenas are as large as they get.
python3 -B tests/soak_adapters.py "$api" "$control" "$root" \
	"$((seconds / 6 + 5))" "$seed" warm >"$work/client" 2>&1
verdict "soak_adapters warm" $?
warm_kib=$(resident_kib) warm_files=$(all_files)
python3 -B tests/soak_adapters.py "$api" "$control" "$root" "$seconds" \
	$((seed + 1)) >"$work/client" 2>&1
verdict "soak_adapters every answer was its adapter's, to the bit" $?
tail -n 1 "$work/client"
# What was cancelled last is on its way out.
for _ in $(seq 100); do
	[ "$(metric heddle_request_slots_used)" = 0 ] && break
	sleep 0.1
done
for name in heddle_request_slots_used heddle_payload_pages_used \
	vllm:num_requests_running vllm:num_requests_waiting \
	heddle_bad_messages_total; do
	[ "$(metric "$name")" = 0 ]
	verdict "soak_adapters $name is 0" $?
done
for _ in $(seq 100); do
	[ "$(all_files)" = "$warm_files" ] && break
	sleep 0.1
done
[ "$(all_files)" = "$warm_files" ]
verdict "soak_adapters no descriptor is left ($warm_files; $(all_files))" $?
[ -n "$front" ] && [ "$(pid_of dataplane)" = "$front" ] &&
	[ "$(pid_of rank0) $(pid_of rank1)" = "$ranks" ]
verdict "soak_adapters nobody died" $?
end_kib=$(resident_kib)
[ "$warm_kib" -gt 0 ] && [ "$end_kib" -le $((warm_kib + growth_max_kib)) ]
verdict "soak_adapters memory has not grown ($warm_kib, then $end_kib KiB)" $?
stop_node
verdict "soak_adapters it ends as told" $?
suite soak_adapters
