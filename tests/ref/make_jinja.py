#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-3.0-or-later
"""What Jinja2 makes of the templates in tests/ref/jinja.jsonl, set up as transformers sets it up.

    tests/ref/make_jinja.py < tests/ref/jinja.jsonl > new.jsonl       the same templates again
    tests/ref/make_jinja.py --random 300 7                            random expressions, as rows
    tests/ref/make_jinja.py --compare build/release/tests/test_jinja 20000 7
                                        random expressions, and where the program differs

The first row gives the variables and the time; each other row is a template with its text, or with
"error": the message where Jinja2's own is worth having, else "". To add a case, add a row with
"template" alone. Made with Jinja2 3.1.6 and Python 3.11.
"""
import copy
import datetime
import json
import random
import re
import subprocess
import sys

import jinja2
from jinja2.exceptions import SecurityError, TemplateError, UndefinedError
from jinja2.ext import Extension
from jinja2.sandbox import ImmutableSandboxedEnvironment


class Raised(TemplateError):
    pass


class Generation(Extension):
    tags = {"generation"}

    def parse(self, parser):
        line = next(parser.stream).lineno
        body = parser.parse_statements(["name:endgeneration"], drop_needle=True)
        call = self.call_method("_generation")
        return jinja2.nodes.CallBlock(call, [], [], body).set_lineno(line)

    def _generation(self, caller):
        return caller()


def raise_exception(message):
    raise Raised(message)


def tojson(x, ensure_ascii=False, indent=None, separators=None, sort_keys=False):
    return json.dumps(x, ensure_ascii=ensure_ascii, indent=indent, separators=separators,
                      sort_keys=sort_keys)


NOW = [2025, 7, 26, 14, 5, 9]
env = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True,
                                    extensions=[Generation, "jinja2.ext.loopcontrols"])
env.filters["tojson"] = tojson
env.globals["raise_exception"] = raise_exception
env.globals["strftime_now"] = lambda fmt: datetime.datetime(*NOW).strftime(fmt)


def render(template, context):
    try:
        return {"text": env.from_string(template).render(**copy.deepcopy(context))}
    except Raised as e:
        return {"error": "raise_exception: " + str(e)}
    except (UndefinedError, SecurityError) as e:
        return {"error": str(e)}
    except Exception:
        return {"error": ""}


# ---- random expressions: <name> stands for an alternative of that name ----
CONTEXT = {
    "n": None, "t": True, "f": False, "i": 7, "neg": -3, "big": 9007199254740993, "x": 2.5,
    "s": "Hello, World", "e": "", "u": "Ünïcode 🦙 ß", "l": [3, 1, 2],
    "d": {"b": 1, "a": [1, {"k": "v"}], "items": 5, "c d": None},
    "users": [{"name": "Bob", "age": 30, "tags": ["x"]}, {"name": "alice", "age": 25, "tags": []},
              {"name": "Carol", "age": 30, "z": 1}],
    "nest": [[1, 2], [3, 4]], "html": "<a href=\"x\">&'</a>", "ws": " \t\u3000a b\n\u00a0",
    "lines": "a\nb\r\nc\n\nd",
    "m": [{"role": "user", "content": "hi"}, {"role": "assistant", "content": None}],
}
LEAVES = {
    "str": ["s", "u", "html", "ws", "lines", "'a'", "'Hello World foo'", "' a b '", "'12'", "''",
            "'-3.5'", "'a,b,c'", "'x\\ny\\n\\nz'", "'ΑΣ ǆ ß ﬁ'", "'it\\'s \"q\"'", "'aXbXc'",
            "users[0].name", "'%s-%s'", "'\\t tab\\tx'", "'<b>&'", "'١٢'", "'a\\u2028b\\x1cc'"],
    "int": ["0", "1", "2", "3", "-1", "7", "i", "neg", "10", "l[0]", "users[0].age", "1234567"],
    "float": ["x", "0.1", "-3.7", "1e3", "100.0", "0.5", "1.5", "1e-7", "123456.789", "1e20"],
    "strs": ["['b','A','c']", "users|map(attribute='name')|list", "s.split()", "[u, s]"],
    "ints": ["l", "[3,1,2,3]", "range(5)|list", "[]", "range(2,9,3)|list", "nest[0]"],
    "dict": ["{'a':1,'b':'x'}", "{'k':[1,2],'j':{'z':none}}", "users[0]", "d", "{}",
             "{1:'i','1':'s',none:2.5}", "{'é':'ü','Z':1,'a':true}"],
    "bool": ["true", "false", "t", "i > 3", "s", "zz", "n", "zz is defined"],
    "slice": ["1:", ":2", ":-1", "-3:", "::-1", "::2", "1:4", "-4:-1", "5:1", "::-2", "3:0:-1"],
    "width": ["5", "12", "20"],
}
RULES = {
    "any": ["<str>", "<str>", "<int>", "<float>", "<list>", "<dict>", "<bool>", "none", "zz"],
    "num": ["<int>", "<float>"],
    "list": ["<ints>", "<strs>", "(<ints>)|batch(2)|list", "(<strs>)|slice(3, 'x')|list",
             "(<dict>)|dictsort", "(<dict>)|items|list", "users|sort(attribute='age,name')",
             "users|groupby('age')|list", "users|selectattr('age','gt',26)|list",
             "users|rejectattr('z')|list", "users|map(attribute='tags')|list",
             "[<any>, <any>, <any>]"],
    "str": ["(<str> ~ <any>)", "(<str> + <str>)", "(<str>)[<slice>]", "(<str> * (<int> % 4))",
            "(<str>).upper()", "(<str>).lower()", "(<str>).strip()", "(<str>).title()",
            "(<str>).capitalize()", "(<str>).swapcase()", "(<str>).casefold()",
            "(<str>).expandtabs()", "(<str>).lstrip(<str>)", "(<str>).rstrip(<str>)",
            "(<str>).replace(<str>, <str>)", "(<str>).replace(<str>, <str>, 1)",
            "(<str>).center(<width>, '*')", "(<str>).ljust(<width>)", "(<str>).rjust(<width>, 'é')",
            "(<str>).zfill(<width>)", "(<str>).removeprefix(<str>)", "(<any>)|upper",
            "(<any>)|trim", "(<any>)|title", "(<any>)|string", "(<str>)|replace(<str>, <str>)",
            "(<str>)|indent(2)", "(<str>)|indent('> ', true, true)", "(<str>)|truncate(8, true)",
            "(<str>)|truncate(7, leeway=0)", "(<str>)|e", "(<str>)|safe", "(<str>)|urlencode",
            "(<str>)|center(9)", "(<str>)|reverse", "(<list>)|join(' - ')", "'-'.join(<strs>)",
            "(<any>)|tojson", "(<any>)|tojson(indent=2)", "(<any>)|tojson(ensure_ascii=true)",
            "(<any>)|tojson(sort_keys=true)", "(<str> if <bool> else <str>)",
            "'%r %5s|' % (<any>, <any>)", "'%-6s|%.2s' % (<str>, <any>)", "'%05d' % <num>",
            "'%+d|%x' % (<int>, <int>)", "'%e %G' % (<num>, <num>)", "'%8.3f' % <num>",
            "'{:>8}{!r}'.format(<str>, <any>)", "'{:*^9}'.format(<str>)",
            "'{:+,} {:#b}'.format(<int>, <int>)", "'{:010,}|{:^7}'.format(<int>, <int>)",
            "'{:.3} {:e} {:%}'.format(<float>, <float>, <float>)",
            "'{:,.2f}|{:g}|{}'.format(<float>, <float>, <float>)"],
    "int": ["(<int> + <int>)", "(<int> - <int>)", "(<int> * <int>)", "(<int> // <int>)",
            "(<int> % <int>)", "(<list>)|length", "(<str>)|length", "(<str>).find(<str>)",
            "(<str>).rfind(<str>, 1)", "(<str>).count(<str>, -3)", "(<ints>)|sum",
            "(<ints>)|max", "(<str>)|int(5)", "(<str>)|int(0, 16)", "(<float>)|int",
            "(<int>)|abs", "(-<int>)", "(<str>)|wordcount", "(<int>)|round(-1)",
            "(<int> if <bool> else <int>)", "(<ints>)|first"],
    "float": ["(<num> + <float>)", "(<num> * <float>)", "(<num> / <num>)", "(<str>)|float(1.5)",
              "(<float>)|round(2)", "(<float>)|round(1, 'floor')", "(<float> // <num>)",
              "(<float> % <num>)", "(<float>)|round(-1)"],
    "ints": ["(<ints> + <ints>)", "(<ints>)[<slice>]", "(<ints>)|sort(reverse=true)",
             "(<ints>)|unique|list", "(<ints>)|reverse|list", "(<ints>)|select('odd')|list",
             "(<ints>)|reject('gt', 1)|list", "(<strs>)|map('length')|list", "[<int>, <int>]"],
    "strs": ["(<strs> + <strs>)", "(<strs>)[<slice>]", "(<str>).split()", "(<str>).split(',')",
             "(<str>).rsplit(none, 1)", "(<str>).split('a', 1)", "(<str>).splitlines(true)",
             "(<str>)|list", "(<list>)|map('string')|list", "(<list>)|map('tojson')|list",
             "(<strs>)|sort", "(<strs>)|sort(case_sensitive=true)", "(<strs>)|unique|list",
             "(<str>).partition(' ')|list", "[<str>, <str>]"],
    "dict": ["dict(p=<any>, q=<any>)", "{<str>: <any>, 1: <any>, none: <any>}"],
    "bool": ["(<num> < <num>)", "(<num> == <num>)", "(<str> < <str>)", "(<str> in <str>)",
             "(<any> in <list>)", "(<bool> and <bool>)", "(<bool> or <bool>)", "(not <bool>)",
             "(<any> is string)", "(<any> is number)", "(<any> is iterable)",
             "(<any> is sequence)", "(<str>).isalpha()", "(<str>).isupper()",
             "(<str>).istitle()", "(<str>).startswith(('a', <str>))", "(<str>).endswith(<str>)",
             "(<int> < <int> <= <int>)", "(<list> == <list>)", "(<int> is divisibleby(3))"],
}


def expand(rng, name, depth):
    leaf = name in LEAVES and (depth <= 0 or name not in RULES or rng.random() < 0.15)
    rule = rng.choice((LEAVES if leaf else RULES)[name])
    return rule if leaf else re.sub(r"<(\w+)>", lambda m: expand(rng, m[1], depth - 1), rule)


def expressions(count, seed):
    rng = random.Random(seed)
    for _ in range(count):
        expression = expand(rng, "any", rng.randint(1, 4))
        if rng.random() < 0.2:
            yield "{% for k in " + expand(rng, "list", 2) + " %}{{ loop.index }}{{ k }}," \
                "{{ loop.last }}{% else %}{{ " + expression + " }}{% endfor %}"
        else:
            yield "{{ " + expression + " }}"


def compare(program, templates):
    rows = "".join(json.dumps({"template": t, "context": CONTEXT}) + "\n" for t in templates)
    done = subprocess.run([program, "--render"], input=rows.encode(), stdout=subprocess.PIPE,
                          check=True)
    differ = 0
    for template, line in zip(templates, done.stdout.splitlines()):
        want, got = render(template, CONTEXT), json.loads(line)
        refused = any(w in got.get("error", "") for w in
                      ("is not supported", "beyond 64 bits", "cannot be printed"))
        if want.get("text") != got.get("text") and not refused:
            differ += 1
            print(template, "\n  Jinja2:", want, "\n  keel:  ", got)
    print(f"{len(templates)} templates, {differ} differ")
    return differ > 0


def main():
    if sys.argv[1:2] == ["--compare"]:
        return compare(sys.argv[2], list(expressions(int(sys.argv[3]), int(sys.argv[4]))))
    if sys.argv[1:2] == ["--random"]:
        rows = [{"template": t} for t in expressions(int(sys.argv[2]), int(sys.argv[3]))]
    else:
        rows = [json.loads(line) for line in sys.stdin][1:]
        print(json.dumps({"context": CONTEXT, "now": NOW}, ensure_ascii=False))
    for row in rows:
        out = {"template": row["template"], **render(row["template"], CONTEXT)}
        print(json.dumps(out, ensure_ascii=False))
    return 0


if __name__ == "__main__":
    sys.exit(main())
