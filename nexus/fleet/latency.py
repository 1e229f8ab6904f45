"""The moving average of a backend's latency: real requests count, and probes only until there is one."""

from msgspec.structs import force_setattr

from nexus.domain.backend import BackendLoad, set_load


def moved_average(average_ms: int | None, sample_ms: int) -> int:
    """Return the average after one more sample; the first one sets it, and 0 is as good as any."""
    return sample_ms if average_ms is None else (sample_ms + 4 * average_ms) // 5


def observe_request(load: BackendLoad, sample_ms: int) -> None:
    """Take in the latency of a real request; the first one replaces what probes have said."""
    average_ms = moved_average(load.latency_ms if load.is_latency_real else None, sample_ms)
    # Not set_load: this is done for every request.
    force_setattr(load, "latency_ms", average_ms)
    force_setattr(load, "is_latency_real", True)  # noqa: FBT003 - the value itself


def observe_probe(load: BackendLoad, sample_ms: int) -> None:
    """Take in the latency of a probe, which says little of how long inference takes."""
    if not load.is_latency_real:
        set_load(load, latency_ms=moved_average(load.latency_ms, sample_ms))
