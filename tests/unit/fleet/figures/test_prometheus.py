"""Chosen metrics are read from a page, whatever else is on it."""

from contextlib import suppress
from time import thread_time

import pytest

from nexus.fleet.figures.pages import VLLM_METRICS
from nexus.fleet.figures.prometheus import MAX_SAMPLE_BYTES, MAX_SAMPLES, Page


def values(page, name):
    return [sample.value for sample in Page(page, [name])[name]]


def test_a_metric_is_found_by_its_exact_name():
    page = b'# HELP a A.\n# TYPE a gauge\na{x="1"} 2.0\na_by_reason{x="1"} 7.0\nb_a 9\na 3\n'

    assert values(page, "a") == [2.0, 3.0]


@pytest.mark.parametrize("page", [b"a 1", b"a 1\n", b"x 1\na 1\r\n", b"a\t1 1700000000\n", b'a 1 # {t="1"} 0.5 9\n'])
def test_a_line_may_be_anywhere_and_end_anyhow(page):
    assert values(page, "a") == [1.0]


def test_labels_may_contain_everything_that_a_page_is_made_of():
    page = rb'a{x="} 5",y="a\"b\\",block_size="16",} 2' + b"\n"

    (sample,) = Page(page, ["a"])["a"]

    assert (sample.value, sample.label("block_size"), sample.label("size")) == (2.0, "16", "")


def test_an_older_name_stands_in_for_a_newer_one():
    page = Page(b"old 3\n", ["new", "old"])

    assert page.total("new", "old") == 3.0
    assert page.total("new") is None


def test_a_sum_with_a_value_that_is_no_number_is_unknown():
    assert Page(b'a{x="1"} NaN\na{x="2"} 1\n', ["a"]).total("a") is None


@pytest.mark.parametrize("page", [b"a \n", b"a x\n", b'a{x="1 2\n', b'a{x="1"\n'])
def test_a_line_that_cannot_be_read_is_an_error(page):
    with pytest.raises(ValueError, match="a line"):
        Page(page, ["a"])


@pytest.mark.parametrize(
    "page",
    [
        b'a{x="1"} 1\n' * (MAX_SAMPLES + 1),
        b"a_b 1\n" * (MAX_SAMPLES + 1),
        b'a{x="' + b"y" * MAX_SAMPLE_BYTES + b'"} 1\n',
    ],
)
def test_a_page_with_too_much_to_read_is_refused(page):
    with pytest.raises(ValueError, match="lines"):
        Page(page, ["a"])


@pytest.mark.parametrize(
    "line",
    [
        b"b" * 100 + b" 1\n",
        b'vllm:num_requests_running{x="1"} 1\n',
        b"vllm:num_requests_running{" + b'"' * 999 + b" 1\n",
        b"vllm:num_requests_running" * 200 + b"\n",
        b'vllm:num_requests_running{x="\\\\\\" 1\n',
        b"vllm:num_requests_runnin\n",
    ],
)
def test_no_page_of_the_largest_size_takes_long(line):
    page = line * (1024 * 1024 // len(line))

    began = thread_time()
    with suppress(ValueError):
        Page(page, VLLM_METRICS)
    took_s = thread_time() - began

    # About 2 ms on the machine of 2026 that runs these tests, and more on a slower one.
    assert took_s < 0.01
