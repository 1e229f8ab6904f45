"""No answer of a server makes a decoder of reports do anything but succeed or raise ValueError."""

import json

from hypothesis import given
from hypothesis import strategies as st

from nexus.domain.engine_report import EngineReport
from nexus.fleet.figures.pages import LLAMACPP_METRICS, SGLANG_METRICS, VLLM_METRICS
from nexus.fleet.kinds import KINDS

DECODERS = [lookup.decode for kind in KINDS.values() for lookup in kind.load_lookups]
BLANK = EngineReport(at=1.0, due_at=3.0)
NAMES = st.sampled_from(sorted({*VLLM_METRICS, *SGLANG_METRICS, *LLAMACPP_METRICS}))
LABELS = st.sampled_from(["", "{", "}", '{engine="0"}', '{dp_rank="1",}', '{x="\\"} 3"}', '{block_size="16"', '{a="'])
VALUES = st.sampled_from(["0", "1", "-1", "1e308", "NaN", "+Inf", "0x1", "1_0", "", "\x00", "9" * 400])
LINES = st.builds(
    lambda name, rest, labels, value, end: f"{name}{rest}{labels} {value}{end}",
    NAMES,
    st.sampled_from(["", "_by_reason", "_total"]),
    LABELS,
    VALUES,
    st.sampled_from(["\n", "\r\n", " 123\n", ""]),
)
PAGES = st.lists(LINES | st.text(max_size=20), max_size=20).map(lambda lines: "".join(lines).encode(errors="replace"))
KEYS = st.sampled_from(
    (
        *("loads", "num_running_reqs", "num_waiting_reqs", "token_usage", "max_running_requests", "is_processing"),
        *("models", "data", "name", "key", "id", "status", "value", "state", "loaded_instances", "config", "parallel"),
    )
)
DOCUMENTS = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | st.sampled_from(["loaded", "a"]),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(KEYS, inner, max_size=5),
    max_leaves=20,
).map(lambda value: json.dumps(value).encode())


@given(body=PAGES | DOCUMENTS | st.binary(max_size=200), decode=st.sampled_from(DECODERS))
def test_a_decoder_returns_a_plausible_report_or_raises_value_error(body, decode):
    try:
        report = decode(body, BLANK)
    except ValueError:
        return

    for count in (report.running, report.waiting):
        assert count is None or (isinstance(count, int) and count >= 0)
    assert report.kv_usage is None or 0.0 <= report.kv_usage <= 1.0
    for size in (report.slots, report.cache_tokens):
        assert size is None or size >= 1
    assert report.other_requests(2.0) >= 0
    assert len(report.in_words(2.0)) < 300
