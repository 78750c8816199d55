#!/bin/sh
# need_header.sh CC HEADER PACKAGE - install a development package when its header is missing.
# What needs it is left out where it cannot be installed.
set -eu

compiler=$1
header=$2
package=$3

have() {
    echo "#include <$header>" | $compiler -E - >/dev/null 2>&1
}
if ! have && [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
    { apt-get update -qq && apt-get install -y -qq "$package"; } >/dev/null 2>&1 || true
fi
have || echo "no $header: tests go on without it (Debian: $package)"
