#!/bin/bash
# dataplane.sh - heddle-bench dataplane in a network of its own (-> table, JSON)
# SPDX-License-Identifier: Apache-2.0
# usage: tools/bench/dataplane.sh BUILD JSON [OPTION...]
# A veth pair in a namespace that takes no privilege where user namespaces are
# allowed: at one end the kernel's sockets (10.9.0.2) or DPDK's af_packet
# (10.9.0.3), at the other the client's packet socket. One segment is one frame:
# what a card would cut, nobody cuts here.
set -eu
if [ -z "${HEDDLE_BENCH_INSIDE:-}" ]; then
	HEDDLE_BENCH_INSIDE=1 exec unshare -Urn "$0" "$@"
fi
build=$1 json=$2
shift 2
mkdir -p "$(dirname "$json")"
model=$(mktemp -d)
trap 'rm -rf "$model"' EXIT
tools/bench/frontend-model.sh "$model"
ip link set lo up
ip link add nic0 type veth peer name wire0
for end in nic0 wire0; do
	echo 1 >/proc/sys/net/ipv6/conf/$end/disable_ipv6
	ethtool -K $end tso off gso off gro off >/dev/null 2>&1 || :
done
ip addr add 10.9.0.2/16 dev nic0
ip link set nic0 up
ip link set wire0 up
"$build/heddle-bench" dataplane --model "$model" --veth nic0,wire0 \
	--json "$json" "$@"
