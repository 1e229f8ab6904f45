"""What each of several workers measures of backends by its own requests, and the figures of all of them together."""

from collections.abc import Iterable, Mapping, Sequence
from time import monotonic

import msgspec

from nexus.admin.backends.view import BackendView, ModelView, view_of
from nexus.domain.backend import Backend
from nexus.domain.fleet import FleetSnapshot
from nexus.domain.silence import oldest_unanswered_s
from nexus.fleet.discovery.origins import Origin

Mean = tuple[float, float]
"""Of an ageing geometric mean, the weight and the weighted sum of log2 of milliseconds; both can be added up."""
NO_MEAN: Mean = (0.0, 0.0)


class Pace(msgspec.Struct, frozen=True, array_like=True):
    """The latencies of one model on a backend."""

    first_token: Mean
    whole: Mean


class LoadPart(msgspec.Struct, frozen=True, array_like=True):
    """One backend."""

    total_requests: int
    avg_latency_ms: int | None
    oldest_unanswered_s: float
    prompt_tokens: int
    answer_tokens: int
    models: dict[str, Pace]


def load_parts(snapshot: FleetSnapshot) -> dict[str, LoadPart]:
    """Return the part of this process, by the ids of backends."""
    now = monotonic()
    return {backend.id: _part(backend, now) for backend in snapshot.backends}


def with_loads(view: BackendView, parts: Sequence[LoadPart]) -> BackendView:
    """Return *view* with the figures of all workers, whose *parts* of the same backend are given."""
    if not parts:
        return view
    return msgspec.structs.replace(
        view,
        total_requests=sum(part.total_requests for part in parts),
        avg_latency_ms=mean_latency_ms((part.total_requests, part.avg_latency_ms) for part in parts),
        oldest_unanswered_s=round(max(part.oldest_unanswered_s for part in parts), 1),
        prompt_tokens=sum(part.prompt_tokens for part in parts),
        answer_tokens=sum(part.answer_tokens for part in parts),
        models=tuple(
            _with_paces(model, [p.models[model.id] for p in parts if model.id in p.models]) for model in view.models
        ),
    )


def view_of_all(workers: Sequence[Mapping[str, LoadPart]], backend: Backend, origin: Origin) -> BackendView:
    """Return the view of *backend* with the figures of all *workers*."""
    return with_loads(view_of(backend, origin), parts_of(backend.id, workers))


def parts_of(backend_id: str, workers: Iterable[Mapping[str, LoadPart]]) -> list[LoadPart]:
    """Return the parts of one backend."""
    return [parts[backend_id] for parts in workers if backend_id in parts]


def mean_latency_ms(measured: Iterable[tuple[int, int | None]]) -> int | None:
    """Return the mean of latencies, each weighted by a number of requests; one without requests is that of a probe."""
    known = [(requests, ms) for requests, ms in measured if ms is not None]
    weights = sum(requests for requests, _ in known)
    if not weights:
        return known[0][1] if known else None
    return round(sum(requests * ms for requests, ms in known) / weights)


def _part(backend: Backend, now: float) -> LoadPart:
    load = backend.load
    return LoadPart(
        load.requests_total,
        load.latency_ms,
        oldest_unanswered_s(backend, now),
        load.prompt_tokens,
        load.answer_tokens,
        {
            name: Pace(figures.first_token.aged(now), figures.whole.aged(now))
            for name, figures in load.models.items()
            if figures.first_token.weight or figures.whole.weight
        },
    )


def _with_paces(model: ModelView, paces: Sequence[Pace]) -> ModelView:
    if not paces:
        return model
    return msgspec.structs.replace(
        model,
        first_token_ms=_mean_ms([pace.first_token for pace in paces]),
        whole_answer_ms=_mean_ms([pace.whole for pace in paces]),
    )


def _mean_ms(means: Sequence[Mean]) -> int | None:
    weight = sum(each for each, _ in means)
    return round(2.0 ** (sum(log_sum for _, log_sum in means) / weight)) if weight else None
