#!/usr/bin/env bash
# make_venv.sh DIR [PYTHON]: makes the virtual environment DIR, unless a working one is there.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
dir=$1
wanted=${2:-}

usable() { # A Python from 3.10 to 3.13 with the modules named after it.
    "$1" -c "import sys, $2; sys.exit(not (3, 10) <= sys.version_info[:2] <= (3, 13))" 2>/dev/null
}

find_python() {
    local candidate
    for candidate in ${wanted:-python3 python3.12 python3.11 python3.10 python3.13}; do
        if usable "$candidate" "venv, ensurepip"; then
            echo "$candidate"
            return
        fi
    done
    return 1
}

if [ -x "$dir/bin/python" ] && usable "$dir/bin/python" pip; then
    exit 0
fi
if ! python=$(find_python); then
    if command -v "${wanted:-apt-get}" >/dev/null; then "$here/apt_install.sh" python3-venv || true; fi
    if ! python=$(find_python); then
        echo "No ${wanted:-Python from 3.10 to 3.13} that can make virtual environments: install Python 3.12" \
            "(Debian, Ubuntu: apt-get install python3-venv), or name one with PYTHON=/path/to/python." >&2
        exit 1
    fi
fi
echo "Making $dir with $("$python" --version)"
rm -rf "$dir"
"$python" -m venv "$dir"
