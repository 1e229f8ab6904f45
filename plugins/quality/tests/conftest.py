"""A fleet, a clock that is set by hand, the stage between them, and outcomes told in one line."""

from typing import NamedTuple

import pytest

from nexus.api import AttemptOutcome, Ending, ExchangeOutcome
from nexus.testing.builders import MODEL, make_backend, make_intent
from nexus_quality.config import QualityConfig
from nexus_quality.measurements import Measurements
from nexus_quality.reconciler import QualityReconciler


class Clock:
    """Stands still unless it is moved."""

    def __init__(self):
        self.now_s = 1_000_000.0

    def __call__(self):
        return self.now_s

    def advance(self, seconds):
        self.now_s += seconds


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def measurements(clock):
    return Measurements(clock)


def make_attempt(backend="gpu-1", **fields):
    """Return a good answer, unless *fields* say otherwise."""
    usual = {"backend_id": backend, "model": MODEL, "ending": Ending.FINISHED, "status": 200}
    return AttemptOutcome(backend=backend, **{**usual, **fields})


def make_outcome(*attempts, received_at=1_700_000_000.0, duration_s=0.0):
    """Return the exchange that these attempts were."""
    last = attempts[-1] if attempts else None
    return ExchangeOutcome(
        request_id="r",
        endpoint="openai.chat",
        protocol="openai",
        model=MODEL,
        resolved_model=MODEL,
        is_stream=False,
        ending=last.ending if last else Ending.REJECTED,
        status=200,
        code=None,
        phase="relay",
        termination="--",
        route_reason=None,
        fallback_model=None,
        attempts=attempts,
        received_at=received_at,
        duration_s=duration_s,
        queued_s=0.0,
        first_byte_s=None,
        usage=None,
        bytes_in=0,
        bytes_out=0,
    )


@pytest.fixture(scope="session", name="make_attempt")
def _make_attempt():
    return make_attempt


@pytest.fixture(scope="session", name="make_outcome")
def _make_outcome():
    return make_outcome


class Verdicts(NamedTuple):
    """What the stage has said of one request."""

    avoided: set[str]
    weights: dict[str, float]
    reasons: list[str]


class Scene:
    """A stage, and the fleet that it judges."""

    def __init__(self, measurements, clock, backends, config):
        self.measurements = measurements
        self.clock = clock
        self.backends = {backend.name: backend for backend in backends}
        self.config = config
        self.stage = QualityReconciler(config, measurements)
        # Any request shows the stage its fleet.
        self.judge()

    def intent(self):
        return make_intent(backends=self.backends.values())

    def judge(self):
        intent = self.intent()
        self.stage.reconcile(intent)
        factors = {}
        for verdict in intent.weights:
            factors[verdict.backend] = factors.get(verdict.backend, 1.0) * verdict.factor
        said = [*intent.avoided, *intent.weights]
        return Verdicts({v.backend for v in intent.avoided}, factors, [v.reason for v in said])

    def record(self, backend, *, times=1, **fields):
        for _ in range(times):
            self.measurements.record(make_outcome(make_attempt(backend, **fields)), self.config)

    def fail(self, backend, times=1):
        self.record(backend, times=times, ending=Ending.BACKEND_FAILED, fault="stream_truncated")

    def stream(self, backend, first_byte_s, times=1):
        self.record(backend, times=times, is_stream=True, first_byte_s=first_byte_s)

    def reload(self, **keys):
        self.config = QualityConfig(**keys)
        self.stage = QualityReconciler(self.config, self.measurements)

    def reserve(self, backend):
        return self.stage.reserve(self.intent(), self.backends[backend])

    def track(self, backend):
        return self.measurements.tracks.get((backend, MODEL))

    def figures(self, backend):
        return self.track(backend).figures(self.clock(), self.config)


@pytest.fixture
def scene(measurements, clock):
    """Make a scene of these backends, with these keys of the table."""

    def make(*names, **keys):
        backends = [make_backend(name) for name in names or ("gpu-1", "gpu-2")]
        return Scene(measurements, clock, backends, QualityConfig(**keys))

    return make
