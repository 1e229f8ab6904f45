"""/admin/backends shows everything that routing knows, and no more."""

import msgspec

from nexus.admin.backends.view import BackendView, backends
from nexus.domain.backend import Backend, Breaker, Status
from nexus.domain.backend_load import BackendLoad
from nexus.domain.model import ModelFacts
from nexus.fleet.discovery.origins import Origin

RENAMED = {
    "kind": "backend_type",
    "last_check_at": "last_health_check",
    "load": "pending_requests",
}
LEFT_OUT = {
    "spellings",
    "server_breaker",
    "model_breakers",
    "cooling_models",
    "unsupported",
    "is_limited",
    "slots_are_reported",
}
"""The first is not shown; the last two are the source of the capacity, and the others are shown with each model."""


def origin_of(_):
    return Origin(
        joined_unix_s=86400.0,
        last_seen_unix_s=86401.9,
        is_stale=True,
        also_found_by=("dns",),
        address_stale_unix_s=86403.0,
    )


def rows(snapshot):
    return msgspec.json.decode(backends(snapshot, origin_of).body)["backends"]


def test_every_field_of_a_backend_is_shown():
    shown = {RENAMED.get(field, field) for field in Backend.__struct_fields__ if field not in LEFT_OUT}

    assert shown <= set(BackendView.__struct_fields__)


def test_the_version_of_the_snapshot_is_shown(fleet):
    assert msgspec.json.decode(backends(fleet(), origin_of).body) == {
        "version": 7,
        "backends": [],
        "pending": [],
        "last_with": {},
        "files": [],
    }


def test_a_row_shows_what_routing_knows(fleet, backend):
    sick = backend(
        status=Status.UNHEALTHY,
        breaker=Breaker.OPEN,
        is_cooling=True,
        unsupported=frozenset({("ollama.chat", "llama3"), ("ollama.chat", "other")}),
        last_error="connection refused",
        last_check_at=0.9,
        status_since=86400.0,
        endpoints=frozenset({"ollama.generate", "ollama.chat"}),
        load=BackendLoad(in_flight=2, requests_total=9, latency_ms=0),
    )

    (row,) = rows(fleet(sick))

    assert row == {
        "id": "id-of-gpu-1",
        "name": "gpu-1",
        "url": "http://gpu-1:11434",
        "backend_type": "ollama",
        "zone": "restricted",
        "tier": 1,
        "priority": 50,
        "share": 1.0,
        "status": "unhealthy",
        "status_since": "1970-01-02T00:00:00Z",
        "breaker": "open",
        "is_cooling": True,
        "misconfigured": None,
        "is_busy": False,
        "is_refusing": False,
        "is_replaced": False,
        "last_health_check": "1970-01-01T00:00:00Z",
        "last_error": "connection refused",
        "any_model": "never",
        "endpoints": ["ollama.chat", "ollama.generate"],
        "models": [
            {
                "id": "llama3",
                "name": "llama3",
                "aliases": [],
                "zone": "restricted",
                "tier": 1,
                "context_length": None,
                "max_output_tokens": None,
                "supports_vision": None,
                "supports_tools": None,
                "supports_json_mode": None,
                "supports_embeddings": None,
                "breaker": "open",
                "unsupported_endpoints": ["ollama.chat"],
                "is_cooling": True,
                "first_token_ms": None,
                "whole_answer_ms": None,
                "pending_requests": 0,
                "capacity": None,
                "capacity_source": "none known",
                "memory": "unknown",
                "load_s": None,
            }
        ],
        "pending_requests": 2,
        "oldest_unanswered_s": 0.0,
        "prompt_tokens": 0,
        "answer_tokens": 0,
        "busy_requests": 2.0,
        "max_in_flight": 64,
        "slots": None,
        "capacity": None,
        "capacity_source": "none known",
        "held_from": None,
        "reported": None,
        "report": "no report, only requests of Nexus count (not asked yet)",
        "restarts": 0,
        "max_loaded_models": None,
        "total_requests": 9,
        "avg_latency_ms": 0,
        "retry_unsafe": True,
        "discovery_source": "static",
        "also_found_by": ["dns"],
        "joined_at": "1970-01-02T00:00:00Z",
        "last_seen": "1970-01-02T00:00:01Z",
        "is_stale": True,
        "address_stale_since": "1970-01-02T00:00:03Z",
        "version": None,
    }


def test_a_backend_that_was_never_checked_says_so(fleet, backend):
    (row,) = rows(fleet(backend(status=Status.UNKNOWN)))

    assert (row["last_health_check"], row["status_since"], row["avg_latency_ms"]) == (None, None, None)


def test_the_zone_and_tier_of_a_model_are_shown(fleet, backend):
    passed_on = msgspec.structs.replace(backend(), models={"m": ModelFacts(name="m", zone="open", tier=4)})

    (row,) = rows(fleet(passed_on))

    assert (row["zone"], row["models"][0]["zone"], row["models"][0]["tier"]) == ("restricted", "open", 4)


def test_the_facts_of_a_model_are_shown(fleet, backend):
    able = msgspec.structs.replace(
        backend(),
        models={"m": ModelFacts(name="m", context_length=8192, vision=True, tools=False, json_mode=True)},
    )

    (model,) = rows(fleet(able))[0]["models"]

    assert (model["context_length"], model["supports_vision"], model["supports_tools"]) == (8192, True, False)


def test_a_failing_model_is_shown_apart_from_healthy_ones(fleet, backend):
    models = {name: ModelFacts(name=name) for name in ("bad", "good")}
    mixed = msgspec.structs.replace(
        backend(), models=models, model_breakers={"bad": Breaker.OPEN}, cooling_models=frozenset({"bad"})
    )
    mixed.load.model("good").first_token.observe(0.25, now=1.0)

    (row,) = rows(fleet(mixed))

    shown = {m["id"]: (m["breaker"], m["is_cooling"], m["first_token_ms"]) for m in row["models"]}
    assert (row["breaker"], row["is_cooling"]) == ("closed", False)
    assert shown == {"bad": ("open", True, None), "good": ("closed", False, 250)}
