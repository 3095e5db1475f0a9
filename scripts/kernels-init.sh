# The first program of a machine that kernels.sh boots: prepares what a distribution would,
# runs the tests, and ends the machine. What kernels.sh wants to know it says in lines of its
# own: `kernels: kernel VERSION` and, when the tests have ended, `kernels: status NUMBER`.
#
# kernels.sh puts before it which shell runs it, and the variables tree, python and tests.

/busybox mkdir -p /applets /proc /sys /dev /tmp /etc /root /bin
/busybox mount -t proc proc /proc
/busybox --install -s /applets
export PATH=/applets HOME=/root LC_ALL=C.UTF-8 TERM=dumb
mount -t sysfs sysfs /sys
mount -t devtmpfs devtmpfs /dev
mkdir -p /dev/shm
mount -t tmpfs tmpfs /dev/shm
# Not a mount: the tree may be below it.
chmod 1777 /tmp
[ -e /bin/sh ] || ln -s /busybox /bin/sh
echo '127.0.0.1 localhost' >/etc/hosts
ip link set lo up

cd "$tree"
echo "kernels: kernel $(uname -r)"
# Its status says whether it has advice, as on an older kernel.
"$python" -m uringloop doctor || :
# An emulated machine is some twenty times as slow.
# shellcheck disable=SC2086  # a list of paths and options
"$python" -m pytest -v -p no:cacheprovider -p no:xdist -o timeout=600 $tests
echo "kernels: status $?"
poweroff -f
