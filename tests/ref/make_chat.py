#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-3.0-or-later
"""What Jinja2 makes of every template of model/chat_formats.c, set up as transformers sets it up.

    build/release/tests/test_chat --jinja | tests/ref/make_chat.py > tests/ref/chat.jsonl

Reads {"template", "jinja"} lines and writes each again, followed by one line for each conversation
with the text, or "error": true where the template refuses. Made with Jinja2 3.1.
"""
import json
import sys

from jinja2.exceptions import TemplateError
from jinja2.sandbox import ImmutableSandboxedEnvironment

EOS = "<|endoftext|>"
CONVERSATIONS = [
    ("user", [("user", "Hello")]),
    ("user answer", [("user", "What is 2+2?"), ("assistant", "4")]),
    ("system", [("system", "Be brief."), ("user", "Why?"), ("assistant", "Because.")]),
    ("two turns", [("user", "A\n\nB"), ("assistant", " C "), ("user", "Ünïcode 🦙?"),
                   ("assistant", "日本語")]),
    ("blanks", [("user", " \n\t\u3000x y\u00a0\u2003 "), ("assistant", "\n\n")]),
    ("markup", [("user", "<|user|><|im_end|></s><end_of_turn>"),
                ("assistant", "{{ 1 }} <|end|> '\"\\n")]),
    ("empty texts", [("user", ""), ("assistant", "")]),
    ("system late", [("user", "a"), ("system", "b"), ("user", "c")]),
    ("user twice", [("user", "a"), ("user", "b"), ("assistant", "c")]),
    ("assistant first", [("assistant", "a"), ("user", "b")]),
    ("unknown role", [("user", "a"), ("tool", "b")]),
    ("system only", [("system", "a")]),
    ("nothing", []),
]


def raise_exception(message):
    raise TemplateError(message)


env = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True,
                                    extensions=["jinja2.ext.loopcontrols"])
env.globals["raise_exception"] = raise_exception
for line in sys.stdin:
    row = json.loads(line)
    template = env.from_string(row["jinja"])
    print(json.dumps(row))
    for name, turns in CONVERSATIONS:
        messages = [{"role": r, "content": c} for r, c in turns]
        for prompt in (False, True):
            out = {"template": row["template"], "name": name, "messages": messages,
                   "add_generation_prompt": prompt}
            try:
                out["text"] = template.render(messages=messages, add_generation_prompt=prompt,
                                              eos_token=EOS, bos_token="")
            except TemplateError:
                out["error"] = True
            print(json.dumps(out, ensure_ascii=False))
