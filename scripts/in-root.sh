#!/bin/sh
# Runs a command in a root that python-roots.sh made, in its folder /src:
#
#   scripts/in-root.sh build/roots/3.14 python3.14 -V
#
# The root gets this machine's /proc, /sys and /dev in a mount namespace of its own. That ends
# with the command, however it ends, so that no mount is ever left in the root.
set -eu

if [ "${1-}" != --unshared ]; then
    if [ $# -lt 2 ] || ! [ -d "$1" ]; then
        echo "usage: ${0##*/} ROOT COMMAND ..." >&2
        exit 1
    fi
    exec unshare --mount --propagation private "$0" --unshared "$@"
fi
root=$2
shift 2
for folder in proc sys dev; do
    mount --rbind "/$folder" "$root/$folder"
done
mkdir -p "$root/src"
# What the environment says of this machine's folders does not hold in there.
exec env -u PYTHONPATH -u PYTHONHOME -u VIRTUAL_ENV -u TMPDIR HOME=/root LC_ALL=C.UTF-8 \
    PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin \
    chroot "$root" env -C /src "$@"
