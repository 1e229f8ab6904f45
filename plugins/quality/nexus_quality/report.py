"""The measurements as an admin page and as metrics."""

from collections.abc import Callable, Mapping
from typing import Final, Literal

import msgspec

from nexus.api import AdminReply, Measure, Sample
from nexus_quality.config import QualityConfig
from nexus_quality.measurements import Measurements
from nexus_quality.track import Figures, Track

_Type = Literal["gauge", "counter"]
_METRICS: Final[tuple[tuple[str, _Type, str, Callable[[Track, Figures], float | None]], ...]] = (
    ("error_rate_1h", "gauge", "Share of failed requests in the last hour, 0 to 1.", lambda _, f: f.error_rate_1h),
    ("success_rate_24h", "gauge", "Share of good answers in the last day, 0 to 1.", lambda _, f: f.success_rate_24h),
    ("request_count_1h", "gauge", "Requests in the last hour that count.", lambda _, f: f.request_count_1h),
    ("ttft_seconds", "gauge", "Mean time to first token in the last hour.", lambda _, f: _seconds(f.avg_ttft_ms)),
    ("ttft_ema_seconds", "gauge", "Moving average of the time to first token.", lambda _, f: _seconds(f.ttft_ema_ms)),
    ("avoided", "gauge", "1 while it is avoided because it fails too often.", lambda _, f: f.is_avoided),
    ("slow", "gauge", "1 while it ranks lower because it begins too late.", lambda _, f: f.is_slow),
    ("failures", "counter", "Requests that failed.", lambda track, _: track.failures_total),
    ("trials", "counter", "Trial requests.", lambda track, _: track.trials_total),
)
"""Name after ``nexus_quality_``, type, meaning, and a function for the value; None: no sample."""
_ACROSS: Final[Mapping[str, Literal["sum", "min"]]] = {"request_count_1h": "sum", "success_rate_24h": "min"}
"""How the figures of several workers become one, where the largest would mislead."""


def quality_page(measurements: Measurements, config: QualityConfig) -> AdminReply:
    """Return the page ``/admin/quality``."""
    now_s = measurements.clock()
    figures = [track.figures(now_s, config) for track in measurements.recent()]
    return 200, "application/json", msgspec.json.encode({"limits": config, "models": figures})


def quality_measures(measurements: Measurements, config: QualityConfig) -> list[Measure]:
    """Return the metrics of each model on each backend that may have penalties, and the counts of all that ever failed.

    A large fleet has thousands of models on backends; those without a bad answer are on the page only.
    """
    now_s = measurements.clock()
    measurements.clear(now_s)
    suspects = frozenset(measurements.suspects.values())
    failed = (track for track in measurements.tracks.values() if track.failures_total)
    tracks = sorted(suspects.union(failed), key=lambda track: (track.backend, track.model))
    rows = [({"backend": track.backend, "model": track.model}, track, track.figures(now_s, config)) for track in tracks]
    return [
        Measure(
            name=f"nexus_quality_{name}",
            documentation=meaning,
            type=type_,
            across=_ACROSS.get(name),
            samples=tuple(
                Sample(value, labels)
                for labels, track, figures in rows
                if (type_ == "counter" or track in suspects) and (value := value_of(track, figures)) is not None
            ),
        )
        for name, type_, meaning, value_of in _METRICS
    ]


def _seconds(milliseconds: int | None) -> float | None:
    return None if milliseconds is None else milliseconds / 1000
