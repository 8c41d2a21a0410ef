#!/bin/sh
# Compile the kernels and put the module next to its sources; what is current is left as it is.

set -eu
[ -z "${SCIML_BOUNDS_PURE:-}" ] || exit 0 # everything runs in plain torch operations then
cd "$(dirname "$0")/.."
bin=$(pwd)/.venv/bin
build=build/checkout

fail() {
    cat "$build.log" >&2
    echo "The kernels could not be compiled; the messages above say why." >&2
    exit 1
}

mkdir -p build
PATH="$bin:$PATH"
[ -e "$build/build.ninja" ] || {
    echo "Compiling the kernels (once, about a minute) ..."
    cmake -G Ninja -S . -B "$build" -DPython_EXECUTABLE="$bin/python" \
        -Dnanobind_DIR="$("$bin/python" -m nanobind --cmake_dir)" >"$build.log" 2>&1 || fail
}
cmake --build "$build" >"$build.log" 2>&1 || fail
for module in "$build"/_compiled.*; do
    cmp -s "$module" "sciml_bounds/kernels/${module##*/}" || cp "$module" sciml_bounds/kernels/
done
