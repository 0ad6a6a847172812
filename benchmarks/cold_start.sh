#!/usr/bin/env bash
# From an empty virtual environment to the first prediction from an export made elsewhere: once
# with this project and a video file, once with TensorFlow alone and frames of no content. Prints
# seconds and disk.
#
#   benchmarks/cold_start.sh EXPORT VIDEO
#
# PYTHON=python3.12 takes another Python. The time of `pip install` is mostly that of downloading,
# or of unpacking where pip has the packages in its cache.
set -euo pipefail
if [ $# != 2 ]; then
    sed -n '2,9s/^# \{0,1\}//p' "$0" >&2
    exit 2
fi
export_directory=$(realpath "$1") video=$(realpath "$2")
source=$(realpath "$(dirname "${BASH_SOURCE[0]}")/..")
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"

row() { printf '| %s | %s | %s | %s |\n' "$@"; }
timed() {  # Sets `seconds` to what a command takes; shows its output only if it fails.
    local start=$EPOCHREALTIME
    "$@" >output 2>&1 || { cat output >&2; exit 1; }
    seconds=$(awk "BEGIN { printf \"%.1f\", $EPOCHREALTIME - $start }")
}
megabytes() { du -sm "$1" | cut -f1; }

row environment step seconds 'MB on disk'
row --- --- --- ---
"${PYTHON:-python3.11}" -m venv project
timed project/bin/python -m pip install "$source"
row 'this project' 'pip install' "$seconds" "$(megabytes project)"
for which in first second; do
    timed project/bin/mvit predict "$export_directory" "$video"
    row 'this project' "$which mvit predict" "$seconds" ''
done

version=$(find "$export_directory" -name saved_model.pb -printf '%h\n' | sort -V | tail -n 1)
cat >client.py <<'PYTHON'
import sys
import tensorflow as tf

serve = tf.saved_model.load(sys.argv[1]).signatures["serving_default"]
((name, spec),) = serve.structured_input_signature[1].items()
sizes = [1, 16, 240, 320, 3] if name == "frames" else [1, 240, 320, 3]
print(serve(**{name: tf.zeros(sizes, spec.dtype)})["probabilities"].shape)
PYTHON
"${PYTHON:-python3.11}" -m venv alone
tensorflow=$(project/bin/python -c 'import importlib.metadata as m; print(m.version("tensorflow"))')
timed alone/bin/python -m pip install "tensorflow==$tensorflow"
row 'TensorFlow alone' 'pip install' "$seconds" "$(megabytes alone)"
for which in first second; do
    timed alone/bin/python client.py "$version"
    row 'TensorFlow alone' "$which prediction" "$seconds" ''
done
row 'the export' '' '' "$(megabytes "$version")"
