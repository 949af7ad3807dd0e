#!/bin/sh
# setup.sh - install the Debian packages that are missing (package names -> apt)
# SPDX-License-Identifier: Apache-2.0
# usage: tools/setup.sh build|check
# build: what it takes to build and run; check: also compilers, linters, tests.
set -eu
build="gcc libc6-dev make pkg-config libjansson-dev liburing-dev
	libpcre2-dev libutf8proc-dev libssl-dev libyaml-dev libdpdk-dev"
check="clang clang-format clang-tidy cppcheck libclang-rt-14-dev libcunit1-dev
	git xz-utils liblwip-dev python3 python3-venv curl procps iproute2
	ethtool"
case ${1:-} in
build) wanted=$build ;;
check) wanted="$build $check" ;;
*)
	echo "usage: tools/setup.sh build|check" >&2
	exit 2
	;;
esac
missing=
for package in $wanted; do
	state=$(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null || :)
	[ "$state" = installed ] || missing="$missing $package"
done
[ -n "$missing" ] || exit 0
as_root=
if [ "$(id -u)" != 0 ]; then
	command -v sudo >/dev/null || {
		echo "setup: needs root or sudo to install:$missing" >&2
		exit 1
	}
	as_root=sudo
fi
echo "setup: installing:$missing"
export DEBIAN_FRONTEND=noninteractive
$as_root apt-get update -qq
# shellcheck disable=SC2086 # a list of names
$as_root apt-get install -y -qq --no-install-recommends $missing >/dev/null
