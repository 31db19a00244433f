#!/usr/bin/env bash
# ensure_chromium.sh VENV: prints the path of a Chromium that runs headless, after installing one where there is none.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
venv=$1
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

runs_headless() { # Ubuntu's chromium-browser is often a stub that only asks for a snap.
    local limit=""
    if command -v timeout >/dev/null; then limit="timeout 60"; fi
    $limit "$1" --headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking \
        --disable-component-update --disable-sync --user-data-dir="$scratch" --dump-dom about:blank 2>/dev/null |
        grep -q '<html>'
}

find_chromium() {
    local candidate path
    for candidate in "${CHROMIUM:-}" chromium chromium-browser google-chrome google-chrome-stable \
        "/Applications/Google Chrome.app/Contents/MacOS/Google Chrome" "$(playwright_chromium)"; do
        if path=$(command -v "$candidate") && runs_headless "$path"; then
            echo "$path"
            return
        fi
    done
    return 1
}

playwright_chromium() {
    "$venv/bin/python" -c "from playwright.sync_api import sync_playwright as start
with start() as playwright: print(playwright.chromium.executable_path)" 2>/dev/null
}

install_playwright_chromium() {
    local with_deps=""
    if [ "$(id -u)" -eq 0 ] || sudo -n true 2>/dev/null; then with_deps=--with-deps; fi
    "$venv/bin/python" -m playwright install $with_deps chromium >&2
}

# Playwright's own Node.js needs libatomic, which a bare Debian lacks.
"$venv/bin/python" -m playwright --version &>/dev/null || "$here/apt_install.sh" libatomic1 || true

find_chromium && exit
"$here/apt_install.sh" chromium fonts-liberation fonts-dejavu-core && find_chromium && exit
install_playwright_chromium && find_chromium && exit
echo "The browser tests need Chromium: install it (Debian: apt-get install chromium), or name one with CHROMIUM=/path/to/it." >&2
exit 1
