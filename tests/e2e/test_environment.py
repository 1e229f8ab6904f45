"""``NEXUS_*`` variables that are no keys: a warning at a start and in a command, and never the end of either."""

import pytest

KUBERNETES = {
    "NEXUS_PORT": "tcp://10.0.0.1:80",
    "NEXUS_PORT_80_TCP": "tcp://10.0.0.1:80",
    "NEXUS_PORT_80_TCP_ADDR": "10.0.0.1",
    "NEXUS_PORT_80_TCP_PORT": "80",
    "NEXUS_PORT_80_TCP_PROTO": "tcp",
    "NEXUS_SERVICE_HOST": "10.0.0.1",
    "NEXUS_SERVICE_PORT": "80",
    "NEXUS_SERVICE_PORT_HTTP": "80",
    "NEXUS_PROXY_PORT": "tcp://10.0.0.2:80",
    "NEXUS_PROXY_PORT_80_TCP_ADDR": "10.0.0.2",
    "NEXUS_PROXY_SERVICE_HOST": "10.0.0.2",
    "NEXUS_PROXY_SERVICE_PORT_HTTP": "80",
}

FEW = {"NEXUS_SERVER__MAX_CONCURRENT_REQUESTS": "100"}
"""A machine that has fewer file descriptors than the default takes is warned of that, too."""


def test_an_unknown_variable_is_a_warning_in_the_log_of_a_start(start_nexus):
    nexus = start_nexus("", environ={"NEXUS_PROT": "81", "NEXUS_IMAGE_TAG": "1.2"} | FEW)

    reasons = [line["reason"] for line in nexus.wait_for_log("config_warning", 2)]
    assert reasons == [
        "NEXUS_IMAGE_TAG: sets no key of the configuration, and is ignored",
        "NEXUS_PROT: sets no key of the configuration, and is ignored; did you mean 'NEXUS_PORT'?",
    ]


def test_an_unknown_variable_is_a_warning_of_a_command(command):
    ended = command("check", NEXUS_PROT="81")

    assert (ended.returncode, ended.stdout.splitlines()[0]) == (0, "configuration: ok")
    assert ended.stderr.startswith("nexus-proxy: warning: NEXUS_PROT: sets no key of the configuration")


def test_what_kubernetes_sets_for_a_service_is_ignored_silently(start_nexus, command):
    nexus, checked = start_nexus("", environ=KUBERNETES | FEW), command("check", **KUBERNETES, **FEW)

    assert nexus.log_lines("config_warning") == []
    assert (checked.returncode, checked.stderr) == (0, "")
    assert "listens on 127.0.0.1 port 8000" in checked.stdout


@pytest.mark.parametrize(("name", "value"), [("NEXUS_PORT", "many"), ("NEXUS_QUEUE__MAX_SIZE", "-1")])
def test_a_key_with_a_value_that_does_not_fit_is_an_error(command, name, value):
    ended = command("check", **{name: value})

    assert ended.returncode == 78
    assert ended.stderr.startswith(f"nexus-proxy: {name}: ")


def test_a_variable_that_holds_a_secret_of_the_configuration_is_no_unknown_one(command, tmp_path):
    (tmp_path / "nexus.toml").write_text('[server]\nadmin_keys = ["env:NEXUS_ADMIN_KEY"]\n')

    ended = command("check", NEXUS_ADMIN_KEY="sesame", **FEW)

    assert (ended.returncode, ended.stderr) == (0, "")
