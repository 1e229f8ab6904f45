"""An option counts wherever it is typed: before the command, before its subcommand and after both."""

import json

import pytest

from nexus.testing.fleets import backend_table
from tests.support.process import run_nexus

GPU = backend_table("gpu-1", "http://127.0.0.1:9", type="vllm")
PLUGIN = """
import click
from nexus.api import hookimpl

@hookimpl
def nexus_commands(config):
    return [click.Command("hello", callback=lambda: click.echo("hi"))]
"""


@pytest.fixture(scope="module")
def two(tmp_path_factory):
    """Two proxies; a command that loses the URL of one acts on the other, which its configuration names."""
    named, other = tmp_path_factory.mktemp("named"), tmp_path_factory.mktemp("other")
    with run_nexus(named, GPU) as one, run_nexus(other, GPU) as two:
        yield one, two


def status_at(nexus):
    return nexus.get_json("/admin/backends")["backends"][0]["status"]


@pytest.mark.parametrize(
    "words",
    [
        ("--url", "URL", "backends", "drain", "gpu-1"),
        ("backends", "--url", "URL", "drain", "gpu-1"),
        ("backends", "drain", "--url", "URL", "gpu-1"),
        ("backends", "drain", "gpu-1", "--url", "URL"),
        ("--url", "http://127.0.0.1:9", "backends", "drain", "gpu-1", "--url", "URL"),
    ],
)
def test_a_backend_is_drained_at_the_proxy_that_was_named(two, command, words):
    named, other = two

    drained = command(*(named.url if word == "URL" else word for word in words), NEXUS_PORT=str(other.port))
    seen = status_at(named), status_at(other)
    command("backends", "undrain", "gpu-1", "--url", named.url)

    assert drained.returncode == 0, drained.stderr
    assert (seen[0], seen[1] == "draining") == ("draining", False)


@pytest.mark.parametrize(
    "words",
    [
        ("--status", "unknown", "--json", "backends", "--url", "URL"),
        ("--json", "--url", "URL", "backends", "--status", "unknown"),
    ],
)
def test_a_command_s_own_options_may_precede_it(two, command, words):
    ended = command(*(two[0].url if word == "URL" else word for word in words))

    assert ended.returncode == 0, ended.stderr
    assert json.loads(ended.stdout) == {"backends": [], "pending": [], "files": []}


@pytest.mark.parametrize(
    "words",
    [
        ("check", "--config", "mine.toml", "--host", "127.0.0.2"),
        ("--config", "mine.toml", "check", "--host", "127.0.0.2"),
        ("--config", "mine.toml", "--host", "127.0.0.2", "check"),
        ("--host", "check", "--config", "gone.toml", "check", "--config", "mine.toml", "--host", "127.0.0.2"),
    ],
)
def test_the_configuration_may_be_named_anywhere(command, tmp_path, words):
    (tmp_path / "mine.toml").write_text("[server]\nport = 81\n")

    ended = command(*words)

    assert ended.stdout.splitlines()[:2] == ["mine.toml: ok", "  listens on 127.0.0.2 port 81"], ended.stderr


def test_options_that_may_be_repeated_add_up(command):
    ended = command("--set", "server.port=81", "check", "--set", "server.host=127.0.0.2")

    assert "  listens on 127.0.0.2 port 81" in ended.stdout.splitlines()


@pytest.mark.parametrize("words", [("-o", "x.toml", "config", "init"), ("config", "-o", "x.toml", "init")])
def test_an_option_of_a_subcommand_alone_may_precede_it(command, tmp_path, words):
    assert command(*words).returncode == 0
    assert (tmp_path / "x.toml").exists()


@pytest.mark.parametrize(
    ("words", "refusing", "option"),
    [
        (("backends", "--status", "healthy", "drain", "gpu-1"), "backends drain", "--status"),
        (("--url", "http://127.0.0.1:9", "check"), "check", "--url"),
        (("--config", "x.toml", "demo"), "demo", "--config"),
    ],
)
def test_an_option_that_the_command_does_not_have_is_refused_by_it(command, words, refusing, option):
    ended = command(*words)

    assert ended.returncode == 2
    assert ended.stderr.startswith(f"Usage: python -m nexus {refusing} ")
    assert "No such option" in ended.stderr.splitlines()[-1]
    assert option in ended.stderr.splitlines()[-1]


@pytest.mark.parametrize("words", [(), ("backends",), ("backends", "drain")])
def test_help_has_a_short_form_everywhere(command, words):
    short, long, before = command(*words, "-h"), command(*words, "--help"), command("-h", *words)

    assert (short.returncode, short.stdout) == (0, long.stdout)
    assert before.stdout == long.stdout
    assert short.stdout.startswith(" ".join(("Usage: python -m nexus", *words)))


class TestThoseOfPlugins:
    def test_a_command_of_a_plugin_is_found_with_the_options_before_it(self, command, tmp_path):
        (tmp_path / "hello.py").write_text(PLUGIN)
        (tmp_path / "nexus.toml").write_text("[servre]\n")
        (tmp_path / "mine.toml").write_text("")

        ended = command("--plugin", "hello.py", "--config", "mine.toml", "hello")

        assert (ended.returncode, ended.stdout) == (0, "hi\n"), ended.stderr

    def test_a_wrong_configuration_is_told_in_place_of_no_such_command(self, command, tmp_path):
        (tmp_path / "nexus.toml").write_text("[servre]\n")

        ended = command("hello")

        assert ended.returncode == 78
        assert ended.stderr.startswith("nexus-proxy: 'hello' is no command of Nexus itself, and those of plugins")
        assert "nexus.toml: unknown table - at `servre` (line 1)" in ended.stderr

    def test_a_broken_plugin_is_told_in_place_of_no_such_command(self, command, tmp_path):
        (tmp_path / "broken.py").write_text("1 / 0")

        ended = command("--plugin", "broken.py", "hello")

        assert ended.returncode == 1
        assert "those of plugins cannot be read: plugin 'broken' (broken.py)" in ended.stderr

    def test_a_plugin_that_is_not_loaded_is_told_of(self, command, tmp_path):
        (tmp_path / "greeter.py").write_text(PLUGIN)

        ended = command("--plugin", "greeter.py", "--disable-plugin", "greeter", "hello")

        assert ended.returncode == 2
        assert "there is no command 'hello'" in ended.stderr
        assert "not loaded: greeter" in ended.stderr
