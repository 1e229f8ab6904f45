"""What always holds of the fleet, whatever backends say and do."""

import contextlib
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from nexus.config.schema import HealthCheckConfig
from nexus.domain.backend import Backend, Breaker, Status
from nexus.domain.backend_load import BackendLoad, moved_average
from nexus.domain.model import ModelFacts
from nexus.fleet.health.breaker import FAILURES_TO_OPEN, JITTER, MAX_PAUSE_S, BreakerState
from nexus.fleet.health.state import HealthState
from nexus.fleet.kinds import KINDS
from nexus.fleet.membership.identity import backend_id
from nexus.fleet.membership.registry import BackendNotFound, DuplicateBackend, Registry
from nexus.fleet.models import listings, lookups
from nexus.fleet.models.guesses import with_guesses
from nexus.fleet.untrusted import accepted_models, is_plain_name

DECODERS = [kind.listing.decode for kind in KINDS.values()] + [
    lambda answer, decode=decode: decode(answer, (ModelFacts(name="m"),))
    for decode in (
        lookups.decode_ollama_show,
        lookups.decode_llamacpp_props,
        lookups.decode_sglang_model,
        lookups.decode_lmstudio_v0,
        lookups.decode_lmstudio_v1,
    )
]
SERVER_DECODERS = [lookups.decode_version, lookups.decode_llamacpp_server, listings.decode_llamacpp_mode]

KEYS = st.sampled_from(
    ["data", "models", "id", "name", "key", "created", "modified_at", "capabilities", "architecture", "model_info",
     "input_modalities", "max_model_len", "details", "loaded_instances", "config", "context_length", "modalities",
     "default_generation_settings", "n_ctx", "general.architecture", "m.context_length", "digest", "total_slots",
     "supported_parameters", "chat_template_caps", "version", "type", "vision",
     "status", "value", "args", "meta", "aliases", "model_alias", "role", "parent", "root"]
)  # fmt: skip
SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | st.just("m")
JSON = st.recursive(SCALARS, lambda v: st.lists(v, max_size=3) | st.dictionaries(KEYS, v, max_size=5), max_leaves=15)


@settings(max_examples=150, deadline=None)
@given(st.binary(max_size=200) | JSON.map(lambda value: json.dumps(value).encode()))
def test_no_answer_makes_a_decoder_fail_in_another_way_than_value_error(answer):
    for decode in DECODERS:
        with contextlib.suppress(ValueError):
            for facts in decode(answer):
                assert isinstance(facts, ModelFacts)
                assert facts.context_length is None or facts.context_length > 0
                assert facts.created >= 0
    for decode in SERVER_DECODERS:
        with contextlib.suppress(ValueError):
            slots = decode(answer).max_in_flight
            assert slots is None or slots > 0


@given(st.text(max_size=40), st.sampled_from([None, True, False]), st.sampled_from([None, True, False]))
def test_a_guess_only_ever_turns_a_flag_on(name, vision, tools):
    facts = ModelFacts(name=name, vision=vision, tools=tools)

    guessed = with_guesses(facts)

    assert guessed.vision in ({None, True} if vision is None else {vision})
    assert guessed.tools in ({None, True} if tools is None else {tools})


@given(st.lists(st.text(max_size=300), max_size=30))
def test_names_that_are_accepted_can_be_shown_anywhere(names):
    accepted = accepted_models((ModelFacts(name=name) for name in names), backend="gpu")

    assert all(is_plain_name(name) and "\n" not in name and "\x1b" not in name for name in accepted)


@given(st.lists(st.integers(0, 10_000), min_size=1, max_size=100))
def test_an_average_lies_within_its_samples(samples):
    average = None

    for sample in samples:
        average = moved_average(average, sample)

    assert min(samples) <= average <= max(samples)


@given(
    st.lists(st.sampled_from("+-!"), max_size=40),
    st.integers(1, 5),
    st.integers(1, 5),
    st.floats(0.1, 120),
    st.sampled_from([Status.UNKNOWN, Status.DRAINING]),
)
def test_health_follows_its_thresholds(events, failure_threshold, recovery_threshold, interval_s, first):
    config = HealthCheckConfig(
        interval_seconds=interval_s, failure_threshold=failure_threshold, recovery_threshold=recovery_threshold
    )
    state = HealthState(first)
    run = ""

    for event in events:
        before = state.status
        if event == "!":
            state, run = state.after_refusal(), "-"
        else:
            state = state.after_success(config) if event == "+" else state.after_failure(config)
            run = run + event if run.endswith(event) else event

        assert 0 < state.next_probe_in_s(config) <= interval_s
        assert min(state.failures, state.successes) == 0
        if first is Status.DRAINING:
            assert state.status is Status.DRAINING
        elif event == "!":
            assert state.status is Status.UNHEALTHY
        elif before is Status.HEALTHY:
            assert (state.status is Status.UNHEALTHY) == (event == "-" and len(run) >= failure_threshold)
        elif before is Status.UNHEALTHY:
            assert (state.status is Status.HEALTHY) == (event == "+" and len(run) >= recovery_threshold)


@given(st.lists(st.sampled_from("+-!lb"), max_size=40), st.sampled_from([Status.UNKNOWN, Status.DRAINING]))
def test_probes_that_time_out_while_requests_run_change_no_status(events, first):
    def status_after(events):
        state = HealthState(first)
        for event in events:
            match event:
                case "+":
                    state = state.after_success(CONFIG)
                case "-":
                    state = state.after_failure(CONFIG)
                case "!":
                    state = state.after_refusal()
                case "l":
                    state = state.after_loading()
                case "b":
                    state = state.after_busy()
        return state.status

    assert status_after(events) is status_after([event for event in events if event != "b"])


CONFIG = HealthCheckConfig()


@given(st.lists(st.sampled_from("+-p"), max_size=60), st.floats(0, 1, exclude_max=True))
def test_a_breaker_opens_only_after_failures_and_for_a_bounded_time(events, chance):
    state = BreakerState()
    failures = 0

    for event in events:
        before = state
        if event == "p":
            # The pause ends only where there is one.
            state = state.after_pause() if state.breaker is Breaker.OPEN else state
        elif event == "+":
            state, failures = state.after_success(), 0
        else:
            state, failures = state.after_failure(), failures + 1

        if event == "+":
            assert state.breaker is Breaker.CLOSED
        if state.breaker is Breaker.OPEN:
            assert failures >= FAILURES_TO_OPEN
            assert 0 < state.pause_s(chance) <= MAX_PAUSE_S * (1 + JITTER)
        if before.breaker is Breaker.HALF_OPEN and event == "-":
            assert state.breaker is Breaker.OPEN


NAMES = st.sampled_from(["gpu-1", "gpu-2", "desk", "cloud"])
MODELS = st.sets(st.sampled_from(["llama3", "llama3:latest", "Qwen3", "qwen3", "phi4:latest", "X:q4"]))


class Fleet(RuleBasedStateMachine):
    """The registry beside a plain dict that is told the same."""

    @initialize()
    def begin(self):
        self.registry = Registry()
        self.rows = {}
        self.published = []
        self.registry.on_change(lambda snapshot: self.published.append(snapshot.version))

    @rule(name=NAMES, models=MODELS, kind=st.sampled_from(["vllm", "ollama"]))
    def add(self, name, models, kind):
        backend = Backend(
            id=backend_id(name),
            name=name,
            url=f"http://{name}",
            kind=KINDS[kind],
            models={model: ModelFacts(name=model) for model in models},
            load=BackendLoad(),
        )
        if name in self.rows:
            with pytest.raises(DuplicateBackend):
                self.registry.add(backend)
        else:
            self.registry.add(backend)
            self.rows[name] = (kind, frozenset(models), Status.UNKNOWN)

    @rule(name=NAMES)
    def remove(self, name):
        if name in self.rows:
            assert self.registry.remove(backend_id(name)).name == name
            del self.rows[name]
        else:
            with pytest.raises(BackendNotFound):
                self.registry.remove(backend_id(name))

    @rule(name=NAMES, models=MODELS)
    def list_models(self, name, models):
        if name in self.rows:
            self.registry.update(backend_id(name), models={model: ModelFacts(name=model) for model in models})
            self.rows[name] = (self.rows[name][0], frozenset(models), self.rows[name][2])

    @rule(status=st.sampled_from(list(Status)), names=st.sets(NAMES))
    def believe(self, status, names):
        before = self.registry.snapshot.version
        with self.registry.batch():
            for name in names & self.rows.keys():
                self.registry.update(backend_id(name), status=status)
                self.rows[name] = (*self.rows[name][:2], status)
        assert self.registry.snapshot.version <= before + 1

    @invariant()
    def shows_what_it_was_told(self):
        snapshot = self.registry.snapshot
        assert [backend.name for backend in snapshot.backends] == sorted(self.rows)
        assert {b.name: (b.kind.name, frozenset(b.models), b.status) for b in snapshot.backends} == self.rows
        assert snapshot.by_id == {backend.id: backend for backend in snapshot.backends}
        assert snapshot.models == tuple(sorted({m for _, models, _ in self.rows.values() for m in models}))

    @invariant()
    def finds_each_model_on_exactly_the_backends_that_have_it(self):
        snapshot = self.registry.snapshot
        expected = {}
        for backend in snapshot.backends:
            for name in (*backend.models, *backend.spellings):
                expected.setdefault(name, []).append(backend)
        assert dict(snapshot.by_model) == {name: tuple(backends) for name, backends in expected.items()}
        for name in ("llama3", "LLAMA3", "qwen3", "QWEN3:latest", "nope"):
            holders = {backend.name for backend in snapshot.having(name)}
            assert holders == {b.name for b in snapshot.backends if b.facts(name) is not None}

    @invariant()
    def counts_every_publication(self):
        assert self.published == list(range(1, self.registry.snapshot.version + 1))


TestFleet = Fleet.TestCase
TestFleet.settings = settings(max_examples=40, stateful_step_count=25, deadline=None)
