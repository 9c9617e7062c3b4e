#!/bin/sh
# SPDX-License-Identifier: GPL-3.0-or-later
#
# Does tests/run.sh notice? Fake test programs in a fake build directory: one row each, with what
# they print and do, and the last line and exit status that run.sh must end with.
cd "$(dirname "$0")/.." || exit 1
dir=$(mktemp -d) || exit 1
trap 'rm -rf "$dir"' EXIT
bad=0

# row NAME LAST-LINE EXIT-STATUS BODY ...: one fake program a BODY
row() {
    name=$1 want="$2" status=$3
    shift 3
    rm -rf "$dir/tests"
    mkdir "$dir/tests"
    n=0
    for body; do
        n=$((n + 1))
        printf '#!/bin/sh\n%s\n' "$body" > "$dir/tests/test_fake$n"
        chmod +x "$dir/tests/test_fake$n"
    done
    echo "[ RUN      ] $name"
    TEST_TIMEOUT=1 tests/run.sh --programs "$dir" > "$dir/out" 2>&1
    got=$? last=$(tail -n 1 "$dir/out")
    if [ "$got" = "$status" ] && [ "$last" = "$want" ]; then
        echo "[       OK ] $name"
    else
        echo "expected \"$want\" and exit status $status, got \"$last\" and $got"
        cat "$dir/out"
        echo "[  FAILED  ] $name"
        bad=$((bad + 1))
    fi
}

run='echo "[ RUN      ] a";'
ok="$run echo '[       OK ] a';"
fail="$run echo '[  FAILED  ] a' >&2;"
skip="$run echo '[  SKIPPED ] a';"
end="echo '[==========] 9 test(s) run.'; echo '[  FAILED  ] 1 test(s), listed below:'
     echo '[  FAILED  ] a';"

row all_pass        "3 passed, 0 failed"            0  "$ok $ok" "$ok"
row skipped         "1 passed, 0 failed, 1 skipped" 0  "$ok $skip"
row fails           "2 passed, 1 failed"            1  "$ok $fail $end exit 1" "$ok"
row crashes         "1 passed, 1 failed"            1  "$ok $run kill -SEGV \$\$"
row crashes_after   "1 passed, 1 failed"            1  "$ok kill -ABRT \$\$"
row lies            "1 passed, 2 failed"            1  "$ok $fail exit 0"
row status_only     "1 passed, 1 failed"            1  "$ok exit 3"
row stops_early     "1 passed, 1 failed"            1  "$ok $run exit 0"
row says_nothing    "1 passed, 1 failed"            1  "$ok" "exit 0"
row hangs           "1 passed, 1 failed"            1  "$ok sleep 20"
row only_skipped    "0 passed, 1 failed, 1 skipped" 1  "$skip"
row nothing_there   "0 passed, 1 failed"            1

# The output of a failing program is shown in full, that of a passing one is not.
echo "[ RUN      ] shows_failures"
printf '#!/bin/sh\necho why-it-failed\n%s exit 1\n' "$fail" > "$dir/tests/test_fake1"
printf '#!/bin/sh\necho idle-talk\n%s\n' "$ok" > "$dir/tests/test_fake2"
chmod +x "$dir"/tests/test_fake?
tests/run.sh --programs "$dir" > "$dir/out" 2>&1
if grep -q '^why-it-failed$' "$dir/out" && ! grep -q idle-talk "$dir/out"; then
    echo "[       OK ] shows_failures"
else
    cat "$dir/out"
    echo "[  FAILED  ] shows_failures"
    bad=$((bad + 1))
fi
exit $bad
