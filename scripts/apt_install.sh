#!/usr/bin/env bash
# apt_install.sh PACKAGE...: installs Debian packages where this user may without a password; fails quietly elsewhere.
set -euo pipefail

command -v apt-get >/dev/null || exit 1
as_root=env
if [ "$(id -u)" -ne 0 ]; then
    sudo -n true 2>/dev/null || exit 1
    as_root="sudo -n env"
fi
echo "Installing with apt-get: $*" >&2
$as_root DEBIAN_FRONTEND=noninteractive apt-get update -qq >/dev/null
$as_root DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$@" >/dev/null
