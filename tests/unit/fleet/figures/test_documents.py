"""The JSON in which engines report their load."""

import json

import pytest

from nexus.domain.engine_report import EngineReport
from nexus.fleet.figures import documents

BLANK = EngineReport(at=1.0, due_at=3.0)


def decoded(decode, value):
    return decode(json.dumps(value).encode(), BLANK)


def test_the_ranks_of_sglang_are_added_up():
    rank = {
        "dp_rank": 0,
        "num_running_reqs": 3,
        "num_waiting_reqs": 0,
        "token_usage": 0.5,
        "max_total_num_tokens": 1000,
        "max_running_requests": 64,
    }

    report = decoded(documents.decode_sglang_loads, {"version": "0.5.23", "loads": [rank, {**rank, "token_usage": 0}]})

    assert (report.running, report.waiting, report.kv_usage) == (6, 0, 0.25)
    assert (report.cache_tokens, report.slots) == (2000, 128)


def test_busy_slots_of_llamacpp_are_counted():
    slots = [{"id": n, "n_ctx": 4096, "is_processing": n == 1} for n in range(4)]

    report = decoded(documents.decode_llamacpp_slots, slots)

    assert (report.running, report.waiting, report.slots) == (1, None, 4)


def test_a_router_reports_which_models_are_in_memory():
    statuses = {"a": "loaded", "b": "loading", "c": "unloaded", "d": "sleeping"}
    rows = [{"id": name, "status": {"value": value}} for name, value in statuses.items()]

    report = decoded(documents.decode_llamacpp_router, {"data": rows})

    assert (report.loaded, report.loading, report.requests) == ({"a"}, {"b"}, None)


def test_ollama_reports_which_models_are_in_memory():
    report = decoded(documents.decode_ollama_ps, {"models": [{"name": "llama3:latest", "size_vram": 1}]})

    assert (report.loaded, report.requests) == ({"llama3:latest"}, None)
    assert decoded(documents.decode_ollama_ps, {"models": []}).loaded == frozenset()


def test_lmstudio_reports_its_loaded_instances():
    instances = [{"id": "a", "config": {"parallel": 4}}, {"id": "a:2", "config": {"parallel": 4}}]
    models = [
        {"key": "a", "loaded_instances": instances},
        {"key": "b", "loaded_instances": [{"id": "b", "config": {"parallel": 6}}]},
        {"key": "c", "loaded_instances": []},
    ]

    report = decoded(documents.decode_lmstudio_loaded, {"models": models})

    assert (report.loaded, report.slots) == ({"a", "a:2", "b"}, 6)


def test_an_older_lmstudio_reports_the_state_of_each_model():
    rows = [{"id": "a", "state": "loaded"}, {"id": "b", "state": "not-loaded"}]

    assert decoded(documents.decode_old_lmstudio_loaded, {"data": rows}).loaded == {"a"}


def test_names_that_are_unsafe_to_show_are_left_out():
    assert decoded(documents.decode_ollama_ps, {"models": [{"name": "a\nb"}, {"name": "c"}]}).loaded == {"c"}


@pytest.mark.parametrize(
    ("decode", "value"),
    [
        (documents.decode_sglang_loads, {"loads": []}),
        (documents.decode_sglang_loads, {"loads": [{"num_running_reqs": 1}]}),
        (documents.decode_sglang_loads, {"loads": [{"num_running_reqs": -1, "num_waiting_reqs": 0}]}),
        (documents.decode_sglang_loads, [1]),
        (documents.decode_llamacpp_slots, {"error": {"code": 501}}),
        (documents.decode_llamacpp_slots, [{"id": 0}]),
        (documents.decode_llamacpp_slots, []),
        (documents.decode_llamacpp_router, {"data": [{"id": "a"}]}),
        (documents.decode_ollama_ps, {"error": "x"}),
        (documents.decode_lmstudio_loaded, {"error": "Unexpected endpoint or method."}),
        (documents.decode_old_lmstudio_loaded, {"error": "Unexpected endpoint or method."}),
    ],
)
def test_another_document_is_no_report(decode, value):
    with pytest.raises(ValueError, match=r"expected|status|slot"):
        decoded(decode, value)
