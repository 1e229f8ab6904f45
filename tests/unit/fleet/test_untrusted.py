import structlog

from nexus.domain.model import ModelFacts
from nexus.fleet.untrusted import MAX_MODELS, accepted_models, is_plain_name


def test_names_with_control_characters_or_without_end_are_dropped_with_a_warning():
    names = ["good", "bad\nname", "bad\x1b[31m", "", "x" * 257, "\ud800"]

    with structlog.testing.capture_logs() as events:
        accepted = accepted_models((ModelFacts(name=name) for name in names), backend="gpu")

    assert list(accepted) == ["good"]
    assert [(e["event"], e["dropped"]) for e in events] == [("models_dropped", 5)]


def test_the_number_of_models_is_limited():
    accepted = accepted_models((ModelFacts(name=f"m{n}") for n in range(MAX_MODELS + 10)), backend="gpu")

    assert len(accepted) == MAX_MODELS


def test_of_two_models_of_one_name_the_first_counts():
    twice = [ModelFacts(name="m", context_length=1), ModelFacts(name="m", context_length=2)]

    assert accepted_models(twice, backend="gpu")["m"].context_length == 1


def test_a_name_may_have_256_characters_and_be_in_any_script():
    assert is_plain_name("模" * 256)
