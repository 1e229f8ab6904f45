"""What a plugin's stage returns is copied and cut, or refused."""

import pytest
from structlog.testing import capture_logs

from nexus.routing.pipeline import Refused
from nexus.routing.stage.api import Refusal
from nexus.testing.builders import make_backend, make_intent
from tests.support.rogue_stages import Held, judging, new_intent


def test_a_backend_that_is_excluded_already_may_be_excluded_again(pipeline, stage):
    out = make_backend("gpu-1")
    again = stage(lambda intent: intent.exclude(out, stage="x", reason="that too"), name="x", priority=900)
    subject, intent = pipeline(stage(judging("exclude"), name="rogue"), again), new_intent()

    subject.run(intent)

    assert [(v.backend, v.stage) for v in intent.excluded] == [("gpu-1", "rogue"), ("gpu-1", "x")]


class OwnText(str):
    """A subclass of str whose conversion fails."""

    __slots__ = ()

    def __str__(self):
        raise RuntimeError


@pytest.mark.parametrize("reason", ["x" * 10_000, "ü" * 10_000, OwnText("y" * 10_000), "half a \ud83d pair" * 99])
def test_a_long_reason_is_cut(pipeline, stage, reason):
    subject, intent = pipeline(stage(judging("exclude", reason=reason), name="rogue")), new_intent()

    subject.run(intent)

    kept = intent.excluded[0].reason
    assert (type(kept), len(kept), kept[-1]) == (str, 501, "…")
    kept.encode()


def test_facts_are_copied(pipeline, stage):
    facts = {"required_tier": 3}
    subject, intent = pipeline(stage(judging("exclude", context=facts), name="rogue")), new_intent()
    subject.run(intent)

    facts["required_tier"] = object()

    assert intent.excluded[0].context == {"required_tier": 3}


class WithHeaders(Held):
    def __init__(self, told):
        super().__init__()
        self._told = told

    def headers(self, usage):
        return self._told


@pytest.mark.parametrize(
    "told",
    [
        None,
        ["X-Nexus-Cost"],
        {"X-Nexus-Cost": 5},
        {"X-Nexus-Cost": "1\r\nSet-Cookie: a=b"},
        {"X-Nexus-Cost\r\nX": "1"},
        {"Set-Cookie": "a=b"},
        {"X-Nexus-Backend": "another"},
        {"x-nexus-route-reason": "because"},
        {"X-Nexus-Cost": "x" * 10_000},
        {5: "1"},
    ],
)
def test_invalid_headers_are_not_sent(pipeline, stage, told):
    holds, backend = (
        {"good": WithHeaders({"X-Nexus-Ü".replace("Ü", "U"): "1"}), "rogue": WithHeaders(told)},
        make_backend(),
    )
    subject = pipeline(*(stage(name=name, holds=lambda *_, hold=hold: hold) for name, hold in holds.items()))
    reservation = subject.reserve(make_intent(backends=[backend]), backend)

    with capture_logs() as logs:
        assert reservation.headers(None) == {"X-Nexus-U": "1"}

    assert [(line["event"], line["stage"]) for line in logs] == [("hold_without_headers", "rogue")]


@pytest.mark.parametrize("facts", [None, [1], {"why": object()}, {"why": "x" * 100_000}, {1: {2: {3j: 4}}}])
def test_invalid_facts_are_replaced(pipeline, stage, facts):
    rogue = stage(name="rogue")
    rogue.explain = lambda _: facts
    subject = pipeline(rogue)

    with capture_logs() as logs:
        assert set(subject.stages[0].explain(new_intent())) == {"failed"}

    assert [(line["event"], line["part"]) for line in logs] == [("stage_not_explained", "explain")]


def test_a_valid_refusal_is_kept(pipeline, stage):
    refusal, backend = Refusal("no money", action="wait", context={"limit_usd": 1.5}, retry_in_s=2.0), make_backend()
    subject = pipeline(stage(name="budget", holds=lambda *_: refusal))

    refused = subject.reserve(make_intent(backends=[backend]), backend)

    assert isinstance(refused, Refused)
    assert (refused.stage, refused.refusal) == ("budget", refusal)
