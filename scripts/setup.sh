# Sourced by ./check, ./demo and bench/run: makes sure of what the project needs on Debian or Ubuntu.
#
#   need_system PROGRAM ...         compiler, liburing and Python; and these programs
#   need_venv FOLDER PYTHON EXTRA   a virtual environment with the project's dependencies
#   need_build FOLDER               the compiled modules, anew when a source has changed
#   find_python VERSION             prints the interpreter of that version, or fails
#
# Each does nothing when nothing is to be done. POSIX sh; the caller has `set -eu` and is in
# the project's folder. need_system leaves the interpreter to use in $PYTHON, which may also
# be set beforehand.

say() {
    printf '%s\n' "$*"
}

stop() {
    printf '%s: %s\n' "${0##*/}" "$*" >&2
    exit 1
}

# Debian's packages bear the names of the programs.
need_system() {
    missing=
    for program in gcc pkg-config python3 "$@"; do
        command -v "$program" >/dev/null 2>&1 || missing="${missing:+$missing }$program"
    done
    has_liburing || missing="${missing:+$missing }liburing-dev libc6-dev"
    [ -z "$missing" ] || install_packages "$missing"
    has_liburing || stop "liburing 2.3 or newer is needed; this distribution has an older one"
    PYTHON=$(real_python "${PYTHON:-python3}") || stop "python3 does not run"
    is_supported "$PYTHON" || stop "Python 3.10 or newer is needed; $PYTHON is older"
    need_python "$PYTHON" || exit 1
}

has_liburing() {
    command -v pkg-config >/dev/null 2>&1 && pkg-config --exists 'liburing >= 2.3'
}

# The interpreter itself, behind the shims of a version manager.
real_python() {
    "$1" -c 'import sys; print(sys.executable)' 2>/dev/null
}

is_supported() {
    "$1" -c 'import sys; sys.exit(sys.version_info < (3, 10))'
}

minor_version() {
    "$1" -c 'import sys; print("%d.%d" % sys.version_info[:2])'
}

# The newest installed Python of that minor version, from PATH or pyenv.
find_python() {
    pyenv_versions=${PYENV_ROOT:-$HOME/.pyenv}/versions
    for candidate in "python$1" $(newest_first "$pyenv_versions/$1".*/bin/python); do
        python=$(real_python "$candidate") || continue
        [ "$(minor_version "$python")" != "$1" ] || {
            echo "$python"
            return 0
        }
    done
    return 1
}

newest_first() {
    printf '%s\n' "$@" | sort -rV
}

# need_python PYTHON: its headers, venv, and its own test-suite. Status 1 if not to be had.
need_python() {
    lacks=$(packages_lacking "$1")
    [ -z "$lacks" ] || install_packages "$lacks"
}

# Debian splits Python into packages; other builds have everything.
packages_lacking() {
    "$1" - <<'PROGRAM'
import importlib.util as util, os, sys, sysconfig

name = "python%d.%d" % sys.version_info[:2]
header = os.path.join(sysconfig.get_path("include"), "Python.h")
lacks = [] if os.path.exists(header) else [f"{name}-dev"]
if not util.find_spec("venv") or not util.find_spec("ensurepip"):
    lacks.append(f"{name}-venv")
if not util.find_spec("test") or not util.find_spec("test.test_asyncio"):
    lacks.append(f"lib{name}-testsuite")
print(*lacks)
PROGRAM
}

# install_packages "PACKAGE ...": as root or by sudo; else says what to run.
install_packages() {
    say "installing: $1"
    if [ "$(id -u)" -eq 0 ]; then
        as_root=
    elif command -v sudo >/dev/null 2>&1 && sudo -n true 2>/dev/null; then
        as_root=sudo
    else
        say "not allowed to install packages; run this, then ${0##*/} again:" >&2
        say "    sudo apt-get update && sudo apt-get install -y $1" >&2
        return 1
    fi
    command -v apt-get >/dev/null 2>&1 || stop "no apt-get here; install by hand: $1"
    $as_root apt-get update -q >/dev/null </dev/null
    # shellcheck disable=SC2086  # a list of packages
    $as_root env DEBIAN_FRONTEND=noninteractive \
        apt-get install -y -q --no-install-recommends $1 >/dev/null </dev/null
}

# EXTRA is test, dev, bench or frameworks, as in pyproject.toml, or several with commas between.
need_venv() {
    # The settings of tools, at the end of the file, install nothing.
    stamp="$3 $2 $("$2" -V) $(sed '/^\[tool\./,$d' pyproject.toml | cksum)"
    [ "$(cat "$1/stamp-dependencies" 2>/dev/null)" != "$stamp" ] || return 0
    say "setting up $1 ($("$2" -V))"
    rm -rf "$1"
    if ! {
        "$2" -m venv "$1" &&
            pip_install "$1" --upgrade 'pip>=24' &&
            pip_install "$1" 'setuptools>=77' 'cffi>=1.16' 'Cython>=3.1' &&
            pip_install "$1" --no-build-isolation --editable ".[$3]"
    }; then
        stop "$1 could not be set up"
    fi
    source_stamp >"$1/stamp-build"
    printf '%s\n' "$stamp" >"$1/stamp-dependencies"
}

pip_install() {
    venv=$1
    shift
    "$venv/bin/python" -m pip install -qq --disable-pip-version-check "$@" </dev/null
}

need_build() {
    [ "$(cat "$1/stamp-build" 2>/dev/null)" != "$(source_stamp)" ] || return 0
    say "building for $1"
    rm -f "$1/stamp-build"
    "$1/bin/python" setup.py -q build_ext --inplace || stop "the build failed"
    source_stamp >"$1/stamp-build"
}

# What the compiled modules are made of, and that they are there.
source_stamp() {
    find setup.py build_ffi.py uringloop -type f \
        \( -name '*.py' -o -name '*.pyx' -o -name '*.pxd' -o -name '*.[ch]' \) \
        -exec cksum {} + | sort
    ls uringloop/driver/_engine*.so 2>/dev/null || :
}
