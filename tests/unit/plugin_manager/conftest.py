"""Makes distributions that exist for one test only."""

import sys
from collections.abc import Callable
from pathlib import Path
from textwrap import dedent

import pytest

from nexus.plugin_manager import finding


@pytest.fixture(autouse=True)
def nothing_is_installed_but_what_tests_install(monkeypatch: pytest.MonkeyPatch) -> None:
    """Hide the plugins that are installed on this machine."""
    real = finding.entry_points
    monkeypatch.setattr(
        finding, "entry_points", lambda **asked: [e for e in real(**asked) if e.value.startswith("nexus_test_")]
    )


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., str]:
    """Return a function that installs one plugin, and returns the name of its module."""
    monkeypatch.setattr(sys, "path", [*sys.path])
    before = set(sys.modules)

    def install_plugin(
        name: str,
        code: str,
        *,
        distribution: str | None = None,
        version: str = "0.3",
        requires: str = "",
    ) -> str:
        distribution = distribution or f"nexus-proxy-{name}"
        site = tmp_path / distribution
        module = f"nexus_test_{distribution.replace('-', '_')}"
        metadata = site / f"{distribution.replace('-', '_')}-{version}.dist-info"
        metadata.mkdir(parents=True)
        (site / f"{module}.py").write_text("from nexus.api import *\n" + dedent(code))
        needs = f"Requires-Dist: {requires}\n" if requires else ""
        (metadata / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {distribution}\nVersion: {version}\n{needs}")
        (metadata / "entry_points.txt").write_text(f"[nexus]\n{name} = {module}\n")
        monkeypatch.syspath_prepend(str(site))
        return module

    yield install_plugin
    for module in set(sys.modules) - before:
        if module.startswith("nexus_test_"):
            del sys.modules[module]
