"""Without ``--url``, a command finds the proxy that its user started, and always says which one it talked to."""

import json
import os
import signal
import socket
import subprocess
import sys
from contextlib import ExitStack, contextmanager, suppress

import pytest

from nexus import __version__
from nexus.testing.fleets import backend_table
from nexus.testing.ports import free_port
from nexus.testing.waiting import until
from tests.support.process import run_nexus

GPU = backend_table("gpu-1", "http://127.0.0.1:9", type="vllm")
KEYS = '[server]\nadmin_keys = ["env:NEXUS_API_KEY"]\napi_keys = ["env:NEXUS_API_KEY"]\n'
UNSTARTABLE = """
[server]
api_keys = ["env:UNSET_SERVER_KEY"]
[plugins.not_installed]
[[backends]]
name = "cloud"
url = "https://127.0.0.1"
api_key = "env:UNSET_BACKEND_KEY"
"""


@pytest.fixture
def folder(tmp_path):
    """A folder of its own for a proxy, whose files the command does not see."""
    made = tmp_path / "elsewhere"
    made.mkdir()
    return made


def here(tmp_path):
    return {"XDG_RUNTIME_DIR": str(tmp_path)}


def states(tmp_path):
    # One that is being written has a name that begins with a dot.
    return [json.loads(path.read_text()) for path in (tmp_path / "nexus-proxy").glob("proxy-*.json")]


def test_the_proxy_is_found_that_this_user_started_and_is_named_in_every_answer(folder, tmp_path, new_command):
    with run_nexus(folder, GPU, environ=here(tmp_path)) as nexus:
        until(lambda: states(tmp_path))
        listed, as_json = new_command("backends"), new_command("models", "--json")
        well, drained = new_command("health"), new_command("backends", "drain", "gpu-1", "--json")
        (state,) = states(tmp_path)

    place = f"{nexus.url} (pid {nexus.process.pid}, elsewhere/nexus.toml)"
    line = f"nexus-proxy {__version__} at {place}\n"
    assert (listed.returncode, listed.stderr) == (0, line)
    assert (json.loads(as_json.stdout), as_json.stderr) == ({"models": []}, line)
    assert (json.loads(drained.stdout)["status"], drained.stderr) == ("draining", line)
    assert f"nexus-proxy {__version__} at {place}, up " in well.stdout
    assert {name: state[name] for name in ("url", "pid", "config", "version")} == {
        "url": nexus.url,
        "pid": nexus.process.pid,
        "config": str(nexus.config_file),
        "version": __version__,
    }
    assert states(tmp_path) == []


def test_the_proxy_is_found_where_its_port_was_moved_to(tmp_path, command):
    # Where another program has taken 8000 already, that will do as well.
    with ExitStack() as taken:
        with suppress(OSError):
            taken.enter_context(socket.create_server(("127.0.0.1", 8000)))
        with bare_nexus(tmp_path, "--no-discovery") as port:
            found = command("health")

    assert port != 8000
    assert f"at http://127.0.0.1:{port} (pid " in found.stdout, found.stderr


@contextmanager
def bare_nexus(folder, *words):
    """Start ``nexus-proxy`` as an operator does, on whatever port it finds, and give that port."""
    environ = {name: value for name, value in os.environ.items() if not name.startswith("NEXUS_")}
    process = subprocess.Popen(
        [sys.executable, "-m", "nexus", *words], cwd=folder, env=environ | here(folder), stderr=subprocess.DEVNULL
    )
    try:
        (state,) = until(lambda: states(folder), within_s=30)
        yield int(state["url"].rpartition(":")[2])
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(15)


@pytest.fixture(scope="module")
def two(tmp_path_factory):
    shared = tmp_path_factory.mktemp("shared")
    one, other = shared / "one", shared / "other"
    one.mkdir()
    other.mkdir()
    with (
        run_nexus(one, GPU, environ=here(shared)) as first,
        run_nexus(other, GPU, environ=here(shared)) as second,
    ):
        until(lambda: len(states(shared)) == 2)
        yield shared, first, second


class TestSeveral:
    def test_it_is_said_that_several_could_be_meant(self, two, command):
        shared, first, second = two

        ended = command("backends", **here(shared))

        assert ended.returncode == 64
        assert first.url in ended.stderr
        assert second.url in ended.stderr
        assert "--url" in ended.stderr

    @pytest.mark.parametrize("by", ["config", "port", "url", "NEXUS_CONFIG", "NEXUS_URL"])
    def test_one_is_named(self, two, command, by):
        shared, _, second = two
        value = {
            "config": str(second.config_file),
            "port": str(second.port),
            "url": second.url,
            "NEXUS_CONFIG": str(second.config_file),
            "NEXUS_URL": second.url,
        }[by]

        words, environ = ((), {by: value}) if by.isupper() else ((f"--{by}", value), {})

        ended = command("backends", *words, **here(shared), **environ)

        assert ended.returncode == 0, ended.stderr
        assert f" at {second.url}" in ended.stderr

    def test_a_configuration_with_which_none_was_started_leads_to_its_own_address(self, two, command, tmp_path):
        shared, first, _ = two
        port = free_port()
        (tmp_path / "nexus.toml").write_text(f"[server]\nport = {port}\n")

        ended = command("backends", **here(shared))

        assert ended.returncode == 69
        assert f"no proxy answers at http://127.0.0.1:{port}: " in ended.stderr
        assert f"running are {first.url} (pid " in ended.stderr or first.url in ended.stderr


class TestTheFile:
    def test_one_that_a_killed_proxy_has_left_is_ignored_and_removed(self, folder, tmp_path, command):
        with run_nexus(folder, GPU, environ=here(tmp_path)) as nexus:
            until(lambda: states(tmp_path))
            nexus.process.kill()
            nexus.process.wait()
        (tmp_path / "nexus.toml").write_text(f"[server]\nport = {free_port()}\n")

        ended = command("backends")

        assert ended.returncode == 69
        assert nexus.url not in ended.stderr
        assert states(tmp_path) == []

    def test_one_whose_process_id_has_been_given_to_another_process_is_ignored(self, tmp_path, command):
        (tmp_path / "nexus-proxy").mkdir(mode=0o700)
        state = {"url": "http://127.0.0.1:9", "pid": os.getpid(), "config": None, "started_at": "", "version": "1"}
        (tmp_path / "nexus-proxy" / "proxy-1-a.json").write_text(json.dumps(state))
        (tmp_path / "nexus.toml").write_text(f"[server]\nport = {free_port()}\n")

        assert "127.0.0.1:9" not in command("backends").stderr
        assert states(tmp_path) == []

    def test_a_reload_brings_it_back(self, folder, tmp_path, command):
        with run_nexus(folder, GPU, environ=here(tmp_path)) as nexus:
            until(lambda: states(tmp_path))
            for path in (tmp_path / "nexus-proxy").glob("*.json"):
                path.unlink()
            nexus.send(signal.SIGHUP)
            nexus.wait_for_log("config_reloaded")
            until(lambda: states(tmp_path))

            assert command("backends").returncode == 0

    def test_a_start_warns_once_that_it_cannot_be_written(self, start_nexus, tmp_path):
        nexus = start_nexus(GPU, environ={"XDG_RUNTIME_DIR": str(tmp_path / "gone")})
        nexus.wait_for_log("state_file_not_written")
        nexus.send(signal.SIGHUP)
        nexus.wait_for_log("config_reloaded")

        (warning,) = nexus.log_lines("state_file_not_written")
        assert warning["reason"] == "No such file or directory"

    def test_a_folder_in_which_others_may_write_is_not_used(self, start_nexus, tmp_path, command):
        shared = tmp_path / f"nexus-proxy-{os.geteuid()}"
        shared.mkdir()
        shared.chmod(0o777)
        environ = {"XDG_RUNTIME_DIR": "", "TMPDIR": str(tmp_path)}

        nexus = start_nexus(GPU, environ=environ)

        (warning,) = nexus.wait_for_log("state_file_not_written")
        assert "others may write to it" in warning["reason"]

    def test_without_a_runtime_folder_it_is_below_the_temporary_one(self, start_nexus, tmp_path, command):
        environ = {"XDG_RUNTIME_DIR": "", "TMPDIR": str(tmp_path)}
        nexus = start_nexus(GPU, environ=environ)
        made = tmp_path / f"nexus-proxy-{os.geteuid()}"
        until(lambda: made.exists() and [*made.glob("*.json")])

        ended = command("backends", **environ)

        assert made.stat().st_mode & 0o777 == 0o700
        assert f" at {nexus.url} (pid " in ended.stderr


class TestWithoutAStartableConfiguration:
    def test_with_a_url_no_file_is_read(self, start_nexus, command, tmp_path):
        nexus = start_nexus(GPU)
        (tmp_path / "nexus.toml").write_text("no TOML at all")

        for words in (("backends",), ("backends", "drain", "gpu-1"), ("models",), ("explain", "-m", "x")):
            ended = command(*words, "--url", nexus.url)

            assert ended.returncode == 0, ended.stderr
            assert "nexus.toml" not in ended.stderr

    def test_without_one_the_file_may_be_any_but_for_the_address(self, start_nexus, command, tmp_path, folder):
        nexus = start_nexus(GPU)
        port = f"[server]\nport = {nexus.port}\n"
        (folder / "client.toml").write_text(UNSTARTABLE.replace("[server]\n", port))

        by_address = command("backends", "--config", "elsewhere/client.toml")
        (tmp_path / "nexus.toml").write_text("no TOML at all")
        by_state, nowhere = command("backends"), command("backends", XDG_RUNTIME_DIR=str(folder))

        assert (by_address.returncode, by_state.returncode) == (0, 0), by_address.stderr + by_state.stderr
        assert nowhere.returncode == 78
        assert "nexus.toml: not valid TOML" in nowhere.stderr
        assert "--url" in nowhere.stderr

    def test_an_address_that_is_wrong_is_an_error(self, command):
        ended = command("backends", NEXUS_PORT="many")

        assert ended.returncode == 78
        assert ended.stderr.startswith("nexus-proxy: NEXUS_PORT: ")


class TestKeys:
    def test_the_configured_key_is_shown_to_the_proxy_with_that_configuration(self, start_nexus, command):
        start_nexus(KEYS + GPU, environ={"NEXUS_API_KEY": "sesame-1"})

        known, unset = command("backends", NEXUS_API_KEY="sesame-1"), command("backends")
        wrong = command("backends", NEXUS_API_KEY="sesame-2")

        assert (known.returncode, unset.returncode, wrong.returncode) == (0, 77, 77), known.stderr
        assert "asks for a key: --api-key" in unset.stderr
        assert "refuses the one that was shown" in wrong.stderr

    def test_it_is_not_shown_to_another_proxy(self, start_nexus, command, tmp_path):
        nexus = start_nexus('[server]\napi_keys = ["env:SECRET"]\n' + GPU, environ={"SECRET": "sesame-1"})

        ended = command("backends", "--url", nexus.url, SECRET="sesame-1")
        by_variable = command("backends", "--url", nexus.url, NEXUS_API_KEY="sesame-1")

        assert (ended.returncode, by_variable.returncode) == (77, 0)
