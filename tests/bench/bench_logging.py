"""What the record of an exchange costs, and its line in the access log: ``python tests/bench/bench_logging.py``."""

import tempfile
from pathlib import Path
from random import Random
from statistics import median
from time import process_time

import msgspec

from nexus.config.schema import LoggingConfig, RoutingConfig
from nexus.domain.outcome import AttemptOutcome, Ending
from nexus.domain.request import Requirements, TokenUsage
from nexus.observability.logging import logs
from nexus.proxy.exchange.record import begin_record
from nexus.routing.assembly import build_router
from nexus.routing.decision import Reserved
from nexus.routing.decision_record import Request
from nexus.routing.router import Routing
from nexus.testing.builders import CHAT, MODEL, make_backend, make_fleet

EXCHANGES = 5_000
"""Fewer than the log lets wait, so that none is dropped."""
ROUNDS = 7
ASKED = Requirements(model=MODEL, prompt_tokens=800, max_tokens=200)
OUTCOME = AttemptOutcome(
    backend="gpu-0", backend_id="gpu-0", model=MODEL, ending=Ending.FINISHED, status=200, usage=TokenUsage(800, 200)
)


def main() -> None:
    for title, level, lines in (("without its access line", "error", 0), ("with its access line", "info", EXCHANGES)):
        cost_s = median(seconds(level, lines) for _ in range(ROUNDS))
        print(f"record of an exchange, {title:24} {cost_s / EXCHANGES * 1e6:6.1f} us")  # noqa: T201 - the output


def seconds(level: str, lines: int) -> float:
    """Return the processor time of all threads until all *lines* are in the file."""
    reserved = some_reserved()
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "log"
        with file.open("w") as stream:
            logs.configure(msgspec.convert({"level": level, "format": "json"}, LoggingConfig), stream=stream)
            began_s = process_time()
            for _ in range(EXCHANGES):
                record(reserved)
            logs.shutdown()
            spent_s = process_time() - began_s
        assert file.read_bytes().count(b"\n") == lines
    return spent_s


def some_reserved() -> Reserved:
    asked = Request(id="r", endpoint=CHAT, requirements=ASKED, headers={}, received_unix_s=1_777_777_777.0)
    routing = Routing(build_router(RoutingConfig(), chance=Random(1)), asked)
    reserved = routing.next(make_fleet(make_backend("gpu-0")))
    assert isinstance(reserved, Reserved)
    return reserved


def record(reserved: Reserved) -> None:
    """Write down an exchange as the proxy does when all goes well."""
    kept = begin_record("req-0123456789ab-1", CHAT)
    kept.enter("understand")
    kept.understood(ASKED)
    kept.enter("route")
    kept.reserved = reserved
    kept.enter("send")
    kept.enter("await_first_byte")
    kept.enter("relay")
    kept.answered(200, kept.began_at)
    kept.ended(Ending.FINISHED, 200)
    kept.finish((OUTCOME,))


if __name__ == "__main__":
    main()
