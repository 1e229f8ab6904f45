"""Models that only one healthy backend has."""

from nexus.admin.backends.last_holders import last_holders, only_at
from nexus.domain.backend import Status
from nexus.testing.builders import make_backend, make_fleet


def test_a_model_of_two_healthy_backends_is_nothing_to_warn_of():
    fleet = make_fleet(make_backend("a", models=("x", "y")), make_backend("b", models=("y", "z")))

    assert last_holders(fleet) == {"a": ("x",), "b": ("z",)}


def test_a_draining_or_failed_backend_cannot_replace_another():
    for status in set(Status) - {Status.HEALTHY}:
        fleet = make_fleet(make_backend("a", models=("x",)), make_backend("b", models=("x",), status=status))

        assert (only_at(fleet, "a"), only_at(fleet, "b")) == (("x",), ())


def test_another_spelling_is_the_same_model():
    fleet = make_fleet(
        make_backend("a", models=("llama3",)), make_backend("b", kind="ollama", models=("llama3:latest",))
    )

    assert only_at(fleet, "a") == ()


def test_a_backend_that_takes_any_name_can_serve_it():
    fleet = make_fleet(make_backend("a", models=("x",)), make_backend("b", models=(), any_model="always"))

    assert last_holders(fleet) == {}
