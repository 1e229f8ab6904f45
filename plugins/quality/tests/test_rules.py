"""Rules that must hold for any history: the figures are those of a list, memory is bounded, nothing raises."""

from collections import deque

from hypothesis import given, settings
from hypothesis import strategies as st

from nexus.api import AttemptOutcome, Ending, UpstreamFault
from nexus.testing.builders import MODEL, make_backend, make_fleet, make_intent
from nexus_quality.config import QualityConfig
from nexus_quality.hourly_mean import HOUR, HourlyMean
from nexus_quality.measurements import Measurements
from nexus_quality.reconciler import QualityReconciler
from nexus_quality.report import quality_page

modestly = settings(max_examples=60, deadline=None)

CONFIG = QualityConfig(min_samples=3, trial_successes=2)
BACKENDS = [make_backend(f"gpu-{number}") for number in range(3)]
FLEET = make_fleet(*BACKENDS)

floats = st.none() | st.floats() | st.floats(0, 10)
attempts = st.builds(
    AttemptOutcome,
    backend=st.just("gpu"),
    backend_id=st.sampled_from(["gpu-0", "gpu-1", "gpu-2", "stranger"]),
    model=st.sampled_from("abcdefgh"),
    ending=st.sampled_from(Ending),
    fault=st.none() | st.sampled_from([*UpstreamFault]) | st.sampled_from(["stream_truncated", "anything"]),
    status=st.none() | st.integers(100, 999),
    duration_s=st.floats(),
    is_stream=st.booleans(),
    first_byte_s=floats,
)


class ListedMean:
    """The same mean, computed from a list of all samples."""

    def __init__(self, limit):
        self.limit = limit
        self.samples = []
        self.since = 0

    def add(self, sample, minute):
        self.samples.append((minute, sample))
        recent = self.samples[self.since :][-CONFIG.trial_successes :]
        in_a_row = len(recent) == CONFIG.trial_successes and all(value <= self.limit for _, value in recent)
        if in_a_row and self.poor_mean(minute) is not None:
            self.since = len(self.samples)

    def poor_mean(self, minute):
        judged = [value for at, value in self.samples[self.since :] if at > minute - HOUR]
        if len(judged) < CONFIG.min_samples or sum(judged) <= self.limit * len(judged):
            return None
        return sum(judged) / len(judged)


@modestly
@given(
    st.lists(st.tuples(st.sampled_from([0, 0, 1, 7, 20, 59, 60]), st.sampled_from([0, 1, 1, 2])), max_size=60),
    st.sampled_from([0.3, 0.5, 1]),
    st.integers(0, 61),
)
def test_a_mean_is_what_a_list_of_its_samples_says(steps, limit, pause):
    mean, listed, minute = HourlyMean(), ListedMean(limit), 10_000
    for passed, sample in steps:
        minute += passed
        mean.add(sample, minute, limit, CONFIG)
        listed.add(sample, minute)
        assert mean.poor_mean(minute, limit, CONFIG) == listed.poor_mean(minute)

    assert mean.poor_mean(minute + pause, limit, CONFIG) == listed.poor_mean(minute + pause)


@modestly
@given(st.lists(st.tuples(attempts, st.floats(0, 100_000)), max_size=60))
def test_whatever_is_recorded_nothing_raises_and_memory_is_bounded(make_outcome, history):
    now_s = deque([0.0], maxlen=1)
    measurements = Measurements(lambda: now_s[0], max_tracked=5)
    stage = QualityReconciler(CONFIG, measurements)
    measurements.follow(FLEET)

    for attempt, passed_s in history:
        now_s.append(now_s[0] + passed_s)
        measurements.record(make_outcome(attempt), CONFIG)
        stage.reconcile(make_intent(backends=BACKENDS))
        assert len(measurements.tracks) <= 5

    quality_page(measurements, CONFIG)
    labels = [sample.labels for measure in stage.measures() for sample in measure.samples]
    assert all(label["model"] in set("abcdefgh") for label in labels)


@modestly
@given(
    st.lists(st.sampled_from(["fail", "answer", "reserve", "settle", "pass"]), max_size=80),
)
def test_there_are_never_two_trials_of_one_at_once(make_attempt, make_outcome, steps):
    now_s = [0.0]
    measurements = Measurements(lambda: now_s[0])
    stage = QualityReconciler(CONFIG, measurements)
    intent = make_intent(backends=BACKENDS[:1])
    stage.reconcile(intent)
    held = []
    acts = {
        "fail": lambda: measurements.record(make_outcome(make_attempt("gpu-0", status=503)), CONFIG),
        "answer": lambda: measurements.record(make_outcome(make_attempt("gpu-0")), CONFIG),
        "reserve": lambda: held.append(stage.reserve(intent, BACKENDS[0])),
        "settle": lambda: [hold.settle(make_attempt("gpu-0")) for hold in held if hold] and held.clear(),
        "pass": lambda: now_s.append(now_s.pop() + CONFIG.trial_interval_seconds),
    }

    for step in steps:
        acts[step]()
        assert sum(hold is not None for hold in held) <= 1


class RecordingEach(Measurements):
    """Records each outcome by itself."""

    def _count(self, attempt):
        del attempt
        return False


usual = st.builds(
    AttemptOutcome,
    backend=st.just("gpu"),
    backend_id=st.sampled_from(["gpu-0", "gpu-1"]),
    model=st.sampled_from([MODEL, "another"]),
    ending=st.just(Ending.FINISHED),
    status=st.sampled_from([200, 200, 200, 503, 404]),
    is_stream=st.booleans(),
    first_byte_s=st.sampled_from([0.1, 0.2, 0.9, 1.5]),
)
passed = st.sampled_from([0.0, 0.5, 30.0, 61.0, 900.0, 1_800.0, 3_540.0, 50_000.0])
limits = st.builds(
    QualityConfig,
    ttft_penalty_threshold_ms=st.sampled_from([150, 1_000]),
    min_samples=st.integers(1, 4),
    trial_successes=st.integers(1, 3),
)


def judged(stage, measurements, now_s, config):
    """Return all that the stage says, shows and would try."""
    intent = make_intent(backends=BACKENDS)
    stage.reconcile(intent)
    tracks = [(track.figures(now_s, config), track.failures_total) for track in measurements.recent()]
    return intent.avoided, intent.weights, tracks, stage.report()


@modestly
@given(
    st.lists(st.tuples(usual, passed, st.booleans()), min_size=5, max_size=40), st.lists(limits, min_size=1, max_size=3)
)
def test_outcomes_that_are_counted_together_are_judged_as_if_each_was_recorded(make_outcome, history, configs):
    now_s = [1_000_000.0]
    both = Measurements(lambda: now_s[0]), RecordingEach(lambda: now_s[0])
    for each in both:
        each.follow(FLEET)

    for number, (attempt, seconds, looks) in enumerate(history):
        now_s[0] += seconds
        config = configs[number * len(configs) // len(history)]
        stages = [QualityReconciler(config, each) for each in both]
        for each in both:
            each.record(make_outcome(attempt), config)
        if looks:
            counted, recorded = (
                judged(stage, each, now_s[0], config) for stage, each in zip(stages, both, strict=True)
            )
            assert counted == recorded
