import gc
import sys

import pytest

from nexus.app.process.interpreter import imported

LARGE = "rows = [[n] for n in range(200_000)]\n"


@pytest.fixture
def collections():
    """The generations that the collector looked at, each time it did."""
    seen = []

    def note(phase, details):
        if phase == "start":
            seen.append(details["generation"])

    gc.callbacks.append(note)
    yield seen
    gc.callbacks.remove(note)
    gc.unfreeze()


@pytest.fixture
def module(tmp_path, monkeypatch):
    """Return a function that writes a module with a text, and returns its name."""
    monkeypatch.syspath_prepend(tmp_path)

    def write(text):
        (tmp_path / "imported_once.py").write_text(text)
        return "imported_once"

    yield write
    sys.modules.pop("imported_once", None)


def test_the_collector_looks_at_nothing_that_is_imported(module, collections):
    name = module(LARGE)

    rows = imported(name).rows

    assert len(rows) == 200_000
    assert collections == []
    assert gc.get_freeze_count() > 200_000
    assert gc.isenabled()


def test_a_module_that_is_there_is_returned_as_it_is(module, collections):
    first = imported(module("rows = []\n"))
    gc.unfreeze()

    assert imported(first.__name__) is first
    assert gc.get_freeze_count() == 0


def test_after_a_module_that_fails_the_collector_works_on(module, collections):
    with pytest.raises(ZeroDivisionError):
        imported(module("1 / 0\n"))

    assert gc.isenabled()
