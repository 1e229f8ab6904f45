"""Endpoints with which a server reports its load."""

import asyncio
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any, Final

from nexus.simulator.call import Call
from nexus.simulator.errors import unknown_path_answer
from nexus.simulator.messages import Answer, json_answer
from nexus.simulator.refusals import Refusal

METRICS_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"
KV_BLOCK_TOKENS: Final = 16
KV_BLOCKS: Final = 8192
CACHE_CONFIG: Final = (
    "_block_size_resolved=True cache_dtype=auto cache_hit_alignment_tokens=None "
    "effective_attention_block_size=128 enable_mamba_shared_prefix_checkpoint=False enable_prefix_caching=True "
    "gpu_memory_utilization=0.92 hash_block_size=None is_attention_free=False kv_cache_dtype_skip_layers=[] "
    "kv_cache_layout=None kv_cache_max_concurrency=512.0 kv_cache_memory_bytes=1073741824 "
    "kv_offloading_backend=native kv_offloading_size=None kv_sharing_fast_prefill=False mamba_block_size=None "
    "mamba_cache_dtype=auto mamba_cache_mode=none mamba_page_size_padded=None mamba_ssm_cache_dtype=float32 "
    "num_cpu_blocks=None num_gpu_blocks_override=None prefix_cache_retention_interval=0 "
    "prefix_caching_hash_algo=sha256 prefix_match_unit=None replayssm_buffer_len=16 skip_page_size_padded=None "
    "sliding_window=None swa_bounded_replay=True use_kda_recoverssm=False use_replayssm=False "
    "user_specified_block_size=False"
)
"""The labels of vLLM's cache that are the same in each simulated one."""

Rows = Iterable[tuple[str, str, float]]
"""Name, type and value of each metric."""


class _Load:
    """The load that one call reports."""

    def __init__(self, call: Call) -> None:
        engine, claims = call.engine, call.engine.claims
        self.running = engine.running if claims.running is None else claims.running
        self.waiting = engine.waiting if claims.waiting is None else claims.waiting
        self.usage = min(1.0, self.running / call.settings.concurrency)


async def _load(call: Call) -> _Load:
    """Return what to report, once the server answers such questions."""
    while call.engine.claims.is_stalled:  # noqa: ASYNC110 - a test may set it in another thread
        await asyncio.sleep(0.05)
    return _Load(call)


def _cache_tokens(call: Call) -> int:
    """Return the size of its KV cache."""
    return call.settings.cache_tokens or KV_BLOCKS * KV_BLOCK_TOKENS


def _is_hidden(call: Call) -> bool:
    """Whether the server was started without this page."""
    return call.request.path in call.settings.hidden_pages


async def vllm_load(call: Call) -> Answer:
    load = await _load(call)
    return json_answer({"server_load": load.running + load.waiting})


async def vllm_metrics(call: Call) -> Answer:
    load, engine = await _load(call), call.engine
    labels = f'{{engine="0",model_name="{call.settings.catalogue[0].name}"}}'
    process = (("process_start_time_seconds", "gauge", engine.claims.started_at),)
    rows = (
        ("vllm:num_requests_running", "gauge", load.running),
        ("vllm:num_requests_waiting", "gauge", load.waiting),
        ("vllm:kv_cache_usage_perc", "gauge", load.usage),
        ("vllm:prompt_tokens_total", "counter", engine.prompt_tokens),
        ("vllm:generation_tokens_total", "counter", engine.generated_tokens),
    )
    waiting = (("vllm:num_requests_waiting_by_reason", "gauge", load.waiting),)
    succeeded = (("vllm:request_success_total", "counter", engine.succeeded),)
    cache = (("vllm:cache_config_info", "gauge", 1.0),)
    size = {
        "block_size": KV_BLOCK_TOKENS,
        "num_gpu_blocks": _cache_tokens(call) // KV_BLOCK_TOKENS,
        "kv_cache_size_tokens": _cache_tokens(call),
    }
    config = {"engine": 0, **size, **dict(label.split("=", 1) for label in CACHE_CONFIG.split())}
    if _is_hidden(call):
        # As with --disable-log-stats.
        return Answer(_metrics(process, ""), content_type=METRICS_TYPE)
    page = (
        _metrics(process, "")
        + _metrics(rows, labels)
        + _metrics(waiting, labels.replace("}", ',reason="capacity"}'))
        + _metrics(succeeded, labels.replace(",model_name", ',finished_reason="stop",model_name'))
        + _metrics(cache, "{" + ",".join(f'{name}="{value}"' for name, value in sorted(config.items())) + "}")
    )
    return Answer(page, content_type=METRICS_TYPE)


async def sglang_loads(call: Call) -> Answer:
    if _is_hidden(call):
        return unknown_path_answer("GET", call.request.path, "sglang")
    load = await _load(call)
    used = int(load.usage * _cache_tokens(call))
    rank: dict[str, Any] = {
        "dp_rank": 0,
        "num_running_reqs": load.running,
        "num_waiting_reqs": load.waiting,
        "num_used_tokens": used,
        "num_total_tokens": used,
        "max_total_num_tokens": _cache_tokens(call),
        "token_usage": round(load.usage, 4),
        "max_running_requests": call.settings.concurrency,
    }
    return json_answer({"timestamp": datetime.now(UTC).isoformat(), "version": "0.5.23", "loads": [rank]})


async def sglang_metrics(call: Call) -> Answer:
    if _is_hidden(call):
        return unknown_path_answer("GET", call.request.path, "sglang")
    load, engine = await _load(call), call.engine
    labels = f'{{dp_rank="0",model_name="{call.settings.catalogue[0].name}",tp_rank="0"}}'
    rows = (
        ("sglang:num_running_reqs", "gauge", load.running),
        ("sglang:num_queue_reqs", "gauge", load.waiting),
        ("sglang:token_usage", "gauge", load.usage),
        ("sglang:max_total_num_tokens", "gauge", _cache_tokens(call)),
        ("sglang:prompt_tokens_total", "counter", engine.prompt_tokens),
        ("sglang:generation_tokens_total", "counter", engine.generated_tokens),
    )
    return Answer(_metrics(rows, labels), content_type=METRICS_TYPE)


async def llamacpp_metrics(call: Call) -> Answer:
    _check(call, "metrics")
    load, engine = await _load(call), call.engine
    rows = (
        ("llamacpp:requests_processing", "gauge", load.running),
        ("llamacpp:requests_deferred", "gauge", load.waiting),
        ("llamacpp:prompt_tokens_total", "counter", engine.prompt_tokens),
        ("llamacpp:tokens_predicted_total", "counter", engine.generated_tokens),
    )
    headers = {"Process-Start-Time-Unix": str(engine.claims.run)}
    return Answer(_metrics(rows, ""), content_type=METRICS_TYPE, headers=headers)


async def slots(call: Call) -> Answer:
    _check(call, "slots")
    load = await _load(call)
    context = call.settings.catalogue[0].context_length
    return json_answer(
        [{"id": n, "n_ctx": context, "is_processing": n < load.running} for n in range(call.settings.concurrency)]
    )


def _check(call: Call, option: str) -> None:
    """Raise Refusal in router mode, in which such a page belongs to one model, and without the page's *option*."""
    if not call.answers_to_any_model:
        raise Refusal("invalid", detail="model name is missing from the request")
    if _is_hidden(call):
        raise Refusal("unsupported", detail=option)


def _metrics(rows: Rows, labels: str) -> bytes:
    lines = [
        f"# HELP {name} {name}.\n# TYPE {name} {kind}\n{name}{labels} {float(value)}\n" for name, kind, value in rows
    ]
    return "".join(lines).encode()
