#!/bin/sh
# Builds the image of the Dockerfile without Docker and tries it, on Debian or Ubuntu:
#
#   scripts/container.sh                without the stage `check`
#   scripts/container.sh --check        with it, as `docker build` does: its tests take long
#   scripts/container.sh --bootstrap    on base images that debootstrap makes, with Debian's own
#                                       Python, where no registry can be reached
#
# buildah builds, under podman's default profile, which denies io_uring. Then podman runs the image
# under that one and under each of docker/: what `doctor` says, and bytes through the proxy. A
# line for each. Exit status: 0 all is as it should be, 1 something is not.
#
# Needs root. Containers share the host's network and are in no cgroup, so that this also works
# inside of a container. All of it is kept in $STORAGE.
set -eu
case $0 in */*) cd "${0%/*}/.." ;; esac
. scripts/setup.sh
. scripts/debian.sh

STORAGE=${STORAGE:-$PWD/build/containers}
IMAGE=localhost/uringloop
DEBIAN=docker.io/library/debian:trixie-slim
PYTHON_BASE=docker.io/library/python:3.13-slim-trixie
CERTIFICATES=/etc/ssl/certs/ca-certificates.crt

main() {
    wheels=build
    is_bootstrapped=
    for option in "$@"; do
        case $option in
        --check) wheels=check ;;
        --bootstrap) is_bootstrapped=1 ;;
        *) stop "usage: ${0##*/} [--check] [--bootstrap]" ;;
        esac
    done
    [ "$(id -u)" -eq 0 ] || stop "needs root: run it with sudo"
    need_tools
    configure
    take_settings
    [ -z "$is_bootstrapped" ] || make_bases
    build_image
    verdict=0
    try_profile default epoll || verdict=1
    for profile in docker/seccomp.json docker/seccomp-kubernetes.json; do
        try_profile "$profile" "$(engine_here)" --security-opt "seccomp=$profile" || verdict=1
    done
    exit "$verdict"
}

need_tools() {
    missing=
    for program in buildah podman crun debootstrap python3; do
        command -v "$program" >/dev/null 2>&1 || missing="$missing $program"
    done
    [ -z "$missing" ] || install_packages "${missing# }" || exit 1
}

# For buildah and podman both. Without the right to raise limits podman's own are too high.
configure() {
    mkdir -p "$STORAGE"
    export BUILDAH_ISOLATION=chroot CONTAINERS_STORAGE_CONF="$STORAGE/storage.conf" \
        CONTAINERS_CONF="$STORAGE/containers.conf"
    cat >"$CONTAINERS_STORAGE_CONF" <<END
[storage]
driver = "overlay"
graphroot = "$STORAGE/storage"
runroot = "$STORAGE/run"
END
    # shellcheck disable=SC3045  # every sh of Linux knows this one
    cat >"$CONTAINERS_CONF" <<END
[containers]
cgroups = "disabled"
netns = "host"
default_ulimits = ["nofile=$(ulimit -n)", "nproc=32768"]
[engine]
cgroup_manager = "cgroupfs"
events_logger = "none"
runtime = "crun"
END
}

# Packages are found in a build as they are here, by files that are mounted and stay outside.
take_settings() {
    apt-config dump | grep -iE '^Acquire::(https?|Retries|Check)' >"$STORAGE/apt.conf" || :
    mounts="--volume $STORAGE/apt.conf:/etc/apt/apt.conf.d/90machine:ro"
    if [ -f /etc/pip.conf ] && [ -f $CERTIFICATES ]; then
        # Under another name, as packages in the build bring a file of this one.
        sed "s,$CERTIFICATES,/run/certificates.crt," /etc/pip.conf >"$STORAGE/pip.conf"
        mounts="$mounts --volume $STORAGE/pip.conf:/etc/pip.conf:ro"
        mounts="$mounts --volume $CERTIFICATES:/run/certificates.crt:ro"
    fi
}

make_bases() {
    podman image exists "$DEBIAN" || bootstrap
    podman image exists "$PYTHON_BASE" || build -t "$PYTHON_BASE" -f - "$STORAGE" <<END
FROM $DEBIAN
RUN apt-get update -q && apt-get install -y -q --no-install-recommends \
        python3 python3-dev python3-pip \
    && rm -rf /var/lib/apt/lists/* /usr/lib/python3*/EXTERNALLY-MANAGED \
    && ln -s /usr/bin/python3 /usr/local/bin/python && ln -s /usr/bin/pip3 /usr/local/bin/pip
END
}

bootstrap() {
    mirror=$(debian_mirror) || exit 1
    say "making $DEBIAN"
    rm -rf --one-file-system "$STORAGE/root"
    debootstrap --variant=minbase trixie "$STORAGE/root" "$mirror" >"$STORAGE/log" 2>&1 ||
        stop "debootstrap failed: see $STORAGE/log"
    rm -f "$STORAGE"/root/var/cache/apt/archives/*.deb
    tar -C "$STORAGE/root" -c . | podman import -q - "$DEBIAN" >"$STORAGE/log"
    rm -rf --one-file-system "$STORAGE/root"
}

build() {
    # shellcheck disable=SC2086  # options
    buildah bud $mounts "$@" >"$STORAGE/log" 2>&1 || {
        tail -n 40 "$STORAGE/log" >&2
        stop "the build failed: see $STORAGE/log"
    }
}

build_image() {
    build --build-arg "WHEELS=$wheels" -t "$IMAGE" .
    added=$(($(image_bytes "$IMAGE") - $(image_bytes "$PYTHON_BASE")))
    say "built, by $(buildah --version): $added bytes more than $PYTHON_BASE"
}

image_bytes() {
    podman image inspect --format '{{.Size}}' "$1"
}

# What a profile that allows io_uring leads to.
engine_here() {
    disabled=$(cat /proc/sys/kernel/io_uring_disabled 2>/dev/null || echo 0) # before 6.6
    if [ "$disabled" = 0 ]; then echo io_uring; else echo epoll; fi
}

# try_profile NAME ENGINE OPTION ...: podman's options; status 1 if it is not that engine.
try_profile() {
    name=$1
    engine=$2
    shift 2
    found=$(podman run --rm "$@" "$IMAGE" doctor | sed -n 's/^  engine  *//p')
    carried=$(python3 scripts/container_proxy.py podman run --rm "$@" "$IMAGE") || carried=FAILED
    say "$name: $found; proxy: $carried"
    [ "$carried" != FAILED ] && [ "${found%%:*}" = "$engine" ]
}

main "$@"
