"""Validates the tracing configuration, and opens the exporter at the start."""

import asyncio
from importlib.util import find_spec
from typing import TYPE_CHECKING, Final

import structlog

from nexus.config.faults import Fault
from nexus.config.loading import LoadedConfig
from nexus.config.rules.urls import normalised
from nexus.observability.tracing.trace import Tracer
from nexus.wire.protocols import EVERY

if TYPE_CHECKING:
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter

log = structlog.get_logger("nexus.app")

FLUSH_S: Final = 2.0
EXPORTER: Final = "opentelemetry.exporter.otlp.proto.http"
PATH: Final = "/v1/traces"


def check(loaded: LoadedConfig) -> None:
    """Raise ConfigError if tracing is enabled and the exporter is not installed or cannot be created."""
    if not loaded.config.otel.enabled:
        return
    if not _is_installed():
        problem = "OpenTelemetry's SDK and its exporter for OTLP over HTTP are not installed"
        raise loaded.error(Fault(("otel", "enabled"), problem, "pip install 'nexus-proxy[otel]'"))
    try:
        _exporter(loaded)
    except Exception as exc:
        # The exporter reads environment variables of its own, which Nexus cannot validate.
        problem = f"OpenTelemetry's exporter cannot be made: {type(exc).__name__}: {exc}"
        raise loaded.error(Fault(("otel", "enabled"), problem, "look at the variables OTEL_EXPORTER_OTLP_*")) from exc


class Tracing:
    """Creates and exports spans until :meth:`close`, which flushes them."""

    def __init__(self, loaded: LoadedConfig) -> None:
        # Imported here, so that nothing of OpenTelemetry is loaded without tracing.
        from nexus.observability.tracing.spans import SpanMaker, resource_of
        from nexus.observability.tracing.writing import SpanWriter

        config = loaded.config.otel
        endpoints = {endpoint.name: endpoint for endpoint in EVERY}
        self._writer = SpanWriter(_exporter(loaded), SpanMaker(resource_of(config.service_name), endpoints).spans_of)
        self.counts = self._writer.counts
        self.tracer = Tracer(self._writer.put, sample_ratio=config.sample_ratio)
        log.info("tracing_started", endpoint=config.endpoint, sample_ratio=config.sample_ratio)

    async def close(self) -> None:
        """Export the remaining spans, within two seconds."""
        await asyncio.to_thread(self._writer.stop, FLUSH_S)


def traces_url(endpoint: str) -> str:
    """Return the URL for spans of the collector at *endpoint*."""
    url = normalised(endpoint)
    return url if url.endswith(PATH) else url + PATH


def _exporter(loaded: LoadedConfig) -> "OTLPSpanExporter":
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter

    config = loaded.config.otel
    return OTLPSpanExporter(
        endpoint=traces_url(config.endpoint) if config.endpoint is not None else None,
        headers={name: secret.reveal() for name, secret in loaded.otel_headers.items()} or None,
        timeout=config.timeout_seconds,
    )


def _is_installed() -> bool:
    try:
        return find_spec(EXPORTER) is not None and find_spec("opentelemetry.sdk") is not None
    except ModuleNotFoundError:
        return False
