#!/bin/sh
# Boots kernels of Debian in an emulated machine and runs the smoke tests on each:
#
#   scripts/kernels.sh                        those of bullseye, bookworm, trixie and sid
#   scripts/kernels.sh trixie                 that of this suite
#   TESTS=tests/driver scripts/kernels.sh     other tests: paths and options of pytest
#
# Prints a line for each kernel: its version, how the tests went, which engine uringloop chose and
# why, and the features of io_uring that it found. What failed is shown above. Exit status: 0 all
# passed, 1 something failed.
#
# The kernels come from Debian's mirror, checked by apt, and are unpacked, not installed. QEMU
# emulates all of the machine in software. An initramfs holds all that runs: the virtual
# environment and the build of ./check, and busybox; so no kernel module is needed. All of it is
# in build/kernels. To install missing packages needs root; the rest needs no rights.
#
# Give it a machine that does nothing else: the tests have limits of time, and what is emulated is
# some twenty times as slow.
#
# Debian's mirror is the one in this machine's apt configuration, unless $MIRROR names another.
set -eu
case $0 in */*) cd "${0%/*}/.." ;; esac
. scripts/setup.sh
. scripts/debian.sh

KERNELS=build/kernels
TESTS=${TESTS:-tests/test_smoke.py}
# Of one machine, from its start to its end. The smoke tests take two to five minutes.
LIMIT_S=${LIMIT_S:-1800}
MEMORY_MIB=1024

main() {
    [ $# -gt 0 ] || set -- bullseye bookworm trixie sid
    [ "$(uname -m)" = x86_64 ] || stop "the emulated machine is an x86_64, this one a $(uname -m)"
    need_emulator
    need_system
    need_venv .venv "$PYTHON" dev
    need_build .venv
    mkdir -p "$KERNELS"
    mirror=$(debian_mirror) || exit 1
    make_root
    verdict=0
    for suite in "$@"; do
        get_kernel
        try_kernel || verdict=1
    done
    exit "$verdict"
}

need_emulator() {
    missing=
    need_program qemu-system-x86_64 qemu-system-x86
    need_program busybox busybox-static
    need_program cpio cpio
    [ -z "$missing" ] || install_packages "${missing# }" || exit 1
}

need_program() {
    command -v "$1" >/dev/null 2>&1 || missing="$missing $2"
}

# The initramfs: two archives, one behind the other, which the kernel unpacks both.
make_root() {
    busybox=$(command -v busybox)
    rm -rf "$KERNELS/first"
    mkdir -p "$KERNELS/first"
    cp "$busybox" "$KERNELS/first/busybox"
    {
        printf '#!/busybox sh\n'
        printf "%s='%s'\n" tree "$PWD" python "$PWD/.venv/bin/python" tests "$TESTS"
        cat scripts/kernels-init.sh
    } >"$KERNELS/first/init"
    chmod +x "$KERNELS/first/init"
    .venv/bin/python scripts/root_files.py 'uringloop[test]' "$busybox" \
        pyproject.toml uringloop tests >"$KERNELS/files" || stop "the initramfs has no content"
    {
        (cd "$KERNELS/first" && find . | cpio --quiet -o -H newc)
        cpio --quiet -o -H newc -D / <"$KERNELS/files"
    } >"$KERNELS/root.cpio" || stop "the initramfs could not be packed"
}

# The suite's kernel as $KERNELS/SUITE/PACKAGE/vmlinuz, whose path it leaves in $kernel.
get_kernel() {
    folder=$PWD/$KERNELS/$suite
    log=$folder/apt.log
    mkdir -p "$folder/lists/partial" "$folder/cache/archives/partial"
    : >"$folder/status"
    echo "deb [arch=amd64] $mirror $suite main" >"$folder/sources.list"
    suite_apt get update >"$log" 2>&1 || stop "no package lists for $suite: see $log"
    package=$(kernel_package)
    [ -n "$package" ] || stop "$suite of this mirror has no package with a kernel"
    kernel=$folder/$package/vmlinuz
    [ -e "$kernel" ] || unpack_kernel
}

# apt-get or apt-cache for one suite, without a trace in this machine's own lists.
suite_apt() {
    program=apt-$1
    shift
    # A mirror may be a copy that is kept as it is; its signature is checked as ever.
    "$program" -q -o Dir::Etc::SourceList="$folder/sources.list" -o Dir::Etc::SourceParts=- \
        -o Dir::State="$folder" -o Dir::State::Lists="$folder/lists" \
        -o Dir::State::status="$folder/status" -o Dir::Cache="$folder/cache" \
        -o APT::Architecture=amd64 -o APT::Sandbox::User=root \
        -o Acquire::Check-Valid-Until=false "$@" </dev/null
}

# What linux-image-amd64, which is always the newest, needs; or since 7.2, where that is empty
# itself, what it needs.
kernel_package() {
    image=$(needed_by linux-image-amd64 linux-image)
    binary=$(needed_by "$image" linux-binary)
    printf '%s\n' "${binary:-$image}"
}

# needed_by PACKAGE KIND: the package KIND-VERSION that it depends on, if any.
needed_by() {
    suite_apt cache depends "$1" | sed -n "s/^ *Depends: \($2-[0-9][^ ]*\)\$/\1/p" | head -n 1
}

unpack_kernel() {
    say "downloading $package"
    (cd "$folder" && suite_apt get download "$package") >"$log" 2>&1 ||
        stop "$package could not be downloaded: see $log"
    rm -rf "$folder/unpacked"
    dpkg-deb -x "$folder/$package"_*.deb "$folder/unpacked"
    mkdir -p "$folder/$package"
    find "$folder/unpacked" -name 'vmlinuz*' -type f -exec mv {} "$kernel" \;
    [ -e "$kernel" ] || stop "there is no kernel in $package"
    rm -rf "$folder/unpacked" "$folder/$package"_*.deb
}

# The line of this suite's kernel; status 1 if a test failed, or the machine did not come so far.
try_kernel() {
    log=$KERNELS/$suite.log
    boot >"$log" 2>&1
    # The console ends its lines with carriage returns.
    sed -i 's/\r*$//' "$log"
    status=$(said 'kernels: status ')
    outcome=passed
    if [ "$status" != 0 ]; then
        outcome=FAILED
        cat "$log"
    fi
    say "$(said 'kernels: kernel ') ($suite, $package): $outcome: $(counts); $(said '  engine  *');" \
        "features: $(said '  features  *')"
    [ "$outcome" = passed ]
}

# Under load the emulator's timer may be too slow for the look that a kernel takes at it; so that
# is left out.
boot() {
    timeout -k 10 "$LIMIT_S" qemu-system-x86_64 -accel tcg,thread=multi -cpu max \
        -smp "$(nproc)" -m "$MEMORY_MIB" -nodefaults -no-user-config -display none \
        -serial stdio -no-reboot -kernel "$kernel" -initrd "$KERNELS/root.cpio" \
        -append 'console=ttyS0 quiet panic=-1 no_timer_check' </dev/null ||
        echo "the machine ended badly: $?"
}

# said PATTERN: the rest of the line that begins so.
said() {
    sed -n "s/^$1//p" "$log" | head -n 1
}

# pytest's last line, or what there is in its place.
counts() {
    line=$(sed -n 's/^=* *\([0-9][^=]* in [0-9.]*s\).*/\1/p' "$log" | tail -n 1)
    printf '%s\n' "${line:-the tests did not end}"
}

main "$@"
