#!/bin/sh
# Makes Debian roots with Pythons that a stable distribution does not have yet:
#
#   scripts/python-roots.sh                 3.14 and 3.15, as ./check --all wants them
#   scripts/python-roots.sh 3.15 ...        these, each from the suite that is known to have it
#   scripts/python-roots.sh 3.14:sid ...    each from that suite of Debian
#
# A root is build/roots/VERSION, or in the folder $ROOTS, with what builds and tests
# uringloop. Run again, this goes on where it stopped and then does nothing. It needs the
# right to mount and to change the root, which root has and most containers lack.
#
# Debian's mirror is the one in this machine's apt configuration, unless $MIRROR names
# another; certificates and the settings of pip and of the resolver are taken over as well.
set -eu
case $0 in */*) cd "${0%/*}/.." ;; esac
. scripts/setup.sh
. scripts/debian.sh

ROOTS=${ROOTS:-build/roots}
TOOLS='gcc libc6-dev pkg-config liburing-dev openssl libssl-dev wrk ca-certificates'

main() {
    [ $# -gt 0 ] || set -- 3.14 3.15
    [ "$(id -u)" -eq 0 ] || stop "needs root: run it with sudo"
    unshare --mount true 2>/dev/null || stop "needs the right to mount (CAP_SYS_ADMIN)"
    command -v debootstrap >/dev/null 2>&1 || install_packages debootstrap || exit 1
    for wanted in "$@"; do
        case $wanted in
        3.14) make_root 3.14 forky ;;
        3.15) make_root 3.15 sid ;;
        3.*:?*) make_root "${wanted%%:*}" "${wanted#*:}" ;;
        *) stop "usage: ${0##*/} [3.14 | 3.15 | VERSION:SUITE ...]" ;;
        esac
    done
}

make_root() {
    version=$1
    suite=$2
    root=$ROOTS/$version
    log=$ROOTS/$version.log
    mkdir -p "$ROOTS"
    [ "$(cat "$root/suite" 2>/dev/null)" = "$suite" ] || bootstrap
    take_over_settings
    [ -e "$root/complete" ] || install_python
    say "Python $version: $(scripts/in-root.sh "$root" "python$version" -V) in $root ($suite)"
}

# A root is moved to its name when its base system is whole.
bootstrap() {
    mirror=$(debian_mirror) || exit 1
    say "Python $version: installing Debian $suite into $root"
    rm -rf --one-file-system "$root" "$root.part"
    unshare --mount --propagation private \
        debootstrap --variant=minbase --force-check-gpg "$suite" "$root.part" "$mirror" \
        "$(debootstrap_script)" >"$log" 2>&1 </dev/null ||
        stop "debootstrap failed: $(last_error)"
    printf '%s\n' "$suite" >"$root.part/suite"
    mv "$root.part" "$root"
}

# An older debootstrap does not know a newer suite's name; all since have sid's way.
debootstrap_script() {
    script=/usr/share/debootstrap/scripts/$suite
    [ -e "$script" ] || script=/usr/share/debootstrap/scripts/sid
    echo "$script"
}

# So that names are found, and pip works, as outside. Each file goes where it is outside.
take_over_settings() {
    for file in /etc/resolv.conf /etc/hosts /etc/pip.conf ~/.pip/pip.conf \
        "${XDG_CONFIG_HOME:-$HOME/.config}/pip/pip.conf" "${PIP_CONFIG_FILE:-}" \
        /etc/ssl/certs/ca-certificates.crt "${PIP_CERT:-}" "${SSL_CERT_FILE:-}"; do
        [ ! -f "$file" ] || install -D -m 644 "$file" "$root$file"
    done
    {
        apt-config dump | grep -iE '^Acquire::(https?|Retries)' || :
        # A mirror may be a copy that is kept as it is; its signature is checked as ever.
        echo 'Acquire::Check-Valid-Until "false";'
    } >"$root/etc/apt/apt.conf.d/90machine"
}

install_python() {
    packages="$TOOLS python$version-venv python$version-dev libpython$version-testsuite"
    say "Python $version: installing $packages"
    in_root apt-get update -q || stop "no package lists for $suite: $(last_error)"
    in_root apt-cache show "python$version" || stop "$suite of this mirror has no python$version"
    # shellcheck disable=SC2086  # a list of packages
    in_root env DEBIAN_FRONTEND=noninteractive \
        apt-get install -y -q --no-install-recommends $packages ||
        stop "the packages could not be installed: $(last_error)"
    in_root apt-get clean
    # apt has brought certificates of its own.
    take_over_settings
    : >"$root/complete"
}

in_root() {
    scripts/in-root.sh "$root" "$@" >"$log" 2>&1 </dev/null
}

# The rest is in the log.
last_error() {
    line=$(grep '^E: ' "$log" | tail -n 1)
    printf '%s (%s)\n' "${line:-$(tail -n 1 "$log")}" "$log"
}

main "$@"
