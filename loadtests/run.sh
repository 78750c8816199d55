#!/bin/sh
# Headless load test: prepares the data, runs Locust, leaves its reports in build/load.
# Exits with an error when any answer was wrong, recall too low or a limit passed.
# Further arguments go to Locust, e.g. `loadtests/run.sh -t 5m SearchUser`.
set -eu
cd "$(dirname "$0")/.."
out=${VEXFS_LOAD_OUTPUT:-build/load}
mkdir -p "$out"
rm -f "$out"/summary-*.json
export PYTHONPATH="loadtests${PYTHONPATH:+:$PYTHONPATH}"
python loadtests/dataset.py
exec locust -f loadtests/locustfile.py --headless --only-summary \
    --users "${VEXFS_LOAD_USERS:-5}" --spawn-rate 50 --run-time "${VEXFS_LOAD_TIME:-30s}" \
    --stop-timeout 20 --html "$out/report.html" --csv "$out/locust" --json-file "$out/locust" "$@"
