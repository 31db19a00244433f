#!/usr/bin/env bash
# ensure_compiler.sh: installs what compiles the C++ runner of a hand-over, unless it is there: a compiler, CMake, make.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)

missing() { # The Debian packages of what is not there.
    command -v "${CXX:-g++}" >/dev/null || echo g++
    command -v cmake >/dev/null || echo cmake
    command -v make >/dev/null || echo make
}

packages=$(missing)
# shellcheck disable=SC2086  # one word for each package
[ -z "$packages" ] || "$here/apt_install.sh" $packages || true
packages=$(missing | tr '\n' ' ')
if [ -n "$packages" ]; then
    echo "The tests of the C++ runner need ${packages% }: install them (Debian: apt-get install ${packages% })." >&2
    exit 1
fi
