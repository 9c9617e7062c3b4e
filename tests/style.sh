#!/bin/sh
# SPDX-License-Identifier: GPL-3.0-or-later
#
# What a machine can see of the house style: sizes, licence lines, functions that are not used here.
cd "${1:-$(dirname "$0")/..}" || exit 1
failed=0
found=$(mktemp) || exit 1
trap 'rm -f "$found"' EXIT
export LC_ALL=C.UTF-8

result() {
    echo "[ RUN      ] $1"
    if [ -s "$found" ]; then
        cat "$found"
        echo "[  FAILED  ] $1"
        failed=$((failed + 1))
    else
        echo "[       OK ] $1"
    fi
}

rooms=
for d in model ckpt train attrib configs tests .ci; do [ ! -d $d ] || rooms="$rooms $d"; done
c_files() { find $rooms -name '*.[ch]' | sort; }
program() { find $rooms -path tests -prune -o -name '*.[ch]' -print | sort; }
scripts() { find $rooms -name '*.sh' -o -name '*.py' -o -path '.ci/run' | sort; }
# Code without comments and strings, as FILE:LINE:CODE
code() {
    xargs awk '
        FNR == 1 { inside = 0 }
        {
            line = $0; out = ""
            gsub(/\\["\\]/, "", line)
            gsub(/"[^"]*"/, "\"\"", line)
            while (line != "") {
                if (inside) {
                    i = index(line, "*/")
                    if (!i) break
                    inside = 0; line = substr(line, i + 2)
                } else {
                    i = index(line, "/*"); j = index(line, "//")
                    if (j && (!i || j < i)) { out = out substr(line, 1, j - 1); break }
                    if (!i) { out = out line; break }
                    out = out substr(line, 1, i - 1); inside = 1; line = substr(line, i + 2)
                }
            }
            print FILENAME ":" FNR ":" out
        }'
}

{ c_files; scripts; } | xargs grep -nHE '^.{101,}' |
    sed -E 's/^([^:]*:[0-9]*):.*/\1: more than 100 columns/' > "$found"
result line_length

c_files | xargs grep -nHE '	|[[:space:]]$' |
    sed -E 's/^([^:]*:[0-9]*):.*/\1: a tab, or blanks at the end/' > "$found"
result blanks

{ c_files; scripts; } | xargs wc -l |
    awk '$2 != "total" && $1 > 800 { print $2 ": " $1 " lines" }' > "$found"
result file_length

# From the line that opens a function to its "}" in the first column.
program | xargs awk '
    FNR == 1 { open = 0 }
    /^[A-Za-z_].*[({,]$/ && !/^(struct|enum|union|typedef|static const|extern) [^*(]*$/ &&
        !/[=;]/ && !open { open = FNR; head = $0 }
    /^}/ {
        if (open && FNR - open + 1 > 60 && $0 == "}")
            print FILENAME ":" open ": " FNR - open + 1 " lines in a function: " head
        open = 0
    }
    /^[^ }].*;$/ { open = 0 }' > "$found"
result function_length

c_files | while read -r f; do
    head -n 1 "$f" | grep -q '^/\* SPDX-License-Identifier: GPL-3.0-or-later' || echo "$f"
done > "$found"
scripts | while read -r f; do
    head -n 2 "$f" | grep -q '^# SPDX-License-Identifier: GPL-3.0-or-later' || echo "$f"
done >> "$found"
result licence_lines

# setlocale: numbers are read and written with a point everywhere
banned='strcpy|strcat|sprintf|vsprintf|gets|strtok|atoi|atol|atof|rand|srand|alloca|setlocale'
program | code | grep -E "\b($banned) ?\(" > "$found"
# exit: verbs, and where memory runs out
program | grep -vE '/cmd_[a-z_]*\.c$|^train/main\.c$|^model/(base|arena)\.c$' | code |
    grep -E '\bexit\(' >> "$found"
result banned_functions

mark='TO''DO|FIX''ME|XX''X'
{ c_files; scripts; ls Makefile README.md 2> /dev/null; } | xargs grep -nHE "\b($mark)\b" > "$found"
result loose_ends

# Every .c file of the program opens with what it is and why.
program | grep '\.c$' | while read -r f; do
    sed -n 3p "$f" | grep -qF "$(basename "$f") — " || echo "$f: line 3 is not \"name.c — what\""
done > "$found"
result design_comments

[ $failed -eq 0 ]
