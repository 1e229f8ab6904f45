"""What every stage must pass: subclass :class:`ReconcilerContract` as ``TestSomething`` and say how to make yours."""

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
from nexus.domain.measure import check_measure
from nexus.domain.outcome import AttemptOutcome, Ending
from nexus.domain.request import TokenUsage
from nexus.plugin_manager import Plugin
from nexus.routing.intent import RoutingIntent, Verdict
from nexus.routing.pipeline import Pipeline, Reservation
from nexus.routing.stage.api import Hold, Reconciler, Refusal
from nexus.routing.stage.order import in_order
from nexus.routing.stage.validate import valid_cost, valid_facts, valid_headers, valid_refusal
from nexus.testing.builders import make_backend, make_intent
from nexus.testing.strategies import fleets, requirements

LONGEST_S: Final = 0.005
"""For a fleet of twenty; a stage that takes this long has no place in front of every request."""

HINTS: Final = ("x-nexus-explain", "x-nexus-flexible", "x-nexus-priority", "x-nexus-privacy", "x-nexus-strict")
"""What clients may say to stages, as they like."""

USAGE: Final = TokenUsage(prompt_tokens=7, completion_tokens=3)
LONGEST_FACTS_BYTES: Final = 16_384

modestly = settings(
    max_examples=30,
    deadline=None,
    # One test method serves every subclass, which is what a contract is.
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
"""Functions from a policy to an intent: calling one twice gives two equal intents."""


def _blamed(test: Callable[..., None]) -> Callable[..., None]:
    """Let what is meant to end a process or a task, and is raised by a stage, be a test that fails and names it."""

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
                raise AssertionError(f"{_whose(self)} raised {described(exc)}; it must raise no such thing") from exc

    return contained


FRAMEWORKS: Final = ("_pytest", "pytest", "hypothesis")
"""Their own exceptions skip tests, and end them early."""


class ReconcilerContract(ABC):
    """Narrows only, explains itself, is deterministic, does no I/O, gives back what it holds, is quick.

    Whatever breaks one of these promises in a running proxy is answered as the stage's ``on_error`` says.
    """

    plugin: str = ""
    """The name of the plugin, with which its measures begin; the stage's own when it is empty."""
    policy: Mapping[str, Any] = {}
    """By plugin, the decoded policy keys under which the stage does most: ``{"privacy": PrivacyKeys(...)}``."""

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

        said = _said(intent)
        assert {verdict.stage for verdict in said} <= {stage.name}
        assert all(verdict.reason.strip() for verdict in said)
        assert {verdict.backend for verdict in said} <= before
        assert before - intent.candidates == {verdict.backend for verdict in intent.excluded}

    @modestly
    @given(build=intents)
    @_blamed
    def test_the_same_request_is_judged_the_same_way_twice(self, build: Callable[..., RoutingIntent]) -> None:
        stage, first, second = self.make(), build(self.policy), build(self.policy)

        stage.reconcile(first)
        stage.reconcile(second)

        assert first.candidates == second.candidates
        assert _said(first) == _said(second)

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
                assert held is None or isinstance(held, Hold | Refusal), "it holds with a nexus.api.Hold"
                if isinstance(held, Refusal):
                    valid_refusal(held)
                elif isinstance(held, Hold):
                    _live_through(held, _ended(backend, intent, ending, usage))

    @modestly
    @given(build=intents)
    @_blamed
    def test_it_explains_itself_in_json_and_touches_nothing(self, build: Callable[..., RoutingIntent]) -> None:
        stage, intent = self.make(), build(self.policy)
        stage.reconcile(intent)
        before = intent.candidates, _said(intent)

        with no_sockets():
            valid_facts(stage.explain(intent), LONGEST_FACTS_BYTES)
            valid_facts(stage.report(), LONGEST_FACTS_BYTES)
            refusals = [stage.would_refuse(intent, backend) for backend in intent]

        assert all(refusal is None or valid_refusal(refusal) for refusal in refusals)
        assert (intent.candidates, _said(intent)) == before

    @_blamed
    def test_its_measures_are_named_after_its_plugin_and_can_be_asked_for_again(self) -> None:
        stage = self.make()

        with no_sockets():
            first, second = tuple(stage.measures()), tuple(stage.measures())

        for measure in first:
            check_measure(measure, self.plugin or stage.name)
        assert len({measure.name for measure in first}) == len(first), "two of its measures have one name"
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

        assert pipeline.stages[0].counters.failures == {}, "the log says at what it failed"

    @_blamed
    def test_it_survives_an_empty_fleet(self) -> None:
        intent = make_intent(policy=self.policy)

        self.make().reconcile(intent)

        assert intent.candidates == set()

    @_blamed
    def test_it_is_quick(self) -> None:
        stage = self.make()

        best_s = min(self._seconds(stage) for _ in range(5))

        assert best_s < LONGEST_S

    def _seconds(self, stage: Reconciler) -> float:
        intent = make_intent(backends=[make_backend(f"gpu-{number}") for number in range(20)], policy=self.policy)
        began = perf_counter()
        stage.reconcile(intent)
        return perf_counter() - began


@contextmanager
def no_sockets() -> Iterator[None]:
    """Let any attempt to open a socket fail."""

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("a stage must not open a socket: it decides from the intent alone")

    with patch.object(socket.socket, "__init__", refuse), patch.object(socket, "getaddrinfo", refuse):
        yield


def _whose(contract: "ReconcilerContract") -> str:
    """Return which stage *contract* holds to its promises, and from which plugin and distribution it is."""
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
    # It reads the metadata of all that is installed, and hypothesis asks for each example that fails.
    return packages_distributions()


def _said(intent: RoutingIntent) -> list[Verdict]:
    return [*intent.excluded, *intent.avoided, *intent.weights]


def _live_through(hold: Hold, outcome: AttemptOutcome) -> None:
    """Ask *hold* all that it is asked between the choice of its backend and the end of the attempt."""
    listener: object = hold.listener()
    if callable(listener):
        listener("Hel")
        listener("lo, ü")
    valid_headers(hold.headers(None))
    valid_headers(hold.headers(outcome.usage))
    returned: object = hold.settle(outcome)
    assert returned is None, "whatever settle returns, nobody waits for it"
    valid_cost(hold.cost_usd())


def _ended(backend: Backend, intent: RoutingIntent, ending: Ending, usage: TokenUsage | None) -> AttemptOutcome:
    return AttemptOutcome(
        backend=backend.name, backend_id=backend.id, model=intent.model_on(backend), ending=ending, usage=usage
    )
