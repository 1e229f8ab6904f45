"""What makes a start fail makes ``check`` fail with the same words; what a check passes, starts."""

import os
import re
import socket
import sqlite3
import subprocess
import sys
from datetime import UTC, datetime, timedelta

import pytest
import trustme

from nexus.testing.fleets import backend_table
from nexus.testing.ports import free_port

QUIET = "[discovery]\nenabled = false\n"
SQLITE = QUIET + '[store]\nkind = "sqlite"\npath = "{path}"\n'

BROKEN_PLUGIN = """
from nexus.api import AdminRoute, hookimpl

@hookimpl
def {hook}({arguments}):
    {body}
"""


@pytest.fixture
def ends(command, tmp_path):
    """Run ``nexus-proxy`` as a start and as a check; return each one's exit code and what it says of the failure."""

    def run(config, *words, **environ):
        (tmp_path / "nexus.toml").write_text(config)
        words = words if "--port" in words else (*words, "--port", str(free_port()))
        ended = command(*words, **environ), command("check", *words, **environ)
        assert "Traceback" not in ended[0].stderr + ended[1].stderr, ended
        said = [each.stderr.strip().splitlines()[-1] for each in ended]
        return [(each.returncode, line) for each, line in zip(ended, said, strict=True)]

    return run


def foreign_database(folder):
    with sqlite3.connect(folder / "nexus.sqlite3") as other:
        other.execute("CREATE TABLE bookmarks (url TEXT)")
    other.close()


def no_database(folder):
    (folder / "nexus.sqlite3").write_text("milk, bread\n" * 100)


@pytest.mark.parametrize(
    ("make", "path", "told"),
    [
        (lambda _: None, "gone/nexus.sqlite3", "there is no folder gone; create it"),
        (lambda _: None, ".", "it is not a regular file; name another file with store.path"),
        (foreign_database, "nexus.sqlite3", "it is the database of another program; name another file"),
        (no_database, "nexus.sqlite3", "file is not a database"),
    ],
)
def test_a_store_that_cannot_be_opened(ends, tmp_path, make, path, told):
    make(tmp_path)

    started, checked = ends(SQLITE.format(path=path))

    assert started[1] == checked[1]
    assert told in started[1]
    assert (started[0], checked[0]) == (1, 78)


def test_a_store_that_a_check_has_passed_is_not_there_yet(command, tmp_path):
    (tmp_path / "nexus.toml").write_text(SQLITE.format(path="nexus.sqlite3"))

    assert command("check").returncode == 0
    assert [path.name for path in tmp_path.iterdir()] == ["nexus.toml"]


@pytest.mark.parametrize(
    ("hook", "arguments", "body", "told"),
    [
        ("nexus_discoverers", "config", "return 1 / 0", "division by zero"),
        ("nexus_routes", "config", "return [1]", "nexus_routes must give nexus.api.AdminRoute"),
        ("nexus_routes", "config", "raise LookupError('no pages')", "no pages"),
    ],
)
def test_a_plugin_that_fails_when_it_is_asked(ends, tmp_path, hook, arguments, body, told):
    (tmp_path / "broken.py").write_text(BROKEN_PLUGIN.format(hook=hook, arguments=arguments, body=body))

    started, checked = ends(QUIET, "--plugin", "broken.py")

    assert started[1] == checked[1]
    assert told in started[1]


def test_a_store_of_a_plugin_that_fails_in_its_own_way(ends, tmp_path):
    (tmp_path / "broken.py").write_text(BROKEN_STORE)

    started, checked = ends(QUIET + '[store]\nkind = "papyrus"\n', "--plugin", "broken.py")

    assert (
        started[1] == checked[1] == "nexus-proxy: the store 'papyrus' of [store] cannot be opened: LookupError: no reed"
    )


BROKEN_STORE = """
from nexus.api import hookimpl
from nexus.store.memory import MemoryStore

class Papyrus(MemoryStore):
    async def open(self):
        raise LookupError("no reed")

@hookimpl
def nexus_stores(config):
    return [("papyrus", lambda config: Papyrus())]
"""


def test_a_port_that_another_program_has(ends):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]

        started, checked = ends(QUIET, "--port", str(port))

    assert started[1] == checked[1]
    assert f"cannot listen on 127.0.0.1 port {port}: it is in use by " in started[1]
    assert f"(process {os.getpid()})" in started[1]
    assert (started[0], checked[0]) == (1, 78)


def test_an_address_of_another_machine(ends):
    started, checked = ends(QUIET + '[server]\nhost = "192.0.2.1"\n', "--insecure")

    assert started[1] == checked[1]
    assert "192.0.2.1" in started[1]


def test_a_check_beside_the_proxy_that_it_is_about_passes_with_a_warning(start_nexus, command):
    nexus = start_nexus(QUIET)

    checked = command("check", "--port", str(nexus.port))
    started = command("--port", str(nexus.port))

    assert (checked.returncode, started.returncode) == (0, 1)
    assert re.search(
        rf"^nexus-proxy: warning: a Nexus \S+ listens at {nexus.url} already", checked.stderr, re.MULTILINE
    )
    assert f"(process {nexus.process.pid})" in started.stderr


def test_a_port_that_nothing_names_is_replaced_by_another_and_that_is_said(tmp_path):
    config = tmp_path / "nexus.toml"
    config.write_text(QUIET)
    words = ("--config", config, "--log-level", "error")
    environ = {name: value for name, value in os.environ.items() if not name.startswith("NEXUS_")}
    with socket.socket() as taken:
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            taken.bind(("127.0.0.1", 8000))
            taken.listen()
        except OSError:
            pytest.skip("another process has the default port, and may let go of it at any time")
        with subprocess.Popen([sys.executable, "-m", "nexus", *words], stderr=subprocess.PIPE, env=environ) as process:
            line = process.stderr.readline().decode()
            process.terminate()

    assert line.startswith("nexus-proxy: warning: port 8000 is in use by ")
    assert "so this listens on http://127.0.0.1:80" in line
    assert process.returncode == 0


def test_a_certificate_that_has_expired_is_a_warning(command, tmp_path):
    past = datetime.now(UTC) - timedelta(days=3)
    expired = trustme.CA().issue_cert("nexus", not_before=past - timedelta(days=9), not_after=past)
    expired.private_key_and_cert_chain_pem.write_to_path(tmp_path / "own.pem")
    (tmp_path / "nexus.toml").write_text(backend_table("gpu-1", "https://gpu-1", tls_cert_file="own.pem"))

    checked = command("check")

    assert checked.returncode == 0
    assert f"warning: backend 'gpu-1': tls_cert_file own.pem expired on {past:%Y-%m-%d}" in checked.stderr
