#!/usr/bin/env bash
# Trains with two processes of this machine that hold each other for two machines: for trying out
# a setup, not for speed. Takes the flags of train.py:
#
#   deploy/two_workers.sh --config_file=demo --model_dir=/tmp/two --params_override=...
#
# The output of each line is marked with its worker. PORTS="5001 5002" chooses the ports.
set -uo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

read -r first second <<<"${PORTS:-$(python -c '
import socket
sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(2)]
print(*(found.getsockname()[1] for found in sockets))')}"
hosts="127.0.0.1:$first,127.0.0.1:$second"

pids=()
trap 'kill -TERM "${pids[@]}" 2>/dev/null' INT TERM
for index in 0 1; do
    TF_CONFIG=$(python deploy/tf_config.py --workers="$hosts" --index="$index") \
        python train.py "$@" > >(sed -u "s/^/[$index] /") 2>&1 &
    pids+=($!)
done
status=0
for pid in "${pids[@]}"; do
    wait "$pid" || status=$?
done
exit "$status"
