"""The contract for stages: subclass :class:`ReconcilerContract` as ``TestSomething``."""

import socket
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import cache, wraps
from importlib.metadata import packages_distributions
from time import perf_counter
from typing import Any, Final
from unittest.mock import patch

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nexus.containment import described, interrupts_noted, is_interrupt
from nexus.domain.backend import Backend
from nexus.domain.measure import Measure, check_measure
from nexus.domain.outcome import AttemptOutcome, Ending
from nexus.domain.request import Requirements, TokenUsage
from nexus.plugin_manager import Plugin
from nexus.routing.intent import RoutingIntent, Verdict
from nexus.routing.pipeline import Pipeline, Reservation
from nexus.routing.stage.api import Hold, Reconciler, Refusal
from nexus.routing.stage.order import in_order
from nexus.routing.stage.validate import valid_cost, valid_facts, valid_headers, valid_refusal, valid_sentences
from nexus.testing.alike import alike, without_hints, without_marks
from nexus.testing.builders import make_backend, make_intent
from nexus.testing.strategies import fleets, requirements

MAX_S: Final = 0.005
"""The time limit of a stage for a fleet of twenty."""

HINTS: Final = (
    "x-nexus-explain",
    "x-nexus-flexible",
    "x-nexus-priority",
    "x-nexus-privacy",
    "x-nexus-queue-timeout",
    "x-nexus-strict",
)
"""Headers with which clients give hints to stages."""

USAGE: Final = TokenUsage(prompt_tokens=7, completion_tokens=3)
MAX_FACTS_BYTES: Final = 16_384
MAX_SENTENCE_CHARACTERS: Final = 500

modestly = settings(
    max_examples=30,
    deadline=None,
    # Each subclass runs the same test methods.
    suppress_health_check=[HealthCheck.differing_executors, HealthCheck.too_slow],
)

intents: Final = st.builds(
    lambda backends, requirements, hour, headers: (
        lambda policy: make_intent(
            backends=backends,
            requirements=requirements,
            model=requirements.model,
            received_at=f"2026-05-01T{hour:02}:30",
            headers=headers,
            policy=policy,
        )
    ),
    fleets(),
    requirements(),
    st.integers(0, 23),
    st.sampled_from([{}, {"x-nexus-strict": "true"}, {"x-nexus-flexible": "true"}])
    | st.dictionaries(st.sampled_from(HINTS), st.text(max_size=20) | st.sampled_from(["true", "0", "restricted"])),
)
"""Functions that make an intent from a policy; two calls make equal intents."""


def _blamed(test: Callable[..., None]) -> Callable[..., None]:
    """Turn a BaseException that a stage raises into a failure that names the stage."""

    @wraps(test)
    def contained(self: "ReconcilerContract", *args: Any, **kwargs: Any) -> None:
        with interrupts_noted():
            try:
                test(self, *args, **kwargs)
            except Exception:
                raise
            except BaseException as exc:
                if is_interrupt(exc) or type(exc).__module__.partition(".")[0] in FRAMEWORKS:
                    raise
                raise AssertionError(
                    f"{_stage_of(self)} raised {described(exc)}; a stage must only raise subclasses of Exception"
                ) from exc

    return contained


FRAMEWORKS: Final = ("_pytest", "pytest", "hypothesis")
"""Packages whose own exceptions skip a test or end it early."""


class ReconcilerContract(ABC):
    """A stage only narrows, explains itself, is deterministic, keeps to what it declares, does no I/O, releases what it
    holds, and is quick.

    A running proxy handles a violation as the stage's ``on_error`` says.
    """

    plugin: str = ""
    """The name of the plugin, which prefixes its measures; empty: the name of the stage."""
    policy: Mapping[str, Any] = {}
    """The decoded policy keys to test with, by plugin: ``{"privacy": PrivacyKeys(...)}``."""

    @abstractmethod
    def make(self) -> Reconciler:
        """Return a new stage."""

    @modestly
    @given(build=intents)
    @_blamed
    def test_it_never_adds_a_candidate(self, build: Callable[..., RoutingIntent]) -> None:
        intent = build(self.policy)
        before = intent.candidates

        self.make().reconcile(intent)

        assert intent.candidates <= before

    @modestly
    @given(build=intents)
    @_blamed
    def test_it_explains_in_its_own_name_whatever_it_says(self, build: Callable[..., RoutingIntent]) -> None:
        intent, stage = build(self.policy), self.make()
        before = intent.candidates

        stage.reconcile(intent)

        verdicts = _verdicts(intent)
        assert {verdict.stage for verdict in verdicts} <= {stage.name}
        assert all(verdict.reason.strip() for verdict in verdicts)
        assert {verdict.backend for verdict in verdicts} <= before
        assert before - intent.candidates == {verdict.backend for verdict in intent.excluded}

    @modestly
    @given(build=intents)
    @_blamed
    def test_the_same_request_is_judged_the_same_way_twice(self, build: Callable[..., RoutingIntent]) -> None:
        stage, first, second = self.make(), build(self.policy), build(self.policy)

        stage.reconcile(first)
        stage.reconcile(second)

        assert first.candidates == second.candidates
        assert _verdicts(first) == _verdicts(second)

    @modestly
    @given(build=intents)
    @_blamed
    def test_it_does_not_look_at_what_others_excluded(self, build: Callable[..., RoutingIntent]) -> None:
        stage, whole, narrowed = self.make(), build(self.policy), build(self.policy)
        for backend in list(narrowed)[::2]:
            narrowed.exclude(backend, stage="another", reason="for the test")

        stage.reconcile(whole)
        left = narrowed.candidates
        stage.reconcile(narrowed)

        assert narrowed.candidates == whole.candidates & left

    @modestly
    @given(build=intents, other=requirements())
    @_blamed
    def test_its_verdicts_depend_only_on_what_it_declares(
        self, build: Callable[..., RoutingIntent], other: Requirements
    ) -> None:
        stage, first = self.make(), without_hints(build(self.policy))
        if stage.depends_on is None:
            return
        first, second = alike(first, other, stage.depends_on)

        stage.reconcile(first)
        stage.reconcile(second)

        assert _verdicts(first) == _verdicts(second), (
            "its verdicts on one request would be remembered for another one that it judges differently;"
            " depends_on must name what they depend on, or be None"
        )

    @modestly
    @given(build=intents)
    @_blamed
    def test_it_decides_nothing_when_it_says_so(self, build: Callable[..., RoutingIntent]) -> None:
        stage, intent = self.make(), without_hints(build(self.policy))
        is_idle, is_quiet = stage.is_idle(intent.policies), stage.is_quiet(intent.snapshot, intent.requirements)
        may_hold, offers = type(stage).may_hold is not Reconciler.may_hold or not is_idle, intent.offers()

        stage.reconcile(intent)

        assert not ((is_idle or is_quiet) and _verdicts(intent)), "is_idle or is_quiet says that it gives no verdict"
        judged = {verdict.backend for verdict in _verdicts(intent)}
        for backend, model in offers:
            assert backend.name not in judged or stage.may_judge(backend, model), "may_judge says that it does not"
        for backend, model in intent.offers():
            if is_quiet or not may_hold or not stage.may_hold(backend, model):
                assert stage.reserve(intent, backend) is None, "by what it declares, it holds nothing"

    @modestly
    @given(build=intents)
    @_blamed
    def test_it_decides_nothing_without_the_marks_that_it_wants(self, build: Callable[..., RoutingIntent]) -> None:
        stage = self.make()
        if not stage.wants_prompt_blocks:
            return
        intent = without_marks(without_hints(build(self.policy)))

        stage.reconcile(intent)

        assert not _verdicts(intent), "a stage that wants prompt_blocks is not called for a prompt that has none"
        for backend in intent:
            assert stage.reserve(intent, backend) is None, "it holds nothing for a prompt without prompt_blocks"

    @modestly
    @given(build=intents)
    @_blamed
    def test_counting_its_verdicts_changes_none(self, build: Callable[..., RoutingIntent]) -> None:
        stage, intent = self.make(), build(self.policy)
        stage.reconcile(intent)
        before = intent.candidates, _verdicts(intent)

        with no_sockets():
            count: Callable[[RoutingIntent], object] = stage.count
            returned = count(intent)

        assert returned is None, "count must return None"
        if not stage.may_count(without_hints(intent)):
            counted = _counters(stage)
            stage.count(without_hints(intent))
            assert _counters(stage) == counted, "may_count says that it counts nothing"
        assert (intent.candidates, _verdicts(intent)) == before

    @modestly
    @given(build=intents)
    @_blamed
    def test_it_opens_no_socket(self, build: Callable[..., RoutingIntent]) -> None:
        stage, intent = self.make(), build(self.policy)

        with no_sockets():
            stage.reconcile(intent)

    @modestly
    @given(build=intents, ending=st.sampled_from(Ending), usage=st.none() | st.just(USAGE))
    @_blamed
    def test_what_it_holds_can_be_given_back_however_the_attempt_ended(
        self, build: Callable[..., RoutingIntent], ending: Ending, usage: TokenUsage | None
    ) -> None:
        stage, intent = self.make(), build(self.policy)
        stage.reconcile(intent)

        for backend in intent:
            with no_sockets():
                held: object = stage.reserve(intent, backend)
                assert held is None or isinstance(held, Hold | Refusal), (
                    "reserve must return a nexus.api.Hold, a Refusal or None"
                )
                if isinstance(held, Refusal):
                    valid_refusal(held)
                elif isinstance(held, Hold):
                    _use(held, _ended(backend, intent, ending, usage))

    @modestly
    @given(build=intents)
    @_blamed
    def test_it_explains_itself_in_json_and_touches_nothing(self, build: Callable[..., RoutingIntent]) -> None:
        stage, intent = self.make(), build(self.policy)
        stage.reconcile(intent)
        before = intent.candidates, _verdicts(intent)

        with no_sockets():
            valid_facts(stage.explain(intent), MAX_FACTS_BYTES)
            valid_facts(stage.report(), MAX_FACTS_BYTES)
            valid_sentences(stage.describe(intent), MAX_SENTENCE_CHARACTERS)
            refusals = [stage.would_refuse(intent, backend) for backend in intent]

        assert all(refusal is None or valid_refusal(refusal) for refusal in refusals)
        assert (intent.candidates, _verdicts(intent)) == before

    @_blamed
    def test_its_measures_are_named_after_its_plugin_and_can_be_asked_for_again(self) -> None:
        stage = self.make()

        with no_sockets():
            first, second = tuple(stage.measures()), tuple(stage.measures())

        for measure in first:
            check_measure(measure, self.plugin or stage.name)
        assert len({measure.name for measure in first}) == len(first), "two of its measures have the same name"
        assert [measure.name for measure in first] == [measure.name for measure in second]

    @modestly
    @given(build=intents)
    @_blamed
    def test_nexus_has_no_objection_to_it(self, build: Callable[..., RoutingIntent]) -> None:
        stage, intent = self.make(), build(self.policy)
        plugin = Plugin(self.plugin or stage.name, "under test", "", {})
        pipeline = Pipeline(in_order((), [(plugin, stage)]))

        pipeline.run(intent)
        for backend in intent:
            held = pipeline.reserve(intent, backend)
            if isinstance(held, Reservation):
                held.settle(_ended(backend, intent, Ending.FINISHED, USAGE))

        assert pipeline.stages[0].counters.failures == {}, "it failed; the log says where"

    @_blamed
    def test_it_survives_an_empty_fleet(self) -> None:
        intent = make_intent(policy=self.policy)

        self.make().reconcile(intent)

        assert intent.candidates == set()

    @_blamed
    def test_it_is_quick(self) -> None:
        stage = self.make()

        best_s = min(self._seconds(stage) for _ in range(5))

        assert best_s < MAX_S

    def _seconds(self, stage: Reconciler) -> float:
        intent = make_intent(backends=[make_backend(f"gpu-{number}") for number in range(20)], policy=self.policy)
        began = perf_counter()
        stage.reconcile(intent)
        return perf_counter() - began


@contextmanager
def no_sockets() -> Iterator[None]:
    """Fail on any attempt to open a socket."""

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("a stage must not open a socket: it decides from the intent alone")

    with patch.object(socket.socket, "__init__", refuse), patch.object(socket, "getaddrinfo", refuse):
        yield


def _stage_of(contract: "ReconcilerContract") -> str:
    """Describe the stage under test, with its plugin and distribution."""
    made = type(contract).make
    name = plugin = contract.plugin
    module = made.__module__
    with suppress(BaseException):
        stage = contract.make()
        name, module = stage.name, type(stage).__module__
    distributions = _distributions().get(module.partition(".")[0], ())
    return f"the stage '{name}' of plugin '{plugin or name}' ({', '.join(distributions) or module})"


@cache
def _distributions() -> Mapping[str, list[str]]:
    # Cached: it reads the metadata of every installed distribution.
    return packages_distributions()


def _verdicts(intent: RoutingIntent) -> list[Verdict]:
    return [*intent.excluded, *intent.avoided, *intent.weights]


def _counters(stage: Reconciler) -> list[Measure]:
    return [measure for measure in stage.measures() if measure.type == "counter"]


def _use(hold: Hold, outcome: AttemptOutcome) -> None:
    """Call every method of *hold*, as a request does."""
    listener: object = hold.listener()
    if callable(listener):
        listener("Hel")
        listener("lo, ü")
    valid_headers(hold.headers(None))
    valid_headers(hold.headers(outcome.usage))
    returned: object = hold.settle(outcome)
    assert returned is None, "settle must return None; it is not awaited"
    valid_cost(hold.cost_usd())


def _ended(backend: Backend, intent: RoutingIntent, ending: Ending, usage: TokenUsage | None) -> AttemptOutcome:
    return AttemptOutcome(
        backend=backend.name, backend_id=backend.id, model=intent.model_on(backend), ending=ending, usage=usage
    )
