#!/bin/sh
# need_program.sh PROGRAM PACKAGE... - install the packages when the program is missing.
set -eu

program=$1
shift
if ! command -v "$program" >/dev/null; then
    if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
        apt-get update -qq
        apt-get install -y -qq "$@" >/dev/null
    else
        echo "$program is needed; install it (Debian: $*)" >&2
        exit 1
    fi
fi
