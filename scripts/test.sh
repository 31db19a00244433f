#!/usr/bin/env bash
# test.sh VENV: everything that CI checks, up to the first failure; leaves the user's own folders alone.
# WORKBENCH_TEST_TORCH=0 leaves out what needs PyTorch.
set -euo pipefail
cd "$(dirname "$0")/.."
venv=$1
python=$PWD/$venv/bin/python

scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
export WORKBENCH_HOME=$scratch/workbench WORKBENCH_LOCKS=$scratch/locks
export JUPYTER_CONFIG_DIR=$scratch/config JUPYTER_DATA_DIR=$scratch/data JUPYTER_RUNTIME_DIR=$scratch/runtime
export JUPYTERLAB_SETTINGS_DIR=$scratch/settings JUPYTERLAB_WORKSPACES_DIR=$scratch/workspaces
export IPYTHONDIR=$scratch/ipython MPLCONFIGDIR=$scratch/matplotlib

step() {
    local title=$1
    shift
    printf '\n=== %s\n' "$title"
    "$@" || {
        printf '\n=== FAILED: %s\n' "$title" >&2
        exit 1
    }
}

step "Lint" "$python" -m ruff check .
step "Format" "$python" -m ruff format --check .
step "Types" "$python" -m mypy
step "Compiler for the C++ runner" scripts/ensure_compiler.sh
step "Unit tests" "$python" -m pytest -n 2 tests/unit
without_torch=()
if [ "${WORKBENCH_TEST_TORCH:-1}" = 0 ]; then without_torch=(--ignore notebooks/01_export.ipynb --ignore notebooks/06_time_and_compare.ipynb); fi
step "Notebooks" "$python" -m pytest -p tests.nbval_homes --nbval notebooks --nbval-current-env \
    --nbval-sanitize-with tests/nbval_sanitize.cfg -n 2 --dist loadfile ${without_torch[@]+"${without_torch[@]}"}
CHROMIUM=$(scripts/ensure_chromium.sh "$venv")
export CHROMIUM
step "Browser tests" "$python" -m pytest -p no:nbval tests/browser
printf '\n=== All passed\n'
