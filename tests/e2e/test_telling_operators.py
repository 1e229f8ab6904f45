"""What a command says when something is wrong is what the operator has to change."""

import json
import signal

import pytest

from nexus.testing.fleets import backend_table, table_of
from nexus.testing.ports import free_port
from nexus.testing.waiting import until

GPU = backend_table("gpu-1", "http://127.0.0.1:9")
KEYS = '[server]\napi_keys = ["env:CLIENT"]\n'
BOTH = KEYS + 'admin_keys = ["env:ADMIN"]\n'


@pytest.mark.parametrize("shown", [{}, {"CLIENT": "sesame-2"}])
def test_a_proxy_that_refuses_the_key_is_not_passed_over_by_explain(start_nexus, simulate, command, shown):
    start_nexus(KEYS + table_of(simulate()), environ={"CLIENT": "sesame-1"})

    ended = command("explain", "-m", "llama3", **shown)

    assert ended.returncode == 77, ended.stderr
    assert "asks for a key" in ended.stderr
    assert "looked at the fleet" not in ended.stdout + ended.stderr


def test_a_clients_key_where_an_administrators_is_wanted_is_told_as_such(start_nexus, command):
    start_nexus(BOTH + GPU, environ={"CLIENT": "sesame-1", "ADMIN": "sesame-2"})

    clients, wrong = command("backends", CLIENT="sesame-1"), command("backends", CLIENT="sesame-3")

    assert (clients.returncode, wrong.returncode) == (77, 77)
    assert "asks for a key of an administrator (server.admin_keys)" in clients.stderr
    assert "refuses the one that was shown" in wrong.stderr


def test_health_shows_why_the_last_reload_was_refused(start_nexus, simulate, command):
    nexus = start_nexus(table_of(simulate()))
    until(lambda: nexus.get_json("/ready")["ready"])
    before = command("health")
    nexus.config_file.write_text("[servre]")
    nexus.send(signal.SIGHUP)
    nexus.wait_for_log("config_rejected")

    text = command("health", "--url", nexus.url)
    as_json = command("health", "--url", nexus.url, "--json")

    assert "the last reload was refused" not in before.stdout
    assert "the last reload was refused, and the configuration before it is in force: " in text.stdout
    assert "did you mean 'server'" in text.stdout
    assert "did you mean 'server'" in json.loads(as_json.stdout)["detail"]["rejected_reload"]


def test_a_plugin_is_not_blamed_for_the_configuration(command, tmp_path):
    (tmp_path / "nexus.toml").write_text(KEYS)
    (tmp_path / "night.py").write_text("from nexus.api import *\n@hookimpl\ndef nexus_stores():\n    return {}\n")

    rows = json.loads(command("plugins", "--plugin", "night.py", "--json").stdout)["plugins"]

    (night,) = [row for row in rows if row["name"] == "night"]
    assert night["reason"] == "nothing is loaded, as the configuration is wrong"


def test_a_variable_is_named_for_what_it_set(command, tmp_path):
    (tmp_path / "b.toml").write_text(GPU)

    table = command("check", "-c", "b.toml", NEXUS_PLUGINS__BUGDET__X="1")
    required = command("check", "-c", "b.toml", NEXUS_PLUGIN_LOADING__REQUIRED="bugdet")

    assert "NEXUS_PLUGINS__BUGDET__X: [plugins.bugdet] belongs to no installed plugin" in table.stderr
    assert "is required by [plugin_loading] in NEXUS_PLUGIN_LOADING__REQUIRED but" in required.stderr
    assert "b.toml" not in table.stderr + required.stderr


def test_disabling_a_plugin_that_is_not_there_is_a_warning_of_the_check(command, tmp_path):
    (tmp_path / "nexus.toml").write_text(GPU)
    (tmp_path / "nightshift.py").write_text("from nexus.api import *\n@hookimpl\ndef nexus_stores():\n    return {}\n")

    text = command("check", "--plugin", "nightshift.py", "--disable-plugin", "nightshfit")
    as_json = command("check", "--plugin", "nightshift.py", "--disable-plugin", "nightshfit", "--json")

    told = "command line: [plugin_loading]: disabled names 'nightshfit', which is no installed plugin;"
    assert (text.returncode, f"warning: {told} did you mean 'nightshift'?" in text.stderr) == (0, True), text.stderr
    assert any(warning.startswith(told) for warning in json.loads(as_json.stdout)["warnings"])


def test_a_backend_that_is_the_proxy_itself_is_told_at_a_start_and_by_check(start_nexus, command):
    port = free_port()
    nexus = start_nexus(backend_table("gpu-1", f"http://127.0.0.1:{port}"), port=port)

    checked = command("check", "--port", str(port))

    told = f"backend 'gpu-1': http://127.0.0.1:{port} is the address of this proxy itself"
    assert any(line["reason"].startswith(told) for line in nexus.log_lines("config_warning"))
    assert told in checked.stderr


def test_a_backend_that_is_not_there_is_told_and_not_shown_as_one_without_models(start_nexus, simulate, command):
    nexus = start_nexus(table_of(simulate()))

    near = command("models", "-b", "gpuu-1", "--url", nexus.url)
    nameless = command("backends", "drain", "", "--url", nexus.url)

    assert (near.returncode, nameless.returncode) == (1, 2)
    assert "there is no backend 'gpuu-1'; did you mean 'gpu-1'?" in near.stderr
    assert "expected the name of a backend, got an empty one" in nameless.stderr


def test_the_variable_that_stands_for_an_option_is_named(command):
    wrong, right = command("check", NEXUS_INSECURE="banana"), command("check", NEXUS_INSECURE="yes")

    assert wrong.returncode == 2
    assert "Invalid value for NEXUS_INSECURE: 'banana'" in wrong.stderr
    assert right.returncode == 0, right.stderr


@pytest.mark.parametrize(
    ("config", "told"),
    [
        (GPU.replace("backends", "backend"), "unknown table - at `backend` (line 2); did you mean 'backends'?"),
        ("[queue]\nmax_size = 'many'", "expected `int`, got `str` - at `max_size` (line 2)"),
    ],
)
def test_a_wrong_key_is_told_in_the_words_of_the_file_and_with_its_line(command, tmp_path, config, told):
    (tmp_path / "nexus.toml").write_text(config)

    assert told in command("check").stderr
