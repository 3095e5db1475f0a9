# Sourced by ./check: runs stages, one line each, and adds up what the tests say.
#
#   stage NAME COMMAND ...              passes when the command does
#   tests NAME VENV RENDERING PATH ...  pytest; its counts go into the summary
#   other_python VERSION                CPython's asyncio tests on a Python of this machine
#   python_in_root VERSION              all tests in a root of scripts/python-roots.sh
#   summary                             the last line, and the exit status
#
# The output of a stage is kept in build/check and shown only when the stage fails.

logs=build/check
mkdir -p "$logs"
started=$(date +%s)
failed_stages=
left_out=
names=
# One more than there are cores: tests also wait.
workers=$(($(nproc) + 1))
passed=0
failed=0
skipped=0
# What commands are started by: nothing, or scripts/in-root.sh and the root.
inside=

# run NAME COMMAND ...: the output to $log; says how it went.
run() {
    name=$1
    shift
    log="$logs/$(printf %s "$name" | tr -c 'a-zA-Z0-9.' '-').log"
    stage_started=$(date +%s)
    if "$@" >"$log" 2>&1 </dev/null; then verdict=passed; else verdict=FAILED; fi
    took_s=$(($(date +%s) - stage_started))
    if [ $verdict = FAILED ]; then
        cat "$log"
        failed_stages="$failed_stages, $name"
    fi
}

stage() {
    run "$@"
    say "$name: $verdict in $took_s s"
}

tests() {
    name=$1
    venv=$2
    rendering=$3
    shift 3
    pure=
    [ "$rendering" = compiled ] || pure=1
    # shellcheck disable=SC2086  # a command and its argument, or nothing
    run "$name" $inside env URINGLOOP_PURE="$pure" \
        "$venv/bin/python" -m pytest -q -p no:cacheprovider -n "$workers" --durations 15 "$@"
    count
}

# Adds the counts of pytest's last line to the totals.
count() {
    counts=$(tail -n 1 "$log")
    add_count passed
    add_count failed
    add_count skipped
    case $counts in
    *passed* | *failed*) ;;
    *) failed=$((failed + 1)) ;;
    esac
    names="$names, $name"
    say "$name: $verdict: $counts"
}

# add_count WORD: `12 failed` adds 12; errors count as failures.
add_count() {
    words=$1
    [ "$1" != failed ] || words='failed errors error'
    for word in $words; do
        found=$(printf %s "$counts" | sed -n "s/.*\(^\|[^0-9]\)\([0-9][0-9]*\) $word\(,\| in\|\$\).*/\2/p")
        eval "$1=\$(($1 + ${found:-0}))"
    done
}

# build_apart NAME VARIABLE=VALUE ...: a copy of the package under build/NAME, built with that.
build_apart() {
    apart=build/$1
    shift
    env URINGLOOP_PURE=1 "$@" .venv/bin/python setup.py -q build \
        --build-base "$apart/base" --build-lib "$apart/lib"
}

# The contract suite of the engines, and the scenarios with faults at the border to the kernel, on
# the build under address and undefined behaviour sanitizers, in a folder where no other build is
# found. The Python that loads the engine is not instrumented, so leaks are looked for only in
# programs of which tests/sanitized reads what is found.
sanitized_tests() {
    rm -rf build/sanitize/lib/tests
    cp -R tests pyproject.toml build/sanitize/lib/
    run "$1" env -C build/sanitize/lib \
        LD_PRELOAD="$(gcc -print-file-name=libasan.so)" \
        ASAN_OPTIONS=detect_leaks=0:abort_on_error=1 \
        UBSAN_OPTIONS=halt_on_error=1:print_stacktrace=1 \
        PYTHONMALLOC=malloc URINGLOOP_PURE=1 \
        "$PWD/.venv/bin/python" -m pytest -q -p no:cacheprovider -n "$workers" \
        tests/driver tests/faults
    count
}

# other_python 3.12: CPython's tests on our loops and our list of them, where that Python is
# installed. The same tests on CPython's own loop (test_oracle) are for telling a fault of the
# harness from one of ours, and take longer than all else here: the default Python does that.
other_python() {
    python=$(find_python "$1") || python=
    if [ -z "$python" ]; then
        left_out="$left_out, $1 is not installed"
        say "$1: not installed"
    elif ! need_python "$python"; then
        left_out="$left_out, $1 lacks $(packages_lacking "$python")"
        say "$1: cannot be tested without $(packages_lacking "$python")"
    else
        need_venv ".venv-$1" "$python" test
        need_build ".venv-$1"
        tests "$1" ".venv-$1" compiled tests/conformance \
            --ignore tests/conformance/test_oracle.py
    fi
}

# python_in_root 3.14: all tests, in a root where a copy of the tree has been built.
python_in_root() {
    root=build/roots/$1
    stage "$1 root" scripts/python-roots.sh "$1"
    [ "$verdict" = passed ] || return 0
    stage "$1 build" build_in_root "$root" "python$1"
    [ "$verdict" = passed ] || return 0
    inside="scripts/in-root.sh $root"
    tests "$1 in its root" /venv compiled tests
    inside=
}

# A fresh copy is built each time; the root keeps the virtual environment.
build_in_root() {
    copy_tree "$1/src" || return 1
    # shellcheck disable=SC2016  # variables of the shell in the root
    scripts/in-root.sh "$1" sh -euc \
        '. scripts/setup.sh; need_venv /venv "$(real_python "$1")" dev; need_build /venv' \
        "$0" "$2"
}

# copy_tree FOLDER: what git knows of, as it is now.
copy_tree() {
    rm -rf "$1"
    mkdir -p "$1"
    git ls-files --cached --others --exclude-standard >"$logs/tree" || return 1
    while read -r file; do
        [ ! -e "$file" ] || printf '%s\n' "$file"
    done <"$logs/tree" | tar -cf - -T - | tar -xf - -C "$1"
}

summary() {
    took_s=$(($(date +%s) - started))
    verdict=passed
    [ -z "$failed_stages" ] || verdict="FAILED (${failed_stages#, })"
    say "check: $verdict in $took_s s: $passed passed, $failed failed, $skipped skipped (${names#, }${left_out:+; $left_out})"
    [ "$verdict" = passed ] || exit 1
    exit 0
}
