"""Decodes the metrics pages of engines.

Names as in vLLM 0.32, SGLang 0.5.23 and llama.cpp 0.6; a metric that was renamed is listed with its older name.
"""

from collections import defaultdict
from collections.abc import Iterable
from typing import Final

from msgspec.structs import replace

from nexus.domain.engine_report import EngineReport
from nexus.fleet.figures.prometheus import Page, Sample, finite
from nexus.fleet.models.reading import MAX_COUNT

_STARTED: Final = "process_start_time_seconds"

VLLM_METRICS: Final = (
    "vllm:num_requests_running",
    "vllm:num_requests_waiting",
    "vllm:kv_cache_usage_perc",
    # Until 0.9 (engine V0).
    "vllm:gpu_cache_usage_perc",
    "vllm:cache_config_info",
    "vllm:prompt_tokens_total",
    _STARTED,
)
SGLANG_METRICS: Final = (
    "sglang:num_running_reqs",
    "sglang:num_queue_reqs",
    "sglang:token_usage",
    "sglang:max_total_num_tokens",
    "sglang:prompt_tokens_total",
    _STARTED,
)
LLAMACPP_METRICS: Final = (
    "llamacpp:requests_processing",
    "llamacpp:requests_deferred",
    "llamacpp:prompt_tokens_total",
)


def decode_vllm_metrics(body: bytes, report: EngineReport) -> EngineReport:
    """Decode vLLM's page, which has each line once for each data-parallel engine.

    :raises ValueError: it is not such a page.
    """
    page = Page(body, VLLM_METRICS)
    return replace(
        report,
        running=_requests(page.total("vllm:num_requests_running")),
        waiting=_requests(page.total("vllm:num_requests_waiting")),
        kv_usage=_mean_usage(
            sample.value for sample in page.first("vllm:kv_cache_usage_perc", "vllm:gpu_cache_usage_perc")
        ),
        cache_tokens=_whole(sum(map(_vllm_cache_tokens, page["vllm:cache_config_info"]))),
        started_at=page.total(_STARTED),
        served=page.total("vllm:prompt_tokens_total"),
    )


def _vllm_cache_tokens(config: Sample) -> int:
    """Return the size of one engine's cache. For hybrid models, only the newer label has it right."""
    size = config.label("kv_cache_size_tokens")
    if size.isdecimal():
        return int(size[:16])
    block_size, blocks = config.label("block_size"), config.label("num_gpu_blocks")
    return int(block_size[:8]) * int(blocks[:12]) if block_size.isdecimal() and blocks.isdecimal() else 0


def decode_sglang_metrics(body: bytes, report: EngineReport) -> EngineReport:
    """Decode SGLang's page, for servers without ``/v1/loads``. Each data-parallel rank has its own requests; the
    tensor-parallel ranks of one share them, and may all report them.

    :raises ValueError: it is not such a page.
    """
    page = Page(body, SGLANG_METRICS)
    return replace(
        report,
        running=_requests(_sum(page["sglang:num_running_reqs"])),
        waiting=_requests(_sum(page["sglang:num_queue_reqs"])),
        kv_usage=_mean_usage(_by_rank(page["sglang:token_usage"])),
        cache_tokens=_whole(_sum(page["sglang:max_total_num_tokens"]) or 0.0),
        started_at=page.total(_STARTED),
        served=page.total("sglang:prompt_tokens_total"),
    )


def decode_llamacpp_metrics(body: bytes, report: EngineReport) -> EngineReport:
    """Decode the page of a llama.cpp that was started with ``--metrics``.

    :raises ValueError: it is not such a page.
    """
    page = Page(body, LLAMACPP_METRICS)
    return replace(
        report,
        running=_requests(page.total("llamacpp:requests_processing")),
        waiting=_requests(page.total("llamacpp:requests_deferred")),
        served=page.total("llamacpp:prompt_tokens_total"),
    )


def _by_rank(samples: Iterable[Sample]) -> list[float]:
    """Return the largest value of each data-parallel rank."""
    ranks: dict[str, float] = defaultdict(float)
    for sample in samples:
        rank = sample.label("dp_rank")
        ranks[rank] = max(ranks[rank], sample.value)
    return list(ranks.values())


def _sum(samples: list[Sample]) -> float | None:
    return finite(sum(_by_rank(samples))) if samples else None


def _requests(count: float | None) -> int:
    """Return a number of requests. :raises ValueError: the page has none, so it is of another server."""
    if count is None or not 0 <= count <= MAX_COUNT:
        raise ValueError("the page has no number of running and waiting requests")
    return int(count)


def _mean_usage(values: Iterable[float]) -> float | None:
    """Return the mean of parts of a whole; None without one."""
    parts = [min(1.0, value) for value in values if value >= 0.0]
    return sum(parts) / len(parts) if parts else None


def _whole(count: float) -> int | None:
    return int(count) if 1 <= count <= MAX_COUNT else None
