"""What the documentation shows works: its configurations load, its plugin routes, its links lead somewhere."""

import re
import tomllib
from datetime import UTC, datetime

import msgspec
import pytest

from nexus.config.schema import Config
from nexus.domain.backend import Backend, Status
from nexus.domain.backend_load import BackendLoad
from nexus.domain.fleet import FleetSnapshot
from nexus.domain.request import Endpoint, Requirements
from nexus.fleet.kinds import KINDS
from nexus.routing.intent import RoutingIntent


def blocks(root, language):
    """Each literal block of *language*, with its page."""
    pattern = rf"^( *)\.\. code-block:: {language}\n\n((?:\1   .*\n|\n)+)"
    for path in [*root.glob("*.rst"), *(root / "docs").rglob("*.rst")]:
        for indent, text in re.findall(pattern, path.read_text(), re.MULTILINE):
            yield path.name, re.sub(rf"^{indent}   ", "", text, flags=re.MULTILINE)


def test_every_configuration_shown_is_one(root):
    shown = [(where, tomllib.loads(text)) for where, text in blocks(root, "toml")]

    for where, table in shown:
        table.pop("plugins", None)
        try:
            msgspec.convert(table, Config)
        except msgspec.ValidationError as exc:
            pytest.fail(f"{where}: {exc}")
    assert len(shown) > 8


def test_every_python_shown_compiles(root):
    shown = list(blocks(root, "python"))

    for where, text in shown:
        compile(text, where, "exec")
    assert shown != []


@pytest.fixture
def intent():
    def make(hour):
        backends = tuple(
            Backend(
                id=name,
                name=name,
                url=f"http://{name}",
                kind=KINDS[kind],
                zone=zone,
                status=Status.HEALTHY,
                load=BackendLoad(),
            )
            for name, kind, zone in (("gpu-1", "ollama", "restricted"), ("openai", "openai", "open"))
        )
        return RoutingIntent(
            request_id="r",
            endpoint=Endpoint("openai.chat", "openai", "/v1/chat/completions"),
            requirements=Requirements(model="m"),
            resolved_model="m",
            snapshot=FleetSnapshot(backends=backends),
            survivors={backend.name: (backend, "m") for backend in backends},
            headers={},
            policies=(),
            received_unix_s=datetime(2026, 5, 1, hour, tzinfo=UTC).timestamp(),
        )

    return make


@pytest.mark.parametrize(("hour", "left"), [(3, {"gpu-1"}), (7, {"gpu-1"}), (8, {"gpu-1", "openai"}), (18, {"gpu-1"})])
def test_the_plugin_of_the_tutorial_lets_the_cloud_rest_at_night(tutorial_plugin, intent, hour, left):
    asked = intent(hour)
    config = tutorial_plugin.nexus_config()()
    (stage,) = tutorial_plugin.nexus_reconcilers(config)

    stage.reconcile(asked)

    assert asked.candidates == left


def test_the_plugin_of_the_tutorial_takes_the_table_that_it_shows(tutorial_plugin, root):
    tables = [tomllib.loads(text).get("plugins", {}) for _, text in blocks(root, "toml")]
    (table,) = [t["no_cloud_at_night"] for t in tables if "no_cloud_at_night" in t]

    config = msgspec.convert(table, tutorial_plugin.nexus_config())

    assert (config.first_hour, config.last_hour) == (0, 0)


def test_every_file_that_the_readme_names_is_there(root):
    text = (root / "README.rst").read_text()
    named = re.findall(r"``([\w./-]+/|[\w./-]+\.(?:py|ini|rst))``|<([A-Z]+(?:\.rst)?)>", text)

    missing = [
        name for pair in named for name in pair if not any((at / name).exists() for at in (root, root / "tests"))
    ]

    assert missing == []


def test_the_systemd_unit_waits_longer_than_nexus_does(root):
    unit = (root / "contrib/systemd/nexus-proxy.service").read_text()
    (timeout,) = re.findall(r"^TimeoutStopSec=(\d+)$", unit, re.MULTILINE)

    assert int(timeout) > Config().server.drain_timeout_seconds


def test_no_page_is_left_out_of_the_index(root):
    listed = set(re.findall(r"^   ((?:\w+/)+[\w-]+)$", (root / "docs/index.rst").read_text(), re.MULTILINE))
    there = {
        str(path.relative_to(root / "docs").with_suffix(""))
        for path in (root / "docs").rglob("*.rst")
        if "_build" not in path.parts
    }

    assert there == listed | {"index"}
