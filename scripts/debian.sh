# Sourced by python-roots.sh and kernels.sh: where Debian's packages come from.
#
#   debian_mirror   prints $MIRROR, else the mirror in this machine's apt configuration
#
# POSIX sh; the caller has `set -eu` and has sourced setup.sh.

debian_mirror() {
    mirror=${MIRROR:-$(first_debian_target || {
        apt-get update -q >/dev/null </dev/null
        first_debian_target || :
    })}
    [ -n "$mirror" ] || stop "no mirror of Debian in apt's configuration: name one in \$MIRROR"
    printf '%s\n' "$mirror"
}

# The first archive that calls itself Debian; none before the first `apt-get update`.
first_debian_target() {
    # shellcheck disable=SC2016  # apt's own variable
    apt-get indextargets --format '$(REPO_URI)' 'Origin: Debian' 'Label: Debian' |
        sed 's,/*$,,' | grep -m 1 .
}
