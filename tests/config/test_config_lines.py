"""Where keys stand: headers, dotted and quoted keys, inline tables, and texts that look like keys."""

from __future__ import annotations

import tomllib

import pytest

from controller.config.lines import key_lines

TRICKY = '''# [not.a.table]
top = "[no]" # top2 = 1
[site] # comment = 1
"quoted key" = 1
'lit.eral' = 2
a . "b.c" . d = 3
text = """
fake = 1
[fake]
\\""" still = 2
"""
lit = \'\'\'
x = 1\'\'\'\'
list = [ # [in]
  "k = 1", [2, 3],
  { inner = 1, deep = { er = 2 } },
]
after = { x = 1, y.z = [1, { no = 1 }], "w" = { v = 1 } }
when = 2026-11-22 07:32:00Z

[[bands]]
from = 1
[[bands]]
from = 2
[ station . CP001 ]
evse.1 = {}
evse.2 = { max = "}", min = '#' }
[site.below]
'''


def test_every_kind_of_key_is_found():
    assert key_lines(TRICKY) == {
        ("top",): 2,
        ("site",): 3,
        ("site", "quoted key"): 4,
        ("site", "lit.eral"): 5,
        ("site", "a"): 6,
        ("site", "a", "b.c"): 6,
        ("site", "a", "b.c", "d"): 6,
        ("site", "text"): 7,
        ("site", "lit"): 12,
        ("site", "list"): 14,
        ("site", "after"): 18,
        ("site", "after", "x"): 18,
        ("site", "after", "y"): 18,
        ("site", "after", "y", "z"): 18,
        ("site", "after", "w"): 18,
        ("site", "after", "w", "v"): 18,
        ("site", "when"): 19,
        ("bands",): 23,
        ("bands", "from"): 24,
        ("station",): 25,
        ("station", "CP001"): 25,
        ("station", "CP001", "evse"): 26,
        ("station", "CP001", "evse", "1"): 26,
        ("station", "CP001", "evse", "2"): 27,
        ("station", "CP001", "evse", "2", "max"): 27,
        ("station", "CP001", "evse", "2", "min"): 27,
        ("site", "below"): 28,
    }


def test_the_tricky_text_is_toml():
    assert tomllib.loads(TRICKY)["site"]["lit"] == "x = 1'"


@pytest.mark.parametrize(
    ("source", "lines"),
    [
        ("", {}),
        ("\n# only\n", {}),
        ("a=1", {("a",): 1}),
        ("\n[t]\r\na = 1\r\n", {("t",): 2, ("t", "a"): 3}),
        ('a = """\n\n"""\nb = 1', {("a",): 1, ("b",): 4}),
    ],
)
def test_small_files(source, lines):
    assert key_lines(source) == lines


def test_a_key_of_a_thousand_dots_costs_little():
    source = ".".join("a" * 1000) + " = 1"
    assert max(len(path) for path in key_lines(source)) == 8
