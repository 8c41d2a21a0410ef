#!/bin/sh
# Make .venv-peers ready for use: the package with others that it is compared with, which pin what ours does not, and
# those of the extra `peers`.
#
# the-well asks for one version of fsspec, and neuraloperator for some forty packages: neither belongs in .venv. Where a
# version is not theirs to choose, it is that of constraints.txt. The environment is made anew if what it depends on
# changes.

set -eu
cd "$(dirname "$0")/.."
venv=.venv-peers
peers="the-well==1.2.0 neuraloperator==2.0.0 wandb requests tensorly tensorly-torch"

fail() {
    echo "$1" >&2
    exit 1
}

# A name on the PATH proves nothing (it may be a shim, or lack venv), so each one is run.
find_python() {
    for name in python3.12 python3.13 python3 python; do
        if "$name" -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 12))' >/dev/null 2>&1; then
            echo "$name"
            return
        fi
    done
}

checksum() {
    { pwd && cat pyproject.toml constraints.txt tools/peers.sh; } | cksum
}

if "$venv/bin/python" -c "" >/dev/null 2>&1 && [ "$(cat "$venv/stamp" 2>/dev/null)" = "$(checksum)" ]; then exit 0; fi

python=$(find_python)
[ -n "$python" ] || fail "Python 3.12 or newer (with its venv module) is needed, and none was found on the PATH."
echo "Installing sciml-bounds and its peers into $venv (this takes some minutes) ..."
"$python" -m venv --clear "$venv" || fail "No virtual environment could be made in $venv."
grep -v '^fsspec==' constraints.txt >"$venv/constraints.txt"
# shellcheck disable=SC2086 # one word a package
"$venv/bin/python" -m pip install -qq --disable-pip-version-check --constraint "$venv/constraints.txt" \
    --editable ".[peers]" pytest hypothesis netCDF4 $peers || fail "The installation failed; the messages above say why."
checksum >"$venv/stamp"
