#!/bin/sh
# make_venv.sh PYTHON FOLDER - make a virtual environment, also where Debian left ensurepip out.
set -eu

python=$1
folder=$2

"$python" -c 'import sys; sys.exit(sys.version_info < (3, 10))' || {
    echo "vexfs_chroma needs Python 3.10 or later; set PYTHON=python3.x" >&2
    exit 1
}
if ! "$python" -c 'import ensurepip, venv' 2>/dev/null; then
    version=$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')
    if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
        apt-get update -qq
        apt-get install -y -qq "python$version-venv" "python$version-dev" >/dev/null
    else
        echo "$python has no venv module; install python$version-venv" >&2
        exit 1
    fi
fi
"$python" -m venv "$folder"
