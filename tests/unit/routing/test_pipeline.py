"""The loop over the stages: what is logged, counted and given back."""

import pytest
from structlog.testing import capture_logs

from nexus.errors import StageFailed
from nexus.routing.pipeline import Pipeline, Refused
from nexus.routing.stage.api import Hold, Refusal
from nexus.routing.stage.order import in_order
from nexus.testing.builders import make_backend, make_intent


@pytest.fixture
def pipeline(plugin):
    """Give a function that makes a pipeline of the given stages alone."""

    def make(*stages, **operator):
        places = in_order((), [(plugin(stage.name), stage) for stage in stages], **operator)
        return Pipeline(places, clock=(tick / 1000 for tick in range(1000)).__next__)

    return make


def excluding(*names, stage="one"):
    def exclude(intent):
        for backend in intent:
            if backend.name in names:
                intent.exclude(backend, stage=stage, reason="for the test")

    return exclude


def fail(*_):
    raise ValueError("broken")


def test_every_stage_is_timed_and_counted(pipeline, stage):
    subject = pipeline(stage(excluding("a"), name="one"), stage(name="two"))

    subject.run(make_intent(backends={"a": "local", "b": "local"}))

    assert [(s.place.name, s.counters.durations.sum, s.counters.exclusions_total) for s in subject.stages] == [
        ("one", pytest.approx(0.001), 1),
        ("two", pytest.approx(0.001), 0),
    ]
    # The clock ticks at each reading: what the pipeline does after the last stage counts, too.
    assert subject.counters.durations.sum == pytest.approx(0.003)


def test_a_stage_that_fails_is_logged(pipeline, stage):
    subject = pipeline(stage(fail, name="privacy"))

    with capture_logs() as logs, pytest.raises(StageFailed) as failure:
        subject.run(make_intent())

    assert (failure.value.plugin, failure.value.stage) == ("privacy", "privacy")
    assert [(entry["event"], entry["stage"]) for entry in logs] == [("stage_failed", "privacy")]
    assert subject.stages[0].counters.failures == {"reconcile": 1}


def test_verdicts_of_a_skipped_stage_have_no_effect(pipeline, stage):
    def breaks(intent):
        backend = next(iter(intent))
        intent.weigh(backend, 0.5, stage="two", reason="for the test")
        intent.avoid(backend, stage="two", reason="for the test")
        intent.exclude(backend, stage="two", reason="for the test")
        raise ValueError

    subject = pipeline(stage(excluding("a"), name="one", priority=1), stage(breaks, name="two", on_error="skip"))
    intent = make_intent(backends={"a": "local", "b": "local", "c": "local"})

    with capture_logs() as logs:
        subject.run(intent)

    assert intent.candidates == {"b", "c"}
    assert (intent.weights, intent.avoided, [v.backend for v in intent.excluded]) == ([], [], ["a"])
    assert [(entry["event"], entry["stage"]) for entry in logs] == [("stage_skipped", "two")]


def test_a_stage_that_only_observes_decides_nothing_and_is_recorded(pipeline, stage):
    subject = pipeline(stage(excluding("a", stage="test"), name="test"), observe=["test"])
    intent = make_intent(backends={"a": "local"})

    subject.run(intent)

    assert intent.candidates == {"a"}
    assert [(v.backend, v.reason) for v in intent.observed] == [("a", "for the test")]


def test_a_stage_that_only_observes_cannot_reject_by_failing(pipeline, stage):
    subject = pipeline(stage(fail, name="test", on_error="reject"), observe=["test"])
    intent = make_intent(backends={"a": "local"})

    subject.run(intent)

    assert intent.candidates == {"a"}


def test_a_stage_that_only_observes_holds_nothing(pipeline, stage):
    subject = pipeline(stage(name="test", holds=fail), observe=["test"])
    backend = make_backend()

    assert not isinstance(subject.reserve(make_intent(backends=[backend]), backend), Refused)


class Held(Hold):
    def __init__(self, *, fails=False):
        self.outcomes = []
        self._fails = fails

    def settle(self, outcome):
        self.outcomes.append(outcome)
        if self._fails:
            raise ValueError


def test_what_is_held_already_is_given_back_when_a_later_stage_refuses(pipeline, stage):
    held, backend = Held(), make_backend()
    refusal = Refusal("no money")
    subject = pipeline(
        stage(name="last", priority=2, holds=lambda *_: held), stage(name="first", priority=1, holds=lambda *_: refusal)
    )

    refused = subject.reserve(make_intent(backends=[backend]), backend)

    assert (refused.stage, refused.refusal) == ("first", refusal)
    assert [outcome.ending for outcome in held.outcomes] == ["rejected"]


def test_what_is_held_already_is_given_back_when_a_later_stage_fails(pipeline, stage):
    held, backend = Held(), make_backend()
    subject = pipeline(
        stage(name="last", priority=2, holds=lambda *_: held), stage(name="first", priority=1, holds=fail)
    )

    with pytest.raises(StageFailed):
        subject.reserve(make_intent(backends=[backend]), backend)

    assert len(held.outcomes) == 1


def test_a_stage_that_may_be_skipped_holds_nothing_when_it_fails(pipeline, stage):
    held, backend = Held(), make_backend()
    subject = pipeline(
        stage(name="last", priority=2, holds=lambda *_: held),
        stage(name="first", priority=1, holds=fail, on_error="skip"),
    )

    reservation = subject.reserve(make_intent(backends=[backend]), backend)
    reservation.settle("the outcome")

    assert held.outcomes == ["the outcome"]


def test_a_hold_that_fails_to_settle_does_not_keep_others_from_settling(pipeline, stage):
    broken, steady, backend = Held(fails=True), Held(), make_backend()
    subject = pipeline(
        stage(name="a", priority=2, holds=lambda *_: broken), stage(name="b", priority=1, holds=lambda *_: steady)
    )
    reservation = subject.reserve(make_intent(backends=[backend]), backend)

    with capture_logs() as logs:
        reservation.settle("the outcome")
        reservation.settle("the outcome")

    assert (broken.outcomes, steady.outcomes) == (["the outcome"], ["the outcome"])
    assert [(entry["event"], entry["stage"]) for entry in logs] == [("hold_not_settled", "a")]


def test_a_hold_that_fails_as_the_answer_begins_does_not_keep_others_from_learning_of_it(pipeline, stage):
    begun, backend = [], make_backend()

    class Broken(Held):
        def begin_answer(self, usage):
            raise RuntimeError

    class Steady(Held):
        def begin_answer(self, usage):
            begun.append(usage)

    subject = pipeline(
        stage(name="a", priority=2, holds=lambda *_: Broken()),
        stage(name="b", priority=1, holds=lambda *_: Steady()),
        stage(name="c", priority=0, holds=lambda *_: Held()),
    )
    reservation = subject.reserve(make_intent(backends=[backend]), backend)

    with capture_logs() as logs:
        reservation.begin_answer(None)

    assert begun == [None]
    assert [(entry["event"], entry["stage"]) for entry in logs] == [("hold_not_begun", "a")]


class HeldWithHeaders(Held):
    """Adds a header to the answer."""

    def headers(self, usage):
        if self._fails:
            raise RuntimeError("no words")
        return {"X-Nexus-Cost": f"{usage}"}


def test_headers_of_all_holds_are_merged_and_a_failure_loses_only_its_own(pipeline, stage):
    backend = make_backend()
    holds = {"a": HeldWithHeaders(), "b": HeldWithHeaders(fails=True), "c": Held()}
    subject = pipeline(
        *(
            stage(name=name, priority=position, holds=lambda *_, hold=hold: hold)
            for position, (name, hold) in enumerate(holds.items())
        )
    )
    reservation = subject.reserve(make_intent(backends=[backend]), backend)

    with capture_logs() as logs:
        told = reservation.headers("usage")

    assert told == {"X-Nexus-Cost": "usage"}
    assert [(entry["event"], entry["stage"]) for entry in logs] == [("hold_without_headers", "b")]


class Costing(Held):
    """Gives the cost of the attempt once it is settled."""

    def __init__(self, cost):
        super().__init__()
        self._cost = cost

    def cost_usd(self):
        assert self.outcomes
        return self._cost


@pytest.mark.parametrize(
    ("costs", "total", "failed"),
    [
        ([None, None], None, []),
        ([0.25, None, 0.5], 0.75, []),
        ([0], 0, []),
        ([-1.0, 0.5], 0.5, ["0"]),
        ([float("nan")], None, ["0"]),
        (["much"], None, ["0"]),
    ],
)
def test_what_an_attempt_has_cost_is_added_up_once_it_is_settled(pipeline, stage, costs, total, failed):
    backend, holds = make_backend(), [Costing(cost) for cost in costs]
    subject = pipeline(
        *(
            stage(name=str(number), priority=number, holds=lambda *_, hold=hold: hold)
            for number, hold in enumerate(holds)
        )
    )
    reservation = subject.reserve(make_intent(backends=[backend]), backend)

    with capture_logs() as logs:
        reservation.settle("the outcome")

    assert reservation.cost_usd() == total
    assert [entry["stage"] for entry in logs if entry["event"] == "hold_without_cost"] == failed


class Listening(Held):
    """Listens to the text of the answer."""

    def __init__(self, listen):
        super().__init__()
        self._listen = listen

    def listener(self):
        return self._listen


@pytest.fixture
def listener(pipeline, stage):
    """Give a function that returns the listener of an attempt, given the listeners of its stages."""

    def make(*listens):
        backend = make_backend()
        stages = (
            stage(name=f"stage-{number}", holds=lambda *_, listen=listen: Listening(listen))
            for number, listen in enumerate(listens)
        )
        return pipeline(*stages).reserve(make_intent(backends=[backend]), backend).listener()

    return make


def test_without_a_stage_that_listens_there_is_no_listener(listener):
    assert listener() is None


def test_every_stage_that_listens_gets_the_text(listener):
    first, second = [], []

    listener(first.append, None, second.append)("Hi")

    assert (first, second) == (["Hi"], ["Hi"])


def test_a_listener_that_fails_gets_no_more_text_and_does_not_disturb_the_answer(listener):
    texts = []

    with capture_logs() as logs:
        listen = listener(lambda text: texts.append(text) or text.broken)
        listen("Hi")
        listen("there")

    assert texts == ["Hi"]
    assert [line["event"] for line in logs] == ["hold_without_text"]
