#!/bin/sh
# Builds liburing from its sources and installs it, for build machines whose packages have
# none or one that is too old, as those of manylinux and musllinux.
#
#   scripts/install-liburing.sh [PREFIX]      default /usr
#
# The commit is pinned: a tag that has moved does not get in. LIBURING_SOURCE names another
# repository to clone from. Needs git, make and a C compiler.
set -eu

prefix=${1:-/usr}
source=${LIBURING_SOURCE:-https://github.com/axboe/liburing}
commit=08468cc3830185c75f9e7edefd88aa01e5c2f8ab # 2.9

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
git clone -q --depth 1 --branch liburing-2.9 "$source" "$folder"
cd "$folder"
found=$(git rev-parse HEAD)
[ "$found" = "$commit" ] || {
    echo "install-liburing: the tag is at $found, not at $commit" >&2
    exit 1
}
./configure --prefix="$prefix" >/dev/null
# The archive as position independent code, too: it is linked into a shared object.
make -s CFLAGS='-O2 -fPIC' install
