#!/bin/sh
# SPDX-License-Identifier: GPL-3.0-or-later
#
# Do the scripts notice? For run.sh, fake test programs in a fake build directory: one row each,
# with what they print and do, and the last line and exit status that it must end with. For
# layers.sh and style.sh, a tree that keeps every rule, then one broken rule a row.
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

# ---- layers.sh and style.sh ----

tree=$dir/tree
good_tree() {
    rm -rf "$tree"
    mkdir -p "$tree/model" "$tree/ckpt" "$tree/train" "$tree/attrib" "$tree/tests"
    for f in model/base.h model/low.h ckpt/file.h train/cli.h train/loop.h attrib/score.h; do
        echo '/* SPDX-License-Identifier: GPL-3.0-or-later */' > "$tree/$f"
    done
    file model/base.c '#include "model/base.h"'
    file train/loop.c '#include "train/loop.h"'
    file train/main.c 'int cmd_eat(int argc, char **argv);'
    file train/cmd_eat.c '#include "attrib/score.h"' 'int cmd_eat(int argc, char **argv) {' \
        '    return argc > 0 && argv;' '}'
    echo '    X("Food", eat, "eats")' >> "$tree/train/cli.h"
    echo '#include "model/base.h"' >> "$tree/model/low.h"
}

# file PATH LINE ...: a .c file of these lines that opens as it should
file() {
    path=$1
    shift
    { echo '/* SPDX-License-Identifier: GPL-3.0-or-later'
      echo ' *'
      echo " * $(basename "$path") — a part."
      echo ' */'
      printf '%s\n' "$@"; } > "$tree/$path"
}

# notices NAME SCRIPT RULE: the tree as it is breaks RULE of SCRIPT and no other ("": none)
notices() {
    echo "[ RUN      ] $1"
    "tests/$2" "$tree" > "$dir/out" 2>&1
    got=$?
    rules=$(sed -n 's/^\[  FAILED  \] //p' "$dir/out" | tr '\n' ' ')
    want=1
    [ -n "$3" ] || want=0
    if [ "${rules% }" = "$3" ] && [ $got -eq $want ]; then
        echo "[       OK ] $1"
    else
        echo "expected [$3] to fail, got [${rules% }] and exit status $got"
        cat "$dir/out"
        echo "[  FAILED  ] $1"
        bad=$((bad + 1))
    fi
    good_tree
}

good_tree
notices good_layers layers.sh ''
notices good_style style.sh ''
file model/up.c '#include "ckpt/file.h"';                  notices upwards layers.sh rooms
file attrib/up.c '#include "train/loop.h"';                notices trainer_private layers.sh rooms
file ckpt/cli.c '#include "train/cli.h"';                  notices verbs_only layers.sh rooms
file train/c.c '#include "model/base.c"';                  notices source_included layers.sh rooms
file train/n.c '#include "loop.h"';                        notices no_room layers.sh \
                                                               'rooms headers_exist'
file train/x.c '#include "train/absent.h"';                notices absent layers.sh headers_exist
file train/b.c '#include <cblas.h>';                       notices blas layers.sh third_party
file train/y.c '#include <yaml.h>';                        notices yaml layers.sh third_party
file train/g.c '#include <gsl/gsl_rng.h>';                 notices gsl layers.sh third_party
file train/z.c '#include <zlib.h>';                        notices new_library layers.sh third_party
echo '#include "model/low.h"' >> "$tree/model/base.h";     notices cycle layers.sh no_cycles
echo '    X("Food", nap, "naps")' >> "$tree/train/cli.h";  notices no_verb layers.sh verbs

line=$(printf '%0100d' 0)
file model/w.c "// $line";                                 notices wide style.sh line_length
file model/u.c "// é${line#0000}";                         notices utf8_is_narrow style.sh ''
file model/t.c "	int tab;";                         notices tab style.sh blanks
file model/t.c "int blank; ";                              notices blank_end style.sh blanks
file model/l.c "$(yes 'int x;' | head -n 800)";            notices long_file style.sh file_length
file model/f.c 'int f(int a,' '      int b) {' "$(yes '    a++;' | head -n 60)" '}'
notices long_function style.sh function_length
file model/f.c 'int f(int a) {' "$(yes '    a++;' | head -n 58)" '}'
notices full_function style.sh ''
file model/f.c 'static const int t[] = {' "$(yes '    1,' | head -n 90)" '};'
notices table_is_no_function style.sh ''
echo 'int x;' > "$tree/model/n.h";                         notices licence style.sh licence_lines
echo '#!/bin/sh' > "$tree/tests/n.sh"
notices script_licence style.sh licence_lines
file model/s.c 'int n = atoi ("1");' 'int m = atoi("1");'; notices atoi style.sh banned_functions
file model/s.c '// atoi(x)' 'char *t = "atoi(x)";';        notices only_mentioned style.sh ''
file model/e.c 'void e(void) { exit(1); }';                notices exit style.sh banned_functions
file train/cmd_e.c 'void e(void) { exit(1); }';            notices verb_may_exit style.sh ''
file model/d.c 'int todo; // TO''DO';                      notices loose_end style.sh loose_ends
sed -i 3d "$tree/model/base.c"
notices no_design style.sh design_comments
exit $bad
