"""A fault names the line to change, however the file is written."""

import pytest

from nexus.config.faults import Fault, Origin, described

TOML = """\
queue.max_size = 3
[server]
port = 8000
"api_keys" = []

[ routing . weights ]
load = 30
[[backends]]
name = "a"
[backends.models."llama3:8b"]
vision = true
[[backends]]
name = "b"
models = { x = { vision = 1 } }
"""


@pytest.mark.parametrize(
    ("path", "line"),
    [
        (("queue", "max_size"), 1),
        (("server",), 2),
        (("server", "port"), 3),
        (("server", "api_keys", 0), 4),
        (("server", "host"), 2),
        (("routing", "weights"), 6),
        (("routing", "weights", "load"), 7),
        (("backends", 0, "name"), 9),
        (("backends", 0, "models", "llama3:8b", "vision"), 11),
        (("backends", 1), 12),
        (("backends", 1, "name"), 13),
        (("backends", 1, "models", "x", "vision"), 14),
        (("backends", 1, "url"), 12),
    ],
)
def test_the_line_of_a_key_or_of_its_table_is_found(path, line):
    assert described(Fault(path, "wrong"), Origin("f", TOML)).endswith(f"(line {line})")


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ((), "f: wrong; do this"),
        (("x",), "f: wrong - at `x`; do this"),
        (("a", "b"), "f: [a]: wrong - at `b`; do this"),
        (("a", "b", "c"), "f: [a.b]: wrong - at `c`; do this"),
        (("a", 1, "b"), "f: a[1]: wrong - at `b`; do this"),
        (("a", "b", 0), "f: [a]: wrong - at `b[0]`; do this"),
    ],
)
def test_a_fault_reads_as_source_table_problem_key_and_remedy(path, text):
    assert described(Fault(path, "wrong", "do this"), Origin("f")) == text


def test_a_fault_without_a_line_names_none():
    assert "line" not in described(Fault(("gone",), "wrong"), Origin("f", TOML))
