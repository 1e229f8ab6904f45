"""The metrics pages of engines, by their names in each version."""

import pytest

from nexus.domain.engine_report import EngineReport
from nexus.fleet.figures.pages import decode_llamacpp_metrics, decode_sglang_metrics, decode_vllm_metrics

BLANK = EngineReport(at=1.0, due_at=3.0)

VLLM = b"""\
# HELP process_start_time_seconds Start time of the process since unix epoch in seconds.
# TYPE process_start_time_seconds gauge
process_start_time_seconds 1.76e+09
# HELP vllm:num_requests_running Number of requests in model execution batches.
# TYPE vllm:num_requests_running gauge
vllm:num_requests_running{engine="0",model_name="m"} 3.0
# HELP vllm:num_requests_waiting Number of requests waiting to be processed.
# TYPE vllm:num_requests_waiting gauge
vllm:num_requests_waiting{engine="0",model_name="m"} 2.0
vllm:num_requests_waiting_by_reason{engine="0",model_name="m",reason="capacity"} 2.0
vllm:kv_cache_usage_perc{engine="0",model_name="m"} 0.25
vllm:prompt_tokens_total{engine="0",model_name="m"} 100.0
vllm:cache_config_info{block_size="16",cache_dtype="auto",engine="0",num_gpu_blocks="1000",sliding_window="None"} 1.0
"""


def test_vllm_reports_its_load():
    report = decode_vllm_metrics(VLLM, BLANK)

    assert (report.running, report.waiting, report.kv_usage, report.cache_tokens) == (3, 2, 0.25, 16_000)
    assert (report.started_at, report.served) == (1.76e9, 100.0)
    assert (report.at, report.due_at) == (1.0, 3.0)


def test_engines_that_work_in_parallel_are_added_up():
    other = VLLM.replace(b'engine="0"', b'engine="1"').replace(b"0.25", b"0.75").partition(b"seconds 1.76e+09\n")[2]

    report = decode_vllm_metrics(VLLM + other, BLANK)

    assert (report.running, report.waiting, report.kv_usage, report.cache_tokens) == (6, 4, 0.5, 32_000)


def test_an_older_vllm_reports_its_cache_by_another_name():
    page = VLLM.replace(b"kv_cache_usage", b"gpu_cache_usage")

    assert decode_vllm_metrics(page, BLANK).kv_usage == 0.25


def test_the_size_of_a_hybrid_cache_is_what_vllm_says_it_is():
    page = VLLM.replace(b'block_size="16"', b'block_size="16",kv_cache_size_tokens="4242"')

    assert decode_vllm_metrics(page, BLANK).cache_tokens == 4242


def test_a_cache_of_unknown_size_is_unknown():
    assert decode_vllm_metrics(VLLM.replace(b'"1000"', b'"None"'), BLANK).cache_tokens is None


@pytest.mark.parametrize("decode", [decode_vllm_metrics, decode_sglang_metrics, decode_llamacpp_metrics])
@pytest.mark.parametrize(
    "page", [b"", b"<html>", b'{"error":"Unexpected endpoint"}', b"process_start_time_seconds 1\n"]
)
def test_a_page_without_numbers_of_requests_is_no_report(decode, page):
    with pytest.raises(ValueError, match="number of running"):
        decode(page, BLANK)


@pytest.mark.parametrize("value", [b"-1", b"NaN", b"+Inf", b"1e300"])
def test_no_absurd_number_is_believed(value):
    with pytest.raises(ValueError, match="number of running"):
        decode_llamacpp_metrics(b"llamacpp:requests_processing %b\nllamacpp:requests_deferred 0\n" % value, BLANK)


def test_llamacpp_reports_its_load():
    page = b"llamacpp:requests_processing 2\nllamacpp:requests_deferred 5\nllamacpp:prompt_tokens_total 9\n"

    report = decode_llamacpp_metrics(page, BLANK)

    assert (report.running, report.waiting, report.kv_usage, report.served) == (2, 5, None, 9.0)


def test_ranks_of_sglang_that_share_requests_are_not_added_up():
    line = 'sglang:{}{{dp_rank="{}",model_name="m",tp_rank="{}"}} {}\n'
    page = "".join(
        line.format(name, dp, tp, value)
        for name, value in (
            ("num_running_reqs", 3),
            ("num_queue_reqs", 1),
            ("token_usage", 0.5),
            ("max_total_num_tokens", 1000),
        )
        for dp in (0, 1)
        for tp in (0, 1)
    )

    report = decode_sglang_metrics(page.encode(), BLANK)

    assert (report.running, report.waiting, report.kv_usage, report.cache_tokens) == (6, 2, 0.5, 2000)
