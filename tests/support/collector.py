"""A fake OpenTelemetry collector that receives spans over HTTP."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Final

import msgspec

MAX_WAIT_S: Final = 10.0


class Span(msgspec.Struct, frozen=True, kw_only=True):
    """One span, as received."""

    name: str
    kind: str
    """``server``, ``client`` or ``internal``."""
    trace_id: str
    span_id: str
    parent_id: str
    """Empty if there is none."""
    took_s: float
    is_error: bool
    attributes: dict[str, Any]
    resource: dict[str, Any]


class Collector:
    """The received requests and spans, and the status of the next responses."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.spans: list[Span] = []
        self.headers: list[dict[str, str]] = []
        """The headers of each request, by lower-case name."""
        self.bodies: list[bytes] = []
        self.status = 200
        self._changed = threading.Condition()

    def take(self, path: str, headers: dict[str, str], body: bytes) -> int:
        """Record one request, and return the status of the response."""
        with self._changed:
            self.headers.append(headers)
            self.bodies.append(body)
            if path == "/v1/traces" and self.status < 300:
                self.spans += _spans_in(body)
            self._changed.notify_all()
        return self.status

    def wait_for(self, count: int, name: str | None = None) -> list[Span]:
        """Wait for *count* spans of one name, or of any, and return them. Raise AssertionError on timeout."""
        with self._changed:
            if self._changed.wait_for(lambda: len(self._named(name)) >= count, MAX_WAIT_S):
                return self._named(name)
        raise AssertionError(f"{len(self._named(name))} spans instead of {count}")

    def _named(self, name: str | None) -> list[Span]:
        return [span for span in self.spans if name in (None, span.name)]


@contextmanager
def collector() -> Iterator[Collector]:
    """Run a collector on a free port of the loopback address."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            status = found.take(self.path, {name.lower(): text for name, text in self.headers.items()}, body)
            self.send_response(status)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - as in the base class
            """Log nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        found = Collector(f"http://127.0.0.1:{server.server_port}")
        thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
        thread.start()
        try:
            yield found
        finally:
            server.shutdown()
            thread.join()


def _spans_in(body: bytes) -> list[Span]:
    from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

    request = ExportTraceServiceRequest.FromString(body)
    return [
        Span(
            name=span.name,
            kind={1: "internal", 2: "server", 3: "client"}[span.kind],
            trace_id=span.trace_id.hex(),
            span_id=span.span_id.hex(),
            parent_id=span.parent_span_id.hex(),
            took_s=(span.end_time_unix_nano - span.start_time_unix_nano) / 1e9,
            is_error=span.status.code == ERROR,
            attributes=_values(span.attributes),
            resource=_values(of.resource.attributes),
        )
        for of in request.resource_spans
        for scope in of.scope_spans
        for span in scope.spans
    ]


ERROR: Final = 2


def _values(attributes: Any) -> dict[str, Any]:
    return {pair.key: getattr(pair.value, pair.value.WhichOneof("value") or "string_value") for pair in attributes}
