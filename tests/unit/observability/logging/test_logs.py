"""Log lines have the right fields, hide secrets, and cost the caller little."""

import io
import logging
import os
import re
import sys
import threading
import time
import warnings

import msgspec
import pytest
import structlog
from structlog.testing import capture_logs

from nexus.config.schema import LoggingConfig
from nexus.observability.logging import logs
from nexus.observability.logging import writing as log_writing

log = structlog.get_logger("nexus.routing.pipeline")


def test_a_line_has_its_time_level_logger_event_and_fields(entries):
    log.info("stage_skipped", plugin="quality", count=3, ratio=0.5, ok=True, missing=None)

    (line,) = entries()

    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", line.pop("timestamp"))
    assert line == {
        "level": "info",
        "logger": "nexus.routing.pipeline",
        "event": "stage_skipped",
        "plugin": "quality",
        "count": 3,
        "ratio": 0.5,
        "ok": True,
        "missing": None,
    }


def test_lines_keep_their_order_and_none_is_lost_at_shutdown(entries):
    for number in range(500):
        log.info("counted", number=number)

    assert [line["number"] for line in entries()] == list(range(500))


def test_a_level_silences_what_is_below_it(written, entries):
    written(LoggingConfig(level="warning", format="json"))

    log.debug("a")
    log.info("b")
    log.warning("c")
    log.error("d")

    assert [line["event"] for line in entries()] == ["c", "d"]


def test_a_component_may_have_a_level_of_its_own(written, entries):
    other = structlog.get_logger("nexus.fleet")
    written(LoggingConfig(format="json", component_levels={"routing": "debug", "fleet": "error"}))

    log.debug("seen")
    other.warning("unseen")

    assert [line["event"] for line in entries()] == ["seen"]


def test_a_reload_changes_the_levels_of_loggers_in_use(written, entries):
    log.debug("before")
    written(LoggingConfig(level="debug", format="json"))
    log.debug("after")

    assert [line["event"] for line in entries()] == ["after"]


@pytest.mark.parametrize(
    ("logger", "component"),
    [
        ("nexus", "nexus"),
        ("nexus.routing", "routing"),
        ("nexus.routing.pipeline", "routing"),
        ("nexus_privacy.reconciler", "privacy"),
        ("aiohttp.server", "aiohttp"),
    ],
)
def test_the_component_of_a_logger_is_its_package(logger, component):
    assert logs.component_of(logger) == component


def test_bound_fields_are_in_each_line(entries):
    bound = log.bind(request_id="r1")

    bound.info("a")
    bound.info("b", request_id="r2")

    assert [line["request_id"] for line in entries()] == ["r1", "r2"]


def test_an_exception_is_logged_with_type_message_traceback_and_cause_without_locals(entries):
    def fail():
        password = "sesame-open"
        try:
            return {}[password.upper()]
        except KeyError as inner:
            raise ValueError("outer") from inner

    try:
        fail()
    except ValueError:
        log.exception("failed")

    (line,) = entries()

    assert (line["level"], line["error_type"], line["error"]) == ("error", "ValueError", "outer")
    assert line["caused_by"] == "KeyError: 'SESAME-OPEN'"
    assert re.fullmatch(r"observability/logging/test_logs\.py:\d+ fail", line["traceback"][-1])
    assert "sesame-open" not in str(line)


@pytest.mark.parametrize("exc_info", [None, False])
def test_without_an_exception_there_are_no_fields_for_it(entries, exc_info):
    log.error("failed", exc_info=exc_info)

    assert entries()[0].keys() == {"timestamp", "level", "logger", "event"}


def test_an_exception_that_cannot_be_printed_is_still_logged(entries):
    class Mute(Exception):
        def __str__(self) -> str:
            raise RuntimeError

    log.error("failed", exc_info=Mute())

    assert entries()[0]["error_type"].endswith("Mute")


@pytest.mark.parametrize("form", ["json", "pretty"])
def test_control_characters_are_escaped_in_log_lines(written, form):
    written(LoggingConfig(format=form))
    evil = "a\r\nb\x1b[31m\x00\x7f\x9b2J\u202egnp\u2028\u200b\U000e0041 ü 模型"

    log.info("seen", model=evil, k=[evil, {evil: evil}])

    (line,) = written()
    assert line.isprintable()
    assert "ü 模型" in line
    assert "\\u202e" in line
    assert "\\udb40\\udc41" in line
    if form == "json":
        assert msgspec.json.decode(line)["model"] == evil


def test_long_broad_and_deep_values_are_cut(written):
    log.info(
        "seen",
        text="x" * 1000,
        many=list(range(1000)),
        deep={"a": {"b": {"c": {"d": {"e": 1}}}}},
        huge=10**5000,
        raw=b"\xff" * 5000,
        key={"k" * 1000: 1},
        other=object,
    )

    (line,) = written()

    assert len(line) < 3000
    assert msgspec.json.decode(line)["text"] == "x" * 256 + "…"


def test_a_surrogate_from_a_header_does_not_lose_the_line(entries):
    log.info("seen", path="/\udcff")

    assert entries()[0]["path"] == "/\\udcff"


def test_fields_cannot_replace_timestamp_level_and_logger(entries):
    log.info("seen", level="critical", timestamp="never", logger="root")

    assert entries()[0]["level"] == "info"
    assert entries()[0]["logger"] == "nexus.routing.pipeline"


@pytest.mark.parametrize("form", ["json", "pretty"])
def test_a_hidden_secret_is_in_no_line(written, form, monkeypatch):
    monkeypatch.setattr(logs, "_redactor", type(logs._redactor)())
    written(LoggingConfig(format=form))
    for secret in ("sk-canary", "sk-canary-longer", 'quo"te\\d', "abc"):
        logs.hide(secret)

    log.info("seen", a="Bearer sk-canary", b=["sk-canary-longer"], c="x" * 250 + "sk-canary", d='quo"te\\d', e="abc")
    log.info("sk-canary", exc_info=ValueError("sk-canary"))

    text = "\n".join(written())
    assert "sk-" not in text
    assert "longer" not in text
    assert "quo" not in text
    assert "abc" in text  # too short to be a secret


class Facts(msgspec.Struct):
    """Of what every request writes."""

    model: str | None
    status: int = 200
    took: float = 0.5


@pytest.mark.parametrize("model", ["llama3", None, "模型", "a\x9b2J\u202e\x7f", "/\udcff", "sk-canary-model", 'q"\\'])
@pytest.mark.parametrize("form", ["json", "pretty"])
def test_a_line_of_members_equals_a_line_of_fields(written, form, model, monkeypatch):
    monkeypatch.setattr(logs, "_redactor", type(logs._redactor)())
    monkeypatch.setattr(time, "time_ns", lambda: 1_700_000_000_123_456_789)
    logs.hide("sk-canary")
    written(LoggingConfig(format=form))

    log.warning("seen", model=model, status=200, took=0.5)
    logs.write_line("nexus.routing.pipeline", "warning", "seen", Facts(model))

    fields, members = written()
    assert members == fields
    assert "sk-canary" not in members


@pytest.mark.parametrize("form", ["json", "pretty"])
def test_only_warnings_that_are_no_access_lines_are_urgent(written, form, monkeypatch):
    written(LoggingConfig(format=form))
    urgent = []
    monkeypatch.setattr(logs._sink.writer, "put", lambda line, *, is_urgent=False: urgent.append(is_urgent))

    log.info("seen")
    log.error("seen")
    logs.write_line("nexus.routing.pipeline", "error", "seen", Facts("llama3"))

    assert urgent == [False, True, False]


def test_tests_may_capture_a_line_of_members(entries):
    with capture_logs() as captured:
        logs.write_line("nexus.routing.pipeline", "info", "seen", Facts("llama3"))

    assert captured == [{"event": "seen", "model": "llama3", "status": 200, "took": 0.5, "log_level": "info"}]
    assert entries() == []


def test_a_line_has_values_as_they_were_when_it_was_logged(entries):
    backends = ["gpu-1"]

    log.info("seen", backends=backends)
    backends.append("gpu-2")

    assert entries()[0]["backends"] == ["gpu-1"]


def test_a_value_that_cannot_be_shown_fails_no_caller(entries):
    class Mute:
        def __str__(self) -> str:
            raise RuntimeError

    log.info("seen", value=Mute())

    assert entries()[0]["event"] == "seen"
    assert entries()[0]["fields_not_shown"] == "RuntimeError"


def test_pretty_lines_are_for_people(written):
    written(LoggingConfig(format="pretty"))

    log.warning("stage_skipped", plugin="quality", reason="two words", count=3)

    (line,) = written()
    assert re.fullmatch(
        r'\S+Z warning  nexus\.routing\.pipeline stage_skipped plugin=quality reason="two words" count=3', line
    )


def test_auto_is_json_without_a_terminal(written, entries):
    written(LoggingConfig(format="auto"))

    log.info("seen")

    assert entries()[0]["event"] == "seen"


def test_on_a_terminal_auto_is_pretty_and_in_colour(monkeypatch):
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm")
    reader, terminal = os.openpty()
    with os.fdopen(terminal, "w") as stream:
        logs.configure(LoggingConfig(format="auto"), stream=stream)
        log.info("seen")
        logs.shutdown()
        line = os.read(reader, 1000).decode()
    os.close(reader)

    assert "\x1b[32minfo" in line
    assert "seen" in line


def test_a_stream_without_a_file_takes_lines_too(capsys):
    logs.configure(LoggingConfig(format="json"), stream=sys.stderr)
    log.info("seen")
    logs.shutdown()

    assert msgspec.json.decode(capsys.readouterr().err)["event"] == "seen"


def test_libraries_log_to_the_same_place_from_warnings_on(entries):
    logging.getLogger("aiohttp.server").warning("odd %s", "request")
    logging.getLogger("asyncio").info("unseen")
    try:
        os.stat("/gone")  # noqa: PTH116 - any failure will do
    except OSError:
        logging.getLogger("zeroconf").exception("failed")

    first, second = entries()

    assert (first["logger"], first["level"], first["message"]) == ("aiohttp.server", "warning", "odd request")
    assert (second["logger"], second["level"], second["error_type"]) == ("zeroconf", "error", "FileNotFoundError")


def test_warnings_are_log_lines(entries):
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        logging.captureWarnings(capture=False)
        logging.captureWarnings(capture=True)
        warnings.warn("Unclosed connection", ResourceWarning, stacklevel=1)

    assert "Unclosed connection" in entries()[0]["message"]


def test_a_blocked_pipe_never_blocks_a_caller_and_drops_are_counted_and_reported(monkeypatch):
    monkeypatch.setattr(log_writing, "MAX_LINES", 100)
    reader, writer = os.pipe()
    stream = os.fdopen(writer, "w")
    before = logs.dropped()
    logs.configure(LoggingConfig(format="json"), stream=stream)

    began = time.monotonic()
    for _ in range(30):
        for _ in range(100):
            log.info("filled", text="x" * 200)
        time.sleep(0.002)
    took_s = time.monotonic() - began
    lost = logs.dropped() - before
    received = []
    drain = threading.Thread(target=lambda: received.extend(iter(lambda: os.read(reader, 65536), b"")))
    drain.start()
    logs.shutdown()
    stream.close()
    drain.join(5)
    os.close(reader)

    lines = [msgspec.json.decode(line) for line in b"".join(received).splitlines()]
    reported = sum(line["count"] for line in lines if line["event"] == "log_lines_dropped")
    assert took_s < 2
    assert lost > 0
    assert reported == lost
    assert len(lines) + lost == 3000 + sum(line["event"] == "log_lines_dropped" for line in lines)


def test_a_full_disk_loses_lines_and_nothing_else():
    with open("/dev/full", "w") as stream:  # noqa: PTH123 - a device
        before = logs.dropped()
        logs.configure(LoggingConfig(format="json"), stream=stream)
        log.info("lost")
        logs.shutdown()

    assert logs.dropped() - before == 1


def test_a_stream_that_was_closed_loses_lines_and_nothing_else():
    stream = io.StringIO()
    before = logs.dropped()
    logs.configure(LoggingConfig(format="json"), stream=stream)
    stream.close()
    log.info("lost")
    logs.shutdown()

    assert logs.dropped() - before == 1


def test_shutdown_does_not_wait_for_an_unread_pipe(monkeypatch):
    monkeypatch.setattr(logs, "STOP_TIMEOUT_S", 0.1)
    reader, writer = os.pipe()
    stream = os.fdopen(writer, "w")
    logs.configure(LoggingConfig(format="json"), stream=stream)
    for _ in range(1000):
        log.info("filled", text="x" * 200)

    began = time.monotonic()
    logs.shutdown()
    took_s = time.monotonic() - began
    os.close(reader)  # which ends the write that hangs
    for thread in threading.enumerate():
        if thread.name == "log-writer":
            thread.join(5)
    stream.close()

    assert took_s < 1


def test_tests_may_capture_what_is_logged(entries):
    log.info("before")
    with capture_logs() as captured:
        log.info("seen", a=1)
    log.info("after")

    assert captured == [{"event": "seen", "a": 1, "log_level": "info"}]
    assert [line["event"] for line in entries()] == ["before", "after"]


def test_a_call_costs_the_caller_little(written):
    fields = {f"field_{n}": n for n in range(15)}

    costs = []
    for _ in range(20):
        began = time.thread_time_ns()
        for _ in range(100):
            log.info("exchange_finished", **fields)
        costs.append((time.thread_time_ns() - began) / 100)

    # The line is encoded in the caller's thread: 6 to 11 us for so many fields. Three times that would be a sign that
    # something crept in.
    assert min(costs) < 30_000
