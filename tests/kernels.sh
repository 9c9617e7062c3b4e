#!/bin/sh
# SPDX-License-Identifier: GPL-3.0-or-later
#
# tests/kernels.sh KEEL: what the program does at start about the kernels that OpenBLAS chose and
# about waiting OpenMP threads. A preloaded library makes OpenBLAS say that it fell back to
# Prescott, as it does on processors that it does not know.
cd "$(dirname "$0")/.." || exit 1
keel=$1
tmp=$(mktemp -d) || exit 1
trap 'rm -rf "$tmp"' EXIT
status=0

# check NAME EXPECTED-PATTERN FORBIDDEN-PATTERN VARIABLE=VALUE ...: reads the verbose start
check() {
    name=$1 want=$2 never=$3
    shift 3
    echo "[ RUN      ] $name"
    if [ "$skip" ]; then
        echo "$skip"
        echo "[  SKIPPED ] $name"
        return
    fi
    env -u OPENBLAS_CORETYPE -u GOMP_SPINCOUNT -u OMP_WAIT_POLICY -u KEEL_RESTARTED "$@" \
        "$keel" --version -v > "$tmp/out" 2> "$tmp/err"
    if [ $? -eq 0 ] && grep -Eq "$want" "$tmp/err" && ! grep -Eq "$never" "$tmp/err"; then
        echo "[       OK ] $name"
    else
        cat "$tmp/out" "$tmp/err"
        echo "[  FAILED  ] $name"
        status=1
    fi
}

printf 'char *openblas_get_corename(void);\nchar *openblas_get_corename(void) {\n' > "$tmp/old.c"
printf '    static char name[] = "Prescott";\n    return name;\n}\n' >> "$tmp/old.c"
cc -shared -fPIC -o "$tmp/old.so" "$tmp/old.c" || exit 1
old="LD_PRELOAD=$tmp/old.so"
skip=
! ldd "$keel" | grep -q libasan || skip="a sanitized program cannot be preloaded"
grep -q avx2 /proc/cpuinfo || skip="this processor has no better kernels than the fallback's"

check fallback_is_mended 'chose Prescott.*restarting with OPENBLAS_CORETYPE=(HASWELL|SKYLAKEX)' \
    'as OPENBLAS_CORETYPE asks' "$old"
check users_kernels_are_respected 'as OPENBLAS_CORETYPE asks' 'restarting' "$old" \
    OPENBLAS_CORETYPE=Prescott
check short_spin 'GOMP_SPINCOUNT=3000$' 'restarting' OPENBLAS_CORETYPE=Haswell
check users_spin_is_respected 'as OPENBLAS_CORETYPE asks' 'GOMP_SPINCOUNT=3000' "$old" \
    OPENBLAS_CORETYPE=Prescott GOMP_SPINCOUNT=7
exit $status
