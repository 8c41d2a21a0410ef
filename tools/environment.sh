#!/bin/sh
# Make .venv ready for use: environment.sh [EXTRA...]
#
# The package is installed editable with the named extras, under constraints.txt. Each extra leaves a stamp, a checksum of
# what the installation depends on; while the stamps fit, nothing is done. A stamp is removed before the installation and
# written after it, so a failed one is repeated.

set -eu
cd "$(dirname "$0")/.."
venv=.venv
extras=$*

fail() {
    echo "$1" >&2
    exit 1
}

# A name on the PATH proves nothing (it may be a shim, or lack venv), so each one is run.
new_enough='import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 12))'

find_python() {
    for name in python3.12 python3.13 python3.14 python3 python; do
        if "$name" -c "$new_enough" >/dev/null 2>&1; then
            echo "$name"
            return
        fi
    done
}

checksum() {
    { pwd && cat pyproject.toml constraints.txt; } | cksum
}

is_current() {
    "$venv/bin/python" -c "$new_enough" >/dev/null 2>&1 || return 1
    for extra in core $extras; do
        [ "$(cat "$venv/stamps/$extra" 2>/dev/null)" = "$(checksum)" ] || return 1
    done
}

is_current && exit 0

if ! "$venv/bin/python" -c "$new_enough" >/dev/null 2>&1; then
    python=$(find_python)
    [ -n "$python" ] || fail "Python 3.12 or newer (with its venv module) is needed, and none was found on the PATH."
    "$python" -m venv --clear "$venv" || fail "No virtual environment could be made in $venv."
fi

# Looked for before minutes of installation, not after them.
have_compiler() {
    [ -z "${SCIML_BOUNDS_PURE:-}${CXX:-}" ] || return 0
    for name in c++ g++ clang++; do
        ! command -v "$name" >/dev/null 2>&1 || return 0
    done
    return 1
}
have_compiler || fail "A C++17 compiler is needed and none was found: install one (g++ or clang), or set SCIML_BOUNDS_PURE=1 to go without compiled kernels, which is much slower."

wanted=$(echo "$extras" | tr ' ' ',')
echo "Installing sciml-bounds${wanted:+[$wanted]} into $venv (the first time this takes a few minutes) ..."
mkdir -p "$venv/stamps"
for extra in core $extras; do rm -f "$venv/stamps/$extra"; done
"$venv/bin/python" -m pip install -qq --disable-pip-version-check --constraint constraints.txt cmake nanobind ninja \
    --editable ".${wanted:+[$wanted]}" || fail "The installation failed; the messages above say why."
# The editable installation comes with an import hook that outranks PYTHONPATH, by which another copy of the package is
# chosen (`make wheel`): the line that loads the hook goes, the one that names this folder stays.
for link in "$venv"/lib/python*/site-packages/_editable_skbc_sciml_bounds.pth; do
    [ -e "$link" ] || continue
    grep -v "^import " "$link" >"$link.new" && mv "$link.new" "$link"
done
for extra in core $extras; do checksum >"$venv/stamps/$extra"; done
