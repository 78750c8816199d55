#!/bin/sh
# need_arm_library.sh LIBRARY PACKAGE - install the 64-bit ARM build of a library when the cross
# compiler does not find it.
set -eu

library=$1
package=$2

have() {
    echo 'int main(void) { return 0; }' |
        aarch64-linux-gnu-gcc -x c - -o /dev/null "-l$library" >/dev/null 2>&1
}
if ! have && [ "$(id -u)" = 0 ] && command -v dpkg >/dev/null; then
    { dpkg --add-architecture arm64 && apt-get update -qq &&
        apt-get install -y -qq "$package:arm64"; } >/dev/null 2>&1 || true
fi
have || {
    echo "lib$library for 64-bit ARM is needed; install it (Debian: $package:arm64)" >&2
    exit 1
}
