"""Decodes the JSON in which engines report their load and the models that they have in memory."""

from collections.abc import Iterable, Mapping
from typing import Any, Final

import msgspec
from msgspec.structs import replace

from nexus.domain.engine_report import EngineReport, NoReport
from nexus.fleet.models.lookups import decode_lmstudio_server
from nexus.fleet.models.reading import MAX_COUNT, count, first_count, first_text, json_object, mapping, named_rows
from nexus.fleet.untrusted import MAX_MODELS, is_plain_name

MAX_ROWS: Final = 4096
"""Slots or data-parallel ranks of one server."""


def decode_sglang_loads(body: bytes, report: EngineReport) -> EngineReport:
    """Decode ``GET /v1/loads``, which has one row for each data-parallel rank (SGLang 0.5.23).

    :raises ValueError: it is not such a document.
    """
    rows = _rows(mapping(_decoded(body)).get("loads"))
    usages = [usage for row in rows if (usage := _amount(row.get("token_usage"))) is not None]
    return replace(
        report,
        running=_sum(rows, "num_running_reqs"),
        waiting=_sum(rows, "num_waiting_reqs"),
        kv_usage=sum(min(1.0, usage) for usage in usages) / len(usages) if usages else None,
        slots=count(sum(count(row.get("max_running_requests")) or 0 for row in rows)),
        cache_tokens=count(sum(count(row.get("max_total_num_tokens")) or 0 for row in rows)),
    )


def decode_llamacpp_slots(body: bytes, report: EngineReport) -> EngineReport:
    """Decode ``GET /slots``. It shows no queue: when all slots are busy, further requests may be waiting.

    :raises ValueError: it is not such a document.
    """
    rows = _rows(_decoded(body))
    if not all(isinstance(row.get("is_processing"), bool) for row in rows):
        raise ValueError("a slot does not say whether it is processing")
    return replace(report, running=sum(row["is_processing"] for row in rows), slots=len(rows))


def decode_llamacpp_memory(body: bytes, report: EngineReport) -> EngineReport:
    """Decode the ``GET /props`` of a llama.cpp with one model, which leaves the memory while the server sleeps.

    :raises NoReport: it is that of a router, or of an older llama.cpp, which never sleeps.
    """
    props = json_object(body)
    if not isinstance(is_sleeping := props.get("is_sleeping"), bool):
        raise NoReport("it does not say whether it sleeps")
    names = "" if is_sleeping else first_text(props, "model_alias") or ""
    return replace(
        report,
        loaded=_names(name.strip() for name in names.split(",") if name.strip()),
        slots=first_count(props, "total_slots"),
    )


def decode_llamacpp_router(body: bytes, report: EngineReport) -> EngineReport:
    """Decode the ``GET /models`` of a llama.cpp in router mode, which starts a server for each model that it loads.

    :raises NoReport: a llama.cpp with one model lists no statuses.
    """
    statuses = {
        name: first_text(mapping(row.get("status")), "value") for name, row in named_rows(body, "data", "id", "name")
    }
    if not any(statuses.values()):
        raise NoReport("no model has a status")
    return replace(
        report,
        loaded=_names(name for name, status in statuses.items() if status == "loaded"),
        loading=_names(name for name, status in statuses.items() if status == "loading"),
    )


def decode_ollama_ps(body: bytes, report: EngineReport) -> EngineReport:
    """Decode ``GET /api/ps``, all that an Ollama reports: it does not show its queue (0.33).

    :raises ValueError: it is not such a document.
    """
    return replace(report, loaded=_names(name for name, _ in named_rows(body, "models", "name", "model")))


def decode_lmstudio_loaded(body: bytes, report: EngineReport) -> EngineReport:
    """Decode LM Studio's ``GET /api/v1/models`` (0.4): each loaded instance of a model works on several requests.

    :raises ValueError: it is not such a document.
    """
    loaded: list[str] = []
    for name, row in named_rows(body, "models", "key"):
        instances = row.get("loaded_instances")
        for instance in _rows(instances) if instances else ():
            loaded += [name, first_text(instance, "id") or name]
    return replace(report, loaded=_names(loaded), slots=decode_lmstudio_server(body).max_in_flight)


def decode_old_lmstudio_loaded(body: bytes, report: EngineReport) -> EngineReport:
    """Decode the older ``GET /api/v0/models``. :raises ValueError: it is not such a document."""
    rows = named_rows(body, "data", "id")
    return replace(report, loaded=_names(name for name, row in rows if row.get("state") == "loaded"))


def _decoded(body: bytes) -> Any:
    try:
        return msgspec.json.decode(body)
    except RecursionError:
        raise ValueError("JSON is nested too deeply") from None


def _rows(value: Any) -> list[Mapping[str, Any]]:
    """Return a list of objects. :raises ValueError: it is none, or empty, or too long."""
    if not isinstance(value, list) or not 0 < len(value) <= MAX_ROWS:
        raise ValueError(f"expected a list of 1 to {MAX_ROWS} objects")
    return [mapping(row) for row in value]


def _sum(rows: list[Mapping[str, Any]], key: str) -> int:
    """Return the sum over all rows. :raises ValueError: a row does not have the number."""
    amounts = [_amount(row.get(key)) for row in rows]
    if None in amounts:
        raise ValueError(f"expected a number '{key}'")
    return int(sum(amount for amount in amounts if amount is not None))


def _amount(value: Any) -> float | None:
    """Return *value* if it is a number from 0 to ``MAX_COUNT``."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= MAX_COUNT:
        return None
    return value


def _names(names: Iterable[str]) -> frozenset[str]:
    """Return plain names only, and not more than a backend may list."""
    return frozenset(sorted(name for name in names if is_plain_name(name))[:MAX_MODELS])
