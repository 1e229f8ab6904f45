"""What counting an exchange costs, and a scrape of all counts: ``python tests/bench/bench_metrics.py``."""

from time import perf_counter

from prometheus_client import CollectorRegistry, generate_latest

from nexus.domain.outcome import AttemptOutcome, Ending, ExchangeOutcome
from nexus.domain.request import TokenUsage
from nexus.observability.metrics import ExchangeMetrics
from nexus.testing.builders import CHAT, MODEL

EXCHANGES = 20_000
ROUNDS = 5
BACKENDS = 10


def main() -> None:
    metrics = ExchangeMetrics()
    outcomes = [outcome_of(f"gpu-{number}") for number in range(BACKENDS)]
    best_s = min(seconds(metrics, outcomes) for _ in range(ROUNDS))
    print(f"metrics of an exchange {best_s / EXCHANGES * 1e6:8.2f} us, {BACKENDS} backends")  # noqa: T201 - the output
    registry = CollectorRegistry()
    registry.register(metrics)
    began = perf_counter()
    size_bytes = len(generate_latest(registry))
    scrape_ms = (perf_counter() - began) * 1e3
    print(f"a scrape of them       {scrape_ms:8.2f} ms, {size_bytes} bytes")  # noqa: T201 - the output


def seconds(metrics: ExchangeMetrics, outcomes: list[ExchangeOutcome]) -> float:
    began = perf_counter()
    for _ in range(EXCHANGES // len(outcomes)):
        for outcome in outcomes:
            metrics.observe(outcome)
    return perf_counter() - began


def outcome_of(backend: str) -> ExchangeOutcome:
    usage = TokenUsage(800, 200)
    attempt = AttemptOutcome(
        backend=backend, backend_id=backend, model=MODEL, ending=Ending.FINISHED, status=200, usage=usage
    )
    return ExchangeOutcome(
        request_id="r",
        endpoint=CHAT.name,
        protocol=CHAT.protocol,
        model=MODEL,
        resolved_model=MODEL,
        is_stream=True,
        ending=Ending.FINISHED,
        status=200,
        code=None,
        phase="relay",
        termination="--",
        route_reason="capability-match",
        fallback_model=None,
        attempts=(attempt,),
        received_at=1_777_777_777.0,
        duration_s=0.7,
        queued_s=0.0,
        first_byte_s=0.1,
        usage=usage,
        bytes_in=800,
        bytes_out=2000,
    )


if __name__ == "__main__":
    main()
