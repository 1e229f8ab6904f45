"""What tracing costs an exchange, at once and in the thread that exports: ``python tests/bench/bench_tracing.py``."""

from collections.abc import Callable
from statistics import median
from time import thread_time
from typing import TypeVar

from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans

from nexus.domain.outcome import Phase
from nexus.observability.tracing.spans import SpanMaker, resource_of
from nexus.observability.tracing.trace import Ended, Tracer
from nexus.testing.builders import make_attempt, make_backend, make_outcome
from nexus.wire.protocols import ENDPOINTS

T = TypeVar("T")

EXCHANGES = 2_000
ROUNDS = 7
PHASES: list[tuple[Phase, float]] = [
    ("receive", 1.0),
    ("understand", 1.1),
    ("route", 1.2),
    ("send", 1.3),
    ("await_first_byte", 1.4),
    ("relay", 1.5),
]
BACKEND = make_backend("gpu-1")
OUTCOME = make_outcome(make_attempt("gpu-1"))
HEADERS = [(b"accept", b"accept: */*\r\n"), (b"user-agent", b"user-agent: bench\r\n")]


def main() -> None:
    kept: list[Ended] = []
    for title, ratio in (("sampled", 1.0), ("not sampled", 0.0)):
        show(f"an exchange, {title}", Tracer(kept.append, sample_ratio=ratio), exchange)
    maker = SpanMaker(resource_of("bench"), {endpoint.name: endpoint for endpoint in ENDPOINTS.values()})
    show("its spans in the thread", kept[0], lambda ended: encode_spans(maker.spans_of(ended)).SerializeToString())


def exchange(tracer: Tracer) -> None:
    """Do what the proxy does for its trace while a request runs."""
    trace = tracer.begin(HEADERS)
    trace.attempt(BACKEND, 1.3)
    trace.lines()
    trace.end(OUTCOME, PHASES, 1.6)


def show(title: str, subject: T, act: Callable[[T], object]) -> None:
    """Print the median of some rounds."""
    spent = []
    for _ in range(ROUNDS):
        began = thread_time()
        for _ in range(EXCHANGES):
            act(subject)
        spent.append((thread_time() - began) / EXCHANGES * 1e6)
    print(f"{title:26} {median(spent):6.1f} us")  # noqa: T201 - the output


if __name__ == "__main__":
    main()
