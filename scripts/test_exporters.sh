#!/usr/bin/env bash
# test_exporters.sh VENV: exports real models of Paddle and TensorFlow with their own converters. The converters'
# environments (about 3 GB) are made on the first call, in WORKBENCH_EXPORTERS_HOME or .venv-exporters, and kept.
set -euo pipefail
cd "$(dirname "$0")/.."
venv=$1
export WORKBENCH_EXPORTERS_HOME=${WORKBENCH_EXPORTERS_HOME:-$PWD/.venv-exporters}
exec "$PWD/$venv/bin/python" -m pytest -p no:nbval tests/exporters
