"""What a started proxy logs: how much, in which form, of what happens to it, and never at the cost of a request."""

import json
import os
import resource
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from nexus.simulator import Settings, Simulator, Status, in_thread
from nexus.testing.client import ask, chat
from nexus.testing.fleets import table_of
from nexus.testing.ports import free_port
from nexus.testing.waiting import until
from tests.support.process import run_nexus

PATH = "/v1/chat/completions"


def reloaded(nexus, old, new):
    """Replace *old* by *new* in the file, and wait until that is in force."""
    count = nexus.log_text().count("config_reloaded") + 1
    nexus.config_file.write_text(nexus.config_file.read_text().replace(old, new))
    nexus.send(signal.SIGHUP)
    until(lambda: nexus.log_text().count("config_reloaded") == count)


def test_levels_of_components_are_taken_from_the_file_and_from_a_reload(simulate, start_nexus):
    gpu = simulate(models=("llama3",))
    nexus = start_nexus('[logging]\nlevel = "info"\ncomponent_levels = { proxy = "error" }\n' + table_of(gpu))

    ask(nexus.url, PATH, chat())
    reloaded(nexus, 'proxy = "error"', 'proxy = "debug"')
    ask(nexus.url, PATH, chat(stream=True))

    (line,) = nexus.wait_for_log("exchange_finished")
    (begun,) = nexus.log_lines("exchange_begun")
    assert (line["level"], begun["level"]) == ("info", "debug")
    assert begun["request_id"] == line["request_id"]


def test_the_level_of_a_line_is_what_happened(simulate, start_nexus):
    gpu = simulate(models=("llama3",))
    nexus = start_nexus('[logging]\ncomponent_levels = { proxy = "warning" }\n' + table_of(gpu))

    ask(nexus.url, PATH, chat())
    ask(nexus.url, PATH, chat("nobody-has-this"))
    gpu.faults.set(Status(status=500, times=1))
    ask(nexus.url, PATH, chat())

    lines = nexus.wait_for_log("exchange_finished", 2)
    assert [(line["level"], line["status"], line["status_code"]) for line in lines] == [
        ("warning", "error", 404),
        ("error", "error", 500),
    ]
    assert lines[0]["error_message"]
    assert [failed["fault"] for failed in lines[1]["failed_attempts"]] == ["status"]


def test_the_form_can_be_changed_by_a_reload(simulate, start_nexus):
    gpu = simulate(models=("llama3",))
    nexus = start_nexus('[logging]\nformat = "pretty"\n' + table_of(gpu), environ={"NEXUS_LOG_FORMAT": ""})
    assert not nexus.log_lines()

    reloaded(nexus, '"pretty"', '"json"')
    ask(nexus.url, PATH, chat())

    assert nexus.wait_for_log("exchange_finished")


CONTENT = "[logging]\nenable_content_logging = {}\n"


def test_prompts_are_logged_only_when_wanted_and_then_it_says_so(simulate, start_nexus):
    gpu = simulate(models=("llama3",))
    nexus = start_nexus(CONTENT.format("false") + 'level = "info"\n' + table_of(gpu))
    ask(nexus.url, PATH, chat(text="before"))
    assert "content_logging_enabled" not in nexus.log_text()

    reloaded(nexus, "= false", "= true")
    ask(nexus.url, PATH, chat(text="after"))
    reloaded(nexus, "= true", "= false")
    ask(nexus.url, PATH, chat(text="again"))

    lines = nexus.wait_for_log("exchange_finished", 3)
    assert [line.get("prompt_preview") for line in lines] == [None, "after", None]
    assert [line["level"] for line in nexus.log_lines("content_logging_enabled")] == ["warning"]


IMAGE = {"type": "image_url", "image_url": {"url": "data:image/png;base64,QUJDREVGRw=="}}
PREVIEWS = {
    PATH: {"messages": [{"role": "system", "content": "rules"}, {"role": "user", "content": "é" * 200}]},
    "/v1/messages": {"max_tokens": 9, "messages": [{"role": "user", "content": [{"type": "text", "text": "é" * 200}]}]},
    "/v1/responses": {"input": "é" * 200},
    "/v1/embeddings": {"input": ["é" * 200]},
    "/v1/completions": {"prompt": "é" * 200},
}


@pytest.fixture(scope="module")
def talkative(tmp_path_factory):
    """A proxy that logs prompts, and has keys."""
    settings = Settings(name="gpu-1", kind="vllm", models=("llama3",))
    config = '[server]\napi_keys = ["env:KEY"]\n' + CONTENT.format("true") + 'level = "error"\n'
    config += 'component_levels = { proxy = "info" }\n'
    with in_thread(Simulator(settings)) as (gpu,):
        folder = tmp_path_factory.mktemp("talkative")
        with run_nexus(folder, config + table_of(gpu), environ={"KEY": "sk-open-sesame"}) as nexus:
            yield nexus


def preview_of(nexus, path, body):
    request_id = f"preview-{time.monotonic_ns()}"
    headers = {"Authorization": "Bearer sk-open-sesame", "X-Request-Id": request_id}
    ask(nexus.url, path, {"model": "llama3", **body}, headers=headers)
    found = until(
        lambda: [line for line in nexus.log_lines("exchange_finished") if line.get("client_request_id") == request_id]
    )
    return found[0].get("prompt_preview")


@pytest.mark.parametrize("path", PREVIEWS)
def test_a_preview_is_short_in_every_protocol(talkative, path):
    assert preview_of(talkative, path, PREVIEWS[path]) == "é" * 100


def test_a_preview_shows_no_image_no_answer_and_no_key_not_even_half_of_one(talkative):
    spoken = {"type": "text", "text": "x" * 90 + "sk-open-sesame"}

    shown = preview_of(talkative, PATH, {"messages": [{"role": "user", "content": [IMAGE, spoken]}]})

    assert shown == "x" * 90 + "***"
    assert "QUJD" not in talkative.log_text()


def test_a_warning_that_prompts_are_logged_comes_at_every_level(talkative):
    assert len(talkative.log_lines("content_logging_enabled")) == 1


def test_a_start_and_an_end_are_told_step_by_step(simulate, start_nexus):
    gpu = simulate(name="gpu-1", models=("llama3",))
    nexus = start_nexus(table_of(gpu))
    ask(nexus.url, "/admin/backends/gpu-1/drain", b"", method="POST")
    reloaded(nexus, "gpu-1", "gpu-2")
    nexus.stop()

    told = [line["event"] for line in nexus.log_lines()]
    story = [
        "starting",
        "store_opened",
        "backend_joined",
        "backend_models_changed",
        "backend_status_changed",
        "started",
    ]
    story += ["backend_status_changed", "drain_requested", "backend_left", "backend_joined", "config_reloaded"]
    story += ["draining", "stopped"]
    rest = iter(told)
    assert [event for event in story if event not in rest] == []
    (drained,) = nexus.log_lines("drain_requested")
    assert (drained["backend"], drained["action"]) == ("gpu-1", "drain")
    assert all(line["timestamp"].endswith("Z") for line in nexus.log_lines())


def test_a_request_that_waits_and_an_attempt_that_fails_are_told_at_debug(simulate, start_nexus):
    gpu = simulate(models=("llama3",), ttft_s=0.5)
    nexus = start_nexus('[logging]\ncomponent_levels = { proxy = "debug" }\n' + table_of(gpu, max_in_flight=1))
    gpu.faults.set(Status(status=503, times=1))
    with ThreadPoolExecutor(3) as clients:
        list(clients.map(lambda _: ask(nexus.url, PATH, chat()), range(3)))

    assert nexus.wait_for_log("exchange_queued")[0]["backends"] == ["gpu-1"]
    (failed,) = nexus.wait_for_log("attempt_failed")
    assert (failed["backend"], failed["fault"], failed["status"]) == ("gpu-1", "status", 503)


def test_plugins_that_are_loaded_and_that_are_not_are_named(simulate, start_nexus, tmp_path):
    gpu = simulate(models=("llama3",))
    (tmp_path / "mine.py").write_text(
        "from nexus.api import hookimpl\n\n@hookimpl\ndef nexus_reconcilers():\n    return []\n"
    )

    nexus = start_nexus(table_of(gpu), arguments=("--plugin", str(tmp_path / "mine.py")))

    assert "mine" in [line["plugin"] for line in nexus.wait_for_log("plugin_loaded")]


def started(folder, config, port, **stderr):
    """Start a proxy whose log goes where *stderr* says, and wait until it listens."""
    (folder / "nexus.toml").write_text(config)
    process = subprocess.Popen(
        [sys.executable, "-m", "nexus", "--port", str(port), "--log-format", "json", "--log-level", "debug"],
        cwd=folder,
        **stderr,
    )
    until(lambda: _is_ready(port), within_s=20)
    return process


def _is_ready(port):
    try:
        return ask(f"http://127.0.0.1:{port}", "/ready").status == 200
    except OSError:
        return False


def test_a_full_disk_slows_no_request_and_is_counted(simulate, tmp_path):
    gpu, port = simulate(models=("llama3",)), free_port()
    with open("/dev/full", "w") as full:  # noqa: PTH123 - a device
        process = started(tmp_path, table_of(gpu), port, stderr=full)
    url = f"http://127.0.0.1:{port}"
    try:
        assert [ask(url, PATH, chat()).status for _ in range(50)] == [200] * 50
        # They count when their write fails, and lines are written together.
        until(lambda: _dropped(url) > 50)
    finally:
        process.terminate()
        assert process.wait(15) == 0


def test_lines_that_a_full_disk_has_lost_are_told_when_there_is_room_again(simulate, tmp_path):
    gpu, port, file = simulate(models=("llama3",)), free_port(), tmp_path / "log"
    url = f"http://127.0.0.1:{port}"
    with file.open("a") as log:
        process = started(tmp_path, table_of(gpu), port, stderr=log)
    try:
        # A limit for the size of its files stands for a disk: it is reached in the middle of a line.
        resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (file.stat().st_size + 5_000, resource.RLIM_INFINITY))
        assert [ask(url, PATH, chat()).status for _ in range(30)] == [200] * 30
        until(lambda: _dropped(url) > 20)
        resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        assert ask(url, PATH, chat("nobody-has-this")).status == 404
        until(lambda: "log_lines_dropped" in file.read_text() and "nobody-has-this" in file.read_text())
        lost = _dropped(url)
    finally:
        process.terminate()
        assert process.wait(15) == 0

    lines = [json.loads(line) for line in file.read_text().splitlines()]
    (told,) = [line for line in lines if line["event"] == "log_lines_dropped"]
    assert (told["count"], told["write_failed"], told["queue_full"]) == (lost, lost, 0)
    assert "File too large" in told["error"]
    assert lines[0]["timestamp"] < told["since"] < told["timestamp"]


def test_a_pipe_whose_reader_has_gone_slows_no_request_and_is_counted(simulate, tmp_path):
    gpu, port = simulate(models=("llama3",)), free_port()
    reading, writing = os.pipe()
    process = started(tmp_path, table_of(gpu), port, stderr=writing)
    os.close(writing)
    os.close(reading)
    url = f"http://127.0.0.1:{port}"
    try:
        assert [ask(url, PATH, chat()).status for _ in range(20)] == [200] * 20
        until(lambda: _dropped(url) > 20)
    finally:
        process.terminate()
        assert process.wait(15) == 0


def test_a_pipe_that_nobody_reads_slows_no_request_and_holds_up_no_end(simulate, tmp_path):
    gpu, port = simulate(models=("llama3",)), free_port()
    reading, writing = os.pipe()
    process = started(tmp_path, table_of(gpu), port, stderr=writing)
    os.close(writing)
    url = f"http://127.0.0.1:{port}"
    try:
        # More than a pipe has room for.
        longest_s = 0.0
        for _ in range(300):
            began = time.monotonic()
            assert ask(url, PATH, chat("m" * 250)).status == 404
            longest_s = max(longest_s, time.monotonic() - began)
        assert longest_s < 2.0
        process.terminate()
        assert process.wait(15) == 0
        assert json.loads(os.read(reading, 65536).splitlines()[0])["event"] == "starting"
    finally:
        process.kill()
        os.close(reading)


def test_a_reader_that_stalls_and_reads_on_misses_nothing(simulate, tmp_path):
    gpu, port = simulate(models=("llama3",)), free_port()
    reading, writing = os.pipe()
    process = started(tmp_path, table_of(gpu), port, stderr=writing)
    os.close(writing)
    url = f"http://127.0.0.1:{port}"
    try:
        for _ in range(200):
            ask(url, PATH, chat("m" * 250))
        assert _dropped(url) == 0
        with ThreadPoolExecutor(1) as reader:
            content = reader.submit(lambda: b"".join(iter(lambda: os.read(reading, 65536), b"")))
            process.terminate()
            lines = [json.loads(line) for line in content.result(15).splitlines()]
    finally:
        process.kill()
        process.wait()
        os.close(reading)

    assert sum(line["event"] == "exchange_finished" for line in lines) == 200
    assert lines[-1]["event"] == "stopped"


def _dropped(url):
    (line,) = [
        line
        for line in ask(url, "/metrics").body.decode().splitlines()
        if line.startswith("nexus_log_lines_dropped_total ")
    ]
    return float(line.split()[1])
