"""The output and exit code of each command."""

import json
import signal
import sys
from pathlib import Path

import click
import pytest
from click.shell_completion import BashComplete

from nexus import __version__
from nexus.cli.main import COMMANDS, main
from nexus.cli.output.columns import in_columns
from nexus.plugin_manager import Plugin
from nexus.testing.plugin_check import Finding

NIGHT = str(Path(__file__).with_name("night.py"))
GPU = '[[backends]]\nname = "gpu-1"\nurl = "http://127.0.0.1:9"\n'


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_help(run, name):
    result = run(name, "--help")

    assert result.exit_code == 0
    assert result.output.startswith(f"Usage: nexus-proxy {name}")


def test_help_lists_all_commands(run):
    listed = run("--help").output

    assert all(f"\n  {name} " in listed for name in COMMANDS)


def test_the_version_comes_first_and_then_the_plugins(run):
    first, second, *_ = run("--version").output.splitlines()

    assert first == f"nexus-proxy {__version__} (python {sys.version.split()[0]})"
    assert second.startswith("plugins:")


def test_the_version_is_printed_even_when_the_configuration_is_wrong(run):
    Path("nexus.toml").write_text("[servre]")

    result = run("--version")

    assert result.exit_code == 0
    assert result.output.startswith(f"nexus-proxy {__version__}")
    assert "not loaded: nexus.toml: unknown table" in result.output


def test_check_prints_ok_and_a_summary(run):
    Path("nexus.toml").write_text(GPU)

    result = run("check")

    assert result.exit_code == 0
    assert result.stdout.splitlines()[0] == "nexus.toml: ok"
    assert "  backends: gpu-1" in result.stdout.splitlines()


@pytest.mark.parametrize(
    ("toml", "text"),
    [
        ("[server]\nport = 'a'", "nexus-proxy: nexus.toml: [server]: expected `int`, got `str` - at `port` (line 2)\n"),
        (GPU + "type = 'olama'", "did you mean 'ollama'?"),
        (GPU + "api_key = 'env:NEXUS_TEST_GONE'", "the variable NEXUS_TEST_GONE is not set"),
        ("[plugins.bugdet]", "[plugins.bugdet] belongs to no installed plugin"),
        ("[plugin_loading]\nrequired = ['gone']", "plugin 'gone' is required by [plugin_loading] in nexus.toml"),
        ("[[routing.policies]]\nmodel_pattern = '*'\nprivacy_ = 1", "no installed plugin understands 'privacy_'"),
        ("[store]\nkind = 'papyrus'", "papyrus"),
    ],
)
def test_check_names_what_is_wrong_and_exits_with_78(run, toml, text):
    Path("nexus.toml").write_text(toml)

    result = run("check")

    assert result.exit_code == 78
    assert text in result.stderr
    assert "Traceback" not in result.output


def test_check_exits_with_78_for_a_plugin_that_is_broken(run):
    Path("broken.py").write_text("1 / 0")

    result = run("check", "--plugin", "broken.py")

    assert result.exit_code == 78
    assert "plugin 'broken'" in result.stderr


def test_warnings_go_to_standard_error(run):
    Path("key").write_text("sesame")
    Path("key").chmod(0o644)
    Path("nexus.toml").write_text(GPU + 'api_key = "file:key"')

    result = run("check")

    assert result.exit_code == 0
    assert result.stderr.startswith("nexus-proxy: warning: key holds a secret")


def test_the_pipeline_shows_each_stage_with_its_place_and_reason(run):
    lines = run("pipeline", "--plugin", NIGHT).stdout.splitlines()

    assert lines[0].split() == ["0", "analyze", "built", "in"]
    assert lines[-1].split() == ["1000", "schedule", "built", "in"]
    (night,) = [line for line in lines if "no-cloud-at-night" in line]
    assert night.startswith(" 250 no-cloud-at-night  ")
    assert night.endswith("skips on error")


def test_the_pipeline_shows_what_the_operator_changed(run):
    Path("nexus.toml").write_text(
        '[routing]\nobserve = ["no-cloud-at-night"]\npriorities = { no-cloud-at-night = 350 }\n'
    )

    (night,) = [line for line in run("pipeline", "--plugin", NIGHT).stdout.splitlines() if "night" in line]

    assert night.startswith(" 350 ")
    assert night.endswith("moved from 250 (nexus.toml), observes only (nexus.toml)")


def test_plugins_are_listed_with_stages_and_tables(run):
    result = run("plugins", "--plugin", NIGHT)

    about = result.stdout.partition("night  ")[2].splitlines()
    assert about[:4] == [
        f"{NIGHT}  enabled",
        "  stages: 250 no-cloud-at-night (skips on error)",
        "  hooks: nexus_config, nexus_reconcilers",
        "  config: [plugins.night]",
    ]


def test_plugins_are_listed_with_the_place_that_the_operator_gave_them(run):
    Path("nexus.toml").write_text(
        '[routing]\nobserve = ["no-cloud-at-night"]\npriorities = { no-cloud-at-night = 350 }\n'
    )

    result = run("plugins", "--plugin", NIGHT)

    assert "350 no-cloud-at-night (skips on error, moved from 250, observes only)" in result.stdout


def test_plugins_are_listed_as_json(run):
    (night,) = [
        row
        for row in json.loads(run("plugins", "--json", "--plugin", NIGHT).stdout)["plugins"]
        if row["name"] == "night"
    ]

    assert night == {
        "name": "night",
        "distribution": NIGHT,
        "version": "",
        "stability": "",
        "enabled": True,
        "reason": "",
        "stages": [
            {
                "name": "no-cloud-at-night",
                "priority": 250,
                "declared_priority": 250,
                "on_error": "skip",
                "observes_only": False,
                "switched_off": False,
            }
        ],
        "hooks": ["nexus_config", "nexus_reconcilers"],
        "config_table": "[plugins.night]",
        "policy_keys": [],
    }


def test_a_plugin_that_cannot_be_loaded_is_listed_with_the_reason(run):
    Path("broken.py").write_text("1 / 0")

    result = run("plugins", "--plugin", "broken.py")

    (row,) = [line for line in result.stdout.splitlines() if line.startswith("broken")]
    assert (
        row == "broken  broken.py  plugin 'broken' (broken.py) cannot be imported: ZeroDivisionError: division by zero"
    )
    assert (result.exit_code, "ZeroDivisionError" in result.stderr) == (1, True)


def test_a_plugin_that_is_not_requested_is_listed_with_the_reason(run, monkeypatch):
    Path("nexus.toml").write_text("[plugin_loading]\nautoload = false\n")
    metadata = Path("dusk-1.0.dist-info").absolute()
    metadata.mkdir()
    (metadata / "METADATA").write_text(
        "Metadata-Version: 2.1\nName: nexus-proxy-dusk\nVersion: 1.0\nClassifier: Development Status :: 3 - Alpha\n"
    )
    (metadata / "entry_points.txt").write_text("[nexus]\ndusk = nowhere\n")
    monkeypatch.syspath_prepend(str(metadata.parent))

    rows = json.loads(run("plugins", "--json").stdout)["plugins"]

    (dusk,) = [row for row in rows if row["name"] == "dusk"]
    assert (dusk["enabled"], dusk["reason"], dusk["stability"]) == (False, "no table, and autoload is off", "3 - Alpha")


@pytest.mark.parametrize(
    ("words", "env", "by"),
    [
        (("--disable-plugin", "night"), {}, "command line"),
        ((), {"NEXUS_DISABLE_PLUGINS": "night"}, "NEXUS_DISABLE_PLUGINS"),
    ],
)
def test_a_disabled_plugin_is_listed_with_what_disabled_it(run, words, env, by):
    result = run("plugins", "--plugin", NIGHT, *words, env=env)

    (row,) = [line for line in result.stdout.splitlines() if "night" in line]
    assert row.endswith(f"disabled by {by}")


@pytest.mark.parametrize(("outcome", "code"), [("ok", 0), ("advice", 0), ("failed", 1)])
def test_the_check_of_a_plugin_can_print_json(run, monkeypatch, outcome, code):
    monkeypatch.setattr("nexus.testing.plugin_check.check_plugin", lambda *_: [Finding(outcome, "it has a name", "x")])

    result = run("plugins", "check", "--json", "night")

    finding = {"outcome": outcome, "what": "it has a name", "detail": "x"}
    assert (result.exit_code, json.loads(result.stdout)) == (code, {"findings": [finding], "passed": code == 0})


def test_config_init_writes_a_file_that_is_valid(run):
    assert run("config", "init").exit_code == 0

    assert run("check", "--config", "nexus.toml").exit_code == 0


def test_config_init_replaces_a_file_only_when_forced(run):
    Path("mine.toml").write_text("precious")

    refused = run("config", "init", "-o", "mine.toml")

    assert (refused.exit_code, refused.stderr) == (1, "nexus-proxy: mine.toml exists already; --force replaces it\n")
    assert Path("mine.toml").read_text() == "precious"
    assert run("config", "init", "-o", "mine.toml", "--force").exit_code == 0
    assert Path("mine.toml").read_text() != "precious"


def test_config_init_says_where_it_cannot_write(run):
    result = run("config", "init", "-o", "gone/nexus.toml")

    assert (result.exit_code, result.stderr) == (
        1,
        "nexus-proxy: gone/nexus.toml cannot be written: No such file or directory\n",
    )


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completions_are_a_script_for_the_shell(run, shell):
    result = run("completions", shell)

    assert result.exit_code == 0
    assert "_NEXUS_PROXY_COMPLETE" in result.stdout


@pytest.mark.parametrize(
    ("typed", "words"),
    [
        (("",), {*COMMANDS}),
        (("ch",), {"check"}),
        (("--lo",), {"--log-level", "--log-format"}),
        (("--",), {"--version", "--help", "--port", "--config"}),
        (("-l", "de"), {"debug"}),
        (("config", ""), {"init"}),
        (("check", "--log-f"), {"--log-format"}),
        (("completions", "z"), {"zsh"}),
    ],
)
def test_a_shell_completes_commands_and_the_options_of_serve(typed, words):
    completion = BashComplete(main, {}, "nexus-proxy", "_NEXUS_PROXY_COMPLETE")

    *before, last = typed
    found = [item.value for item in completion.get_completions(before, last)]

    assert words <= set(found)
    assert len(found) == len(set(found))
    assert all(word.startswith(last) for word in found)


def test_a_sighup_while_serve_is_imported_does_not_end_it(run):
    before = signal.getsignal(signal.SIGHUP)

    try:
        run("serve", "--config", "gone.toml")

        assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (("completions", "tcsh"), "tcsh"),
        (("chekc",), "there is no command 'chekc'; did you mean 'check'?"),
        (("serve", "extra"), "extra"),
        (("--port", "0"), "0 is not in the range"),
        (("--no-such-option",), "No such option"),
        (("--set", "port"), "write KEY=VALUE"),
        (("--log-level", "loud"), "loud"),
        (("config", "init", "extra"), "extra"),
        (("explain",), "Missing option"),
    ],
)
def test_wrong_usage_exits_with_2(run, words, text):
    result = run(*words)

    assert result.exit_code == 2
    assert text in result.stderr


@pytest.mark.parametrize(
    ("words", "key", "value"),
    [
        (("-p", "81"), ("server", "port"), 81),
        (("-H", "localhost"), ("server", "host"), "localhost"),
        (("-l", "DEBUG"), ("logging", "level"), "debug"),
        (("--log-format", "json"), ("logging", "format"), "json"),
        (("--no-discovery",), ("discovery", "enabled"), False),
        (("--no-health-check",), ("health_check", "enabled"), False),
        (("--disable-plugin", "a", "--disable-plugin", "b"), ("plugin_loading", "disabled"), ("a", "b")),
        (("--set", "queue.max_size=3"), ("queue", "max_size"), 3),
        (("--set", "server.allowed_hosts=a,b"), ("server", "allowed_hosts"), ("a", "b")),
        (("--set", "server.host=", "-H", "localhost"), ("server", "host"), "localhost"),
        (("--insecure", "-H", "0.0.0.0"), ("server", "host"), "0.0.0.0"),
        ((), ("discovery", "enabled"), None),
    ],
)
@pytest.mark.parametrize("command", [(), ("serve",)])
def test_serve_and_no_command_at_all_take_the_same_options(run, monkeypatch, command, words, key, value):
    served = []
    monkeypatch.setattr("nexus.cli.commands.serve.serve", lambda loaded, **_: served.append(loaded.config))

    result = run(*command, *words)

    assert result.exit_code == 0, result.stderr
    section, name = key
    assert getattr(getattr(served[0], section), name) == value


def test_plugin_files_and_the_way_to_reload_reach_the_server(run, monkeypatch):
    served = []
    monkeypatch.setattr("nexus.cli.commands.serve.serve", lambda loaded, **rest: served.append((loaded, rest)))
    Path("a.toml").write_text("[server]\nport = 81")

    run("--config", "a.toml", "--plugin", "a.py", "--plugin", "b.py", "-l", "error")
    ((loaded, rest),) = served
    Path("a.toml").write_text("[server]\nport = 82")

    assert rest["choice"].plugin_files == (Path("a.py"), Path("b.py"))
    assert loaded.config.server.port == 81
    assert rest["choice"].load().config.server.port == 82
    assert rest["choice"].load().config.logging.level == "error"


@pytest.fixture
def brings(monkeypatch):
    """Let a plugin bring commands, each by its name with what it calls."""

    def bring(**callbacks):
        owls = Plugin("owls", "nexus-proxy-owls", "0.1", {})

        class Brought:
            def commands(self):
                return tuple((owls, click.Command(name, callback=call)) for name, call in callbacks.items())

        class Loaded:
            not_loaded = ()

            def configure(self, tables, *, error):
                return Brought()

        monkeypatch.setattr("nexus.cli.plugin_commands.load_plugins", lambda loaded, files=(): Loaded())

    return bring


def test_a_plugin_may_contribute_a_command(run, brings):
    brings(hello=lambda: click.echo("hi"))

    assert run("hello").output == "hi\n"
    assert run("other").exit_code == 2


@pytest.mark.parametrize("raised", [KeyboardInterrupt(), GeneratorExit(), ValueError("no owl")])
def test_a_command_that_fails_is_named_with_its_plugin(run, brings, raised):
    def fail():
        raise raised

    brings(hello=fail)

    ended = run("hello")

    complaint = "plugin 'owls' (nexus-proxy-owls 0.1): its command 'hello' failed: "
    assert (ended.exit_code, f"{complaint}{type(raised).__name__}" in ended.output) == (1, True)


@pytest.mark.parametrize("meant", [SystemExit(3), click.exceptions.Exit(3)])
def test_a_command_may_end_with_a_code_of_its_own(run, brings, meant):
    def end():
        raise meant

    brings(hello=end)

    assert run("hello").exit_code == 3


def test_columns_are_as_wide_as_their_longest_text():
    assert in_columns([("a", "bb", "c"), ("aaa", "b")]) == "a    bb  c\naaa  b"
    assert in_columns([]) == ""


def test_the_group_is_the_entry_point():
    assert isinstance(main, click.Group)
