#!/usr/bin/env bash
# Writes requirements.lock (runtime) and requirements-dev.lock (runtime and tests) from pyproject.toml, each one file
# for every Python and system. Pins that still fit stay, unless UPGRADE is set.
set -euo pipefail
cd "$(dirname "$0")/.."

tools=$(mktemp -d)
trap 'rm -rf "$tools"' EXIT
scripts/make_venv.sh "$tools/venv"
"$tools/venv/bin/python" -m pip install --quiet --disable-pip-version-check "uv>=0.13"

compile() {
    "$tools/venv/bin/uv" pip compile pyproject.toml "$@" --quiet --no-config --no-python-downloads \
        --universal --python-version 3.10 --no-annotate --custom-compile-command "make lock" >/dev/null
}
compile --extra dev ${UPGRADE:+--upgrade} --output-file requirements-dev.lock
compile --constraints requirements-dev.lock --output-file requirements.lock
