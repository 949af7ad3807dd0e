#!/bin/sh
# check-layers.sh - fail when a folder includes what it may not (sources -> verdict)
# SPDX-License-Identifier: Apache-2.0
# The allowed edges are docs/ARCHITECTURE.md's; tests may see everything.
set -eu
cd "${1:-.}"
allowed() {
	case $1 in
	base) echo base ;;
	memmgr) echo base memmgr ;;
	gpu) echo base memmgr gpu ;;
	engine) echo base memmgr gpu engine ;;
	dataplane) echo base dataplane ;;
	control) echo base memmgr gpu engine dataplane control ;;
	esac
}
bad=0
for folder in base memmgr gpu engine dataplane control; do
	[ -d "$folder" ] || continue
	for edge in $(grep -rhoE '^#[[:space:]]*include "[a-z_]+/' \
		--include='*.[ch]' --include='*.cu' --include='*.cuh' "$folder" |
		sed -E 's/.*"([a-z_]+)\/.*/\1/' | sort -u); do
		case " $(allowed "$folder") " in
		*" $edge "*) ;;
		*)
			echo "check-layers: $folder/ may not include $edge/:" >&2
			grep -rnE "^#[[:space:]]*include \"$edge/" "$folder" >&2
			bad=1
			;;
		esac
	done
done
[ "$bad" = 0 ] && echo "check-layers: arrows go one way"
exit "$bad"
