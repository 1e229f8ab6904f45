"""Resolvers that a test replaces, and a cache of names that begins empty."""

import pytest

from nexus.dialing import lookups, names


@pytest.fixture(autouse=True)
def forgotten_names():
    names._names.clear()
    yield
    names._names.clear()


@pytest.fixture
def name_servers(monkeypatch):
    """Replace both resolvers: that of the name servers and that of the system."""

    def play(ours, systems):
        monkeypatch.setattr(lookups, "ask_name_servers", ours)
        monkeypatch.setattr(lookups, "ask_system", systems)

    return play
