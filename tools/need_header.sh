#!/bin/sh
# need_header.sh CC HEADER PACKAGE - install a development package when its header is missing.
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
have || {
    echo "$header is needed by the C tests; install it (Debian: $package)" >&2
    exit 1
}
