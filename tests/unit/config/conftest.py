"""Loads configurations from texts, each in a folder of its own."""

from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from nexus.config.loading import LoadedConfig, load

NOTHING: Mapping[str, str] = {}


@pytest.fixture
def loaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., LoadedConfig]:
    """Return a function that loads *toml* from ``nexus.toml`` in an empty working directory."""
    monkeypatch.chdir(tmp_path)

    def from_text(
        toml: str = "",
        *,
        env: Mapping[str, str] = NOTHING,
        overrides: Mapping[str, object] = NOTHING,
        insecure: bool = False,
    ) -> LoadedConfig:
        Path("nexus.toml").write_text(toml, encoding="utf-8")
        return load(Path("nexus.toml"), environ=env, overrides=overrides, insecure=insecure)

    return from_text
