"""The check that a plugin keeps to the API."""

import pytest

from nexus.testing.imports import assert_only_uses_api


@pytest.mark.parametrize(
    "line",
    [
        "from nexus.api import Reconciler",
        "import nexus.api",
        "from nexus import api",
        "from nexus.testing.fixtures import intent",
        "from .nexus import x",
        "import nexus_night",
    ],
)
def test_the_api_may_be_used(tmp_path, line):
    (tmp_path / "plugin.py").write_text(line)

    assert_only_uses_api(tmp_path)


@pytest.mark.parametrize(
    ("line", "named"),
    [
        ("from nexus.routing.intent import RoutingIntent", "nexus.routing.intent"),
        ("import nexus", "nexus"),
        ("import nexus.api_of_mine", "nexus.api_of_mine"),
        ("from nexus import errors", "nexus.errors"),
        ("def f():\n    import nexus.fleet.membership.registry", "nexus.fleet.membership.registry"),
    ],
)
def test_nothing_else_may(tmp_path, line, named):
    file = tmp_path / "plugin.py"
    file.write_text(line)

    with pytest.raises(AssertionError, match=rf"plugin.py:\d: {named}"):
        assert_only_uses_api(file)
