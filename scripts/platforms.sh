#!/bin/sh
# Compiles the engine for what wheels are made for and this machine is not, warnings being errors,
# and carries a message over it:
#
#   scripts/platforms.sh                          the three that there are
#   scripts/platforms.sh x86_64-glibc-2.28        the C library of manylinux_2_28, by Zig's compiler
#   scripts/platforms.sh x86_64-musl              that of musllinux, by musl-gcc
#   scripts/platforms.sh aarch64-glibc            the other machine, by gcc
#
# No Python is involved: it is for what another C library or machine lacks. Zig comes from PyPI,
# the other compilers are Debian's, and to install them needs root. liburing is compiled as on the
# build machines of wheels, by scripts/install-liburing.sh, which heeds LIBURING_SOURCE. What is for
# an aarch64 runs in the emulator of qemu-user, which has no io_uring. All of it is in
# build/platforms.
#
# A line for each engine. Exit status: 0 all carried the message, 1 something failed.
set -eu
case $0 in */*) cd "${0%/*}/.." ;; esac
. scripts/setup.sh

FOLDER=$PWD/build/platforms
ENGINE=uringloop/driver/engine

main() {
    [ "$(uname -m)" = x86_64 ] || stop "runs on an x86_64, and this is a $(uname -m)"
    [ $# -gt 0 ] || set -- x86_64-glibc-2.28 x86_64-musl aarch64-glibc
    verdict=0
    for platform in "$@"; do
        ar='ar'
        emulator=
        case $platform in
        x86_64-glibc-2.28) use_zig ;;
        x86_64-musl) use_musl ;;
        aarch64-glibc) use_aarch64 ;;
        *) stop "usage: ${0##*/} [x86_64-glibc-2.28] [x86_64-musl] [aarch64-glibc]" ;;
        esac
        compile && carry || verdict=1
    done
    exit "$verdict"
}

# liburing asks nothing of a C library, and is gcc's here: Zig has no headers without its libraries.
use_zig() {
    # shellcheck disable=SC2119  # no programs besides
    need_system
    zig=$FOLDER/zig/bin/python
    "$zig" -m ziglang version >/dev/null 2>&1 || {
        "$PYTHON" -m venv "$FOLDER/zig"
        pip_install "$FOLDER/zig" ziglang
    }
    export ZIG_GLOBAL_CACHE_DIR="$FOLDER/zig/cache" ZIG_LOCAL_CACHE_DIR="$FOLDER/zig/cache"
    compiler="$zig -m ziglang cc -target x86_64-linux-gnu.2.28"
    liburing_compiler=gcc
}

# musl comes without the kernel's headers; they are those of the machine.
use_musl() {
    need_program musl-gcc musl-tools
    need_program gcc "gcc libc6-dev"
    headers=$FOLDER/kernel-headers
    mkdir -p "$headers"
    ln -sfn /usr/include/linux /usr/include/asm-generic "/usr/include/$(gcc -print-multiarch)/asm" \
        "$headers"
    compiler="musl-gcc -static -isystem $headers"
    liburing_compiler=$compiler
}

use_aarch64() {
    need_program aarch64-linux-gnu-gcc "gcc-aarch64-linux-gnu libc6-dev-arm64-cross"
    need_program qemu-aarch64 qemu-user
    compiler=aarch64-linux-gnu-gcc
    liburing_compiler=$compiler
    ar=aarch64-linux-gnu-ar
    emulator='qemu-aarch64 -L /usr/aarch64-linux-gnu'
}

need_program() {
    command -v "$1" >/dev/null 2>&1 || install_packages "$2" || exit 1
}

# The program as $folder/carry, with the warnings that build_ffi.py asks for.
compile() {
    folder=$FOLDER/$platform
    [ -e "$folder/lib/liburing.a" ] ||
        CC=$liburing_compiler AR=$ar sh scripts/install-liburing.sh "$folder" || return 1
    # shellcheck disable=SC2086  # a command and its arguments
    $compiler -std=gnu11 -O2 -Wall -Wextra -Werror -fvisibility=hidden -I"$ENGINE" \
        -I"$folder/include" "$ENGINE"/*.c tests/platforms/carry.c "$folder/lib/liburing.a" \
        -pthread -o "$folder/carry"
}

carry() {
    status=0
    answer=$($emulator "$folder/carry") || status=1
    printf '%s\n' "$answer" | sed "s/^/$platform: /"
    return "$status"
}

main "$@"
