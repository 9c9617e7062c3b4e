#!/bin/sh
# SPDX-License-Identifier: GPL-3.0-or-later
#
# tests/fuzz/run.sh [SECONDS [TARGET ...]]   libFuzzer on every parser, 60 s each unless said.
# Needs clang with its libFuzzer (Debian: clang). New inputs are kept in build/fuzz/corpus, what
# fails in build/fuzz/TARGET-*: add it to tests/fuzz/corpus/TARGET, where make test plays it back.
cd "$(dirname "$0")/../.." || exit 1
seconds=${1:-60}
[ $# -eq 0 ] || shift
[ $# -gt 0 ] || set -- $(ls tests/fuzz/corpus)     # a folder for each row of fuzz_targets
command -v clang > /dev/null || { echo "make fuzz needs clang: apt-get install clang" >&2; exit 2; }

pkgs='openblas gsl yaml-0.1 jansson libpcre2-8 libutf8proc libcrypto'
# gcc's OpenMP header and library serve here, without the attributes that clang does not know:
# the parallel loops run on one thread, which is enough for parsers.
mkdir -p build/fuzz/include
sed -E 's/__malloc__ \([a-z_]+\)/__malloc__/g' "$(gcc -print-file-name=include/omp.h)" \
    > build/fuzz/include/omp.h || exit 1
san='-fsanitize=address,undefined -fno-sanitize-recover=all'
flags="-std=gnu11 -O1 -g -w -DKEEL_NO_CLONES -fopenmp=libgomp -I. -Ibuild/fuzz/include
       $(pkg-config --cflags $pkgs) $san"
objects=
for c in model/*.c model/ops/*.c model/arch/*.c ckpt/*.c train/*.c attrib/*.c; do
    [ "$c" != train/main.c ] || continue
    o=build/fuzz/${c%.c}.o
    objects="$objects $o"
    if [ -e "$o" ]; then                    # nothing changed since: keep it
        newer=$(find model ckpt train attrib -name '*.[ch]' -newer "$o" | head -n 1)
        [ -n "$newer" ] || continue
    fi
    mkdir -p "$(dirname "$o")"
    clang $flags -fsanitize=fuzzer-no-link -c -o "$o" "$c" || exit 1
done
rm -f build/fuzz/libkeel.a
ar rcs build/fuzz/libkeel.a $objects || exit 1      # links what the targets use, and no more
clang $flags -fsanitize=fuzzer -o build/fuzz/fuzz tests/fuzz/fuzz.c build/fuzz/libkeel.a \
    $(pkg-config --define-variable=GSL_CBLAS_LIB=-lopenblas --libs $pkgs) \
    "$(gcc -print-file-name=libgomp.so)" -lm || exit 1

status=0
for target; do
    mkdir -p "build/fuzz/corpus/$target"
    echo "== $target, $seconds s"
    KEEL_FUZZ=$target UBSAN_OPTIONS=print_stacktrace=1 build/fuzz/fuzz -max_total_time="$seconds" \
        -timeout=10 -rss_limit_mb=4096 -max_len=8192 -print_final_stats=1 \
        -artifact_prefix="build/fuzz/$target-" "build/fuzz/corpus/$target" \
        "tests/fuzz/corpus/$target" > "build/fuzz/$target.log" 2>&1
    if [ $? -ne 0 ]; then
        status=1
        tail -n 40 "build/fuzz/$target.log"
    fi
    grep -E 'cov:|number_of_executed_units|exec_per_sec' "build/fuzz/$target.log" | tail -n 3
done
exit $status
