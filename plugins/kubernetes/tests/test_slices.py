"""Answers of the API server, decoded however the bytes are split, and refused if invalid."""

import json
from contextlib import suppress
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nexus_kubernetes.slices import ApiFailure, Lines, View, refusal

STREAM = b'{"a": 1}\n\n{"b": 2}\r\n{"c": 3}\n'


def event(kind, name, version, **more):
    return json.dumps(
        {"type": kind, "object": {"metadata": {"name": name, "resourceVersion": version}, **more}}
    ).encode()


@given(st.lists(st.integers(0, len(STREAM)), max_size=12))
def test_lines_do_not_depend_on_how_the_bytes_are_cut(cuts):
    edges = [0, *sorted(cuts), len(STREAM)]
    lines = Lines()

    found = [line for a, b in pairwise(edges) for line in lines.feed(STREAM[a:b])]

    assert [json.loads(line) for line in found] == [{"a": 1}, {"b": 2}, {"c": 3}]


def test_a_line_that_does_not_end_is_refused():
    lines = Lines(max_bytes=10)
    lines.feed(b"x" * 10)

    with pytest.raises(ApiFailure, match="more than 10 bytes"):
        lines.feed(b"x")


class TestViews:
    def test_a_list_may_have_no_items(self):
        view = View.listed(b'{"metadata": {"resourceVersion": "7"}, "items": null}')

        assert (view.slices, view.version) == ({}, "7")

    def test_each_event_leads_to_the_next_view(self):
        view = View({}, "1")

        for line in (event("ADDED", "x", "2"), event("ADDED", "y", "3"), event("MODIFIED", "x", "4", addressType="v")):
            view = view.after(line)
        gone = view.after(event("DELETED", "y", "5"))
        marked = gone.after(b'{"type": "BOOKMARK", "object": {"metadata": {"resourceVersion": "9"}}}')

        assert (sorted(view.slices), view.slices["x"].address_type, view.version) == (["x", "y"], "v", "4")
        assert (sorted(gone.slices), gone.version) == (["x"], "5")
        assert (marked.slices, marked.version) == (gone.slices, "9")

    def test_to_delete_what_is_not_there_changes_nothing(self):
        assert View({}, "1").after(event("DELETED", "x", "2")).slices == {}

    @given(st.binary(max_size=60))
    def test_whatever_comes_is_a_view_or_a_failure(self, line):
        for make in (View({}, "1").after, View.listed):
            with suppress(ApiFailure):
                assert isinstance(make(line), View)


def test_what_is_nested_too_deep_is_refused():
    with pytest.raises(ApiFailure, match="cannot be read"):
        View({}, "1").after(b'{"type": "ADDED", "object": {"x": ' + b"[" * 100_000)


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        (b'{"code": 403, "reason": "Forbidden", "message": "no"}', "403: Forbidden: no"),
        (b'{"message": "no"}', "502: no"),
        (b"<html>", "502: the answer is no Status"),
        (b"{}", "502"),
    ],
)
def test_a_refusal_has_the_message_of_the_server(answer, told):
    assert refusal(answer, 502) == told
