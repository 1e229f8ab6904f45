"""Names are resolved once for each snapshot, and whether there is a choice of backends is known before routing."""

from concurrent.futures import ThreadPoolExecutor

import pytest

from nexus.domain.backend import Status
from nexus.domain.naming import Naming
from nexus.routing.model_names.resolver import Resolver
from nexus.testing.builders import make_backend, make_fleet

FLEET = make_fleet(
    make_backend("gpu-1", models=["llama3", "alone"]),
    make_backend("gpu-2", models=["llama3", "spare"], status=Status.UNHEALTHY),
    make_backend("gpu-3", models=["spare"]),
)
ALIASES = {"chat": "llama3", "either": ("alone", "spare"), "single": "alone"}


def resolver(fallbacks=None):
    return Resolver(Naming.of(ALIASES), fallbacks or {})


def test_a_name_is_resolved_once_for_each_snapshot():
    subject, grown = resolver(), make_fleet(*FLEET.backends)

    first = subject.resolve("llama3", FLEET)

    assert subject.resolve("llama3", FLEET) is first
    assert subject.resolve("llama3", grown) is not first


def test_the_cache_is_bounded(monkeypatch):
    monkeypatch.setattr("nexus.routing.model_names.resolver.MAX_CACHED_RESOLUTIONS", 10)
    subject = resolver()

    for number in range(100):
        subject.resolve(f"model-{number}", FLEET)

    assert len(subject._known.resolutions) <= 10


@pytest.mark.parametrize(
    ("model", "has_choice"),
    [
        ("llama3", True),
        ("chat", True),
        ("either", True),
        ("alone", False),
        ("single", False),
        ("unknown", False),
        ("", True),
    ],
)
def test_there_is_a_choice_if_several_backends_have_the_model_healthy_or_not(model, has_choice):
    assert resolver().has_choice(FLEET, model) is has_choice


@pytest.mark.parametrize(("fallback", "has_choice"), [("spare", True), ("alone", False), ("unknown", False)])
def test_there_is_a_choice_if_several_backends_have_a_fallback(fallback, has_choice):
    assert resolver({"alone": (fallback,)}).has_choice(FLEET, "alone") is has_choice
    assert resolver({"alone": (fallback,)}).has_choice(FLEET, "single") is has_choice


def test_threads_never_get_what_a_name_stands_for_in_another_snapshot():
    subject, fleets = resolver(), [make_fleet(make_backend(f"gpu-{number}")) for number in range(8)]

    def resolve(number):
        fleet = fleets[number % len(fleets)]
        return list(subject.resolve("llama3", fleet).candidates) == [fleet.backends[0].name]

    with ThreadPoolExecutor(4) as threads:
        assert all(threads.map(resolve, range(2000)))
