"""What plugins rely on does not change without news of it."""

import importlib.util
import re
import sys

import pytest


@pytest.fixture
def api(root):
    """Give the description of the API as it is now, and as it was at the last release."""
    spec = importlib.util.spec_from_file_location("describe_api", root / "tests/typing/describe_api.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return set(module.described()), set((root / "tests/typing/released_api.txt").read_text().split("\n")) - {""}


def test_what_differs_from_the_last_release_is_in_the_news(api, root):
    now, released = api
    news = "\n".join(path.read_text() for path in sorted((root / "changes.d").glob("*.rst")))

    names = sorted({re.split(r"[.(]", line)[0] for line in now ^ released})

    unsaid = [name for name in names if not re.search(rf"``(nexus\.api\.)?{name}\b", news)]
    assert unsaid == [], (
        "nexus.api or a hook has changed: say so to the authors of plugins, with ``the name``, in changes.d/"
        f" ({', '.join(sorted(now ^ released))})"
    )


@pytest.mark.skipif(sys.version_info >= (3, 13), reason="one interpreter is enough to run it")
def test_the_plugin_that_type_checkers_see_is_one(root, monkeypatch):
    monkeypatch.syspath_prepend(str(root / "tests/typing"))
    spec = importlib.util.spec_from_file_location("typed_plugin", root / "tests/typing/api.py")
    module = importlib.util.module_from_spec(spec)

    spec.loader.exec_module(module)

    assert {name for name in vars(module) if name.startswith("nexus_")} == hooks()


def hooks():
    from nexus import hookspecs

    return {name for name in vars(hookspecs) if name.startswith("nexus_")}
