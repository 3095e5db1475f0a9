#!/bin/sh
# Builds liburing from its sources and installs its archive and headers, for build machines whose
# packages have none or one that is too old, as those of manylinux and musllinux.
#
#   scripts/install-liburing.sh [PREFIX]      default /usr/local, where the pkg-config of both looks
#
# The commit is pinned: a tag that has moved does not get in. LIBURING_SOURCE names another
# repository to clone from, CC and AR other tools. Needs git, make and a C compiler.
set -eu

prefix=${1:-/usr/local}
source=${LIBURING_SOURCE:-https://github.com/axboe/liburing}
commit=08468cc3830185c75f9e7edefd88aa01e5c2f8ab # 2.9

# Alpine's C library comes without the kernel's headers.
! command -v apk >/dev/null 2>&1 || apk add -q --no-cache linux-headers

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
git -c advice.detachedHead=false clone -q --depth 1 --branch liburing-2.9 "$source" "$folder"
cd "$folder"
found=$(git rev-parse HEAD)
[ "$found" = "$commit" ] || {
    echo "install-liburing: the tag is at $found, not at $commit" >&2
    exit 1
}
# Its --prefix needs a realpath that busybox, and so Alpine, does not have.
./configure >/dev/null
# The archive as position independent code, too: it is linked into a shared object.
make -s CFLAGS='-O2 -fPIC' ENABLE_SHARED=0 prefix="$prefix" includedir="$prefix/include" \
    libdir="$prefix/lib" libdevdir="$prefix/lib" mandir="$prefix/share/man" install
