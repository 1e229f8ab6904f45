"""The page about systemd, followed word by word; the service runs as the user that the unit gives it."""

import re
import shutil
import signal
import subprocess

import pytest

from nexus.config.schema import Config

FILE = "/etc/nexus-proxy/nexus.toml"
ENVIRONMENT = "/etc/nexus-proxy/environment"


@pytest.fixture
def follow(scratch, blocks_of, simulated, root):
    """Do what the page says; the one thing changed is the backend, which is simulated."""

    def all_steps(change=lambda toml: toml, *, is_older=False):
        install, older, start, look, again = blocks_of("systemd", "sh")
        (config,) = blocks_of("systemd", "toml")
        secrets = blocks_of("systemd", "ini")[0]
        scratch.sh(install, cwd=str(root))
        if is_older:
            scratch.sh(older)
        url = simulated()
        # An administrator whose umask leaves others out.
        scratch.write(FILE, change(config.replace("https://api.openai.com", url)), mode=0o640)
        scratch.write(ENVIRONMENT, secrets, mode=0o644)
        scratch.sh(start)
        return look, again

    return all_steps


def test_the_service_of_the_page_serves_is_reloaded_and_stopped(follow, scratch, unit_on):
    look, again = follow()
    unit = unit_on()

    with unit.started() as process:
        ready, alive = unit.told(), unit.told()
        scratch.sh(look)
        checked = scratch.run(["sh", "-euc", again])
        scratch.kill(process, signal.SIGHUP)
        reloads = [unit.told(), unit.told()]
        _edit(scratch, "port = 8000", "prot = 8000")
        scratch.kill(process, signal.SIGHUP)
        reloads += [unit.told(), unit.told()]
        store = scratch.path("/var/lib/nexus-proxy/nexus.sqlite3").stat()
        states = [path.name for path in scratch.path("/run/nexus-proxy").iterdir()]
        scratch.kill(process)
        stopping, code = unit.told(), process.wait(20)

    assert (unit.one("Type"), "ExecReload" in unit.keys) == ("notify-reload", False)
    assert (ready, alive) == ("READY=1", "WATCHDOG=1")
    assert [told.split("=1\n")[0] for told in reloads] == ["RELOADING", "READY"] * 2
    assert reloads[1].endswith("STATUS=")
    assert "STATUS=the last reload was refused: /etc/nexus-proxy/nexus.toml: [server]: " in reloads[3]
    assert (stopping, code) == ("STOPPING=1", 0)
    assert checked.returncode == 0
    assert "a Nexus" in checked.stderr
    assert (store.st_uid, store.st_mode & 0o777) == (61_234, 0o600)
    assert len(states) == 1
    assert scratch.path(ENVIRONMENT).stat().st_mode & 0o777 == 0o600
    assert scratch.asked()[1:] == [
        *("systemctl daemon-reload", "systemctl enable --now nexus-proxy"),
        *("systemctl status nexus-proxy", "systemctl reload nexus-proxy"),
    ]


@pytest.mark.parametrize(
    ("spoil", "code", "told"),
    [
        (lambda root: root.path(FILE).chmod(0o640), 78, f"{FILE}: cannot be read: Permission denied"),
        (lambda root: root.path(ENVIRONMENT).unlink(), 78, "the variable OPENAI_API_KEY is not set"),
        (lambda root: _edit(root, "port = 8000", "port = 80"), 78, "port 80: Permission denied; low ports need root"),
        (
            lambda root: _edit(root, "port = 8000", "port = 9000"),
            1,
            "cannot listen on 127.0.0.1 port 9000: it is in use",
        ),
        (lambda root: _edit(root, "/var/lib/nexus-proxy/", "/var/lib/"), 1, "cannot write to the folder /var/lib"),
    ],
)
def test_what_does_not_mend_itself_is_not_started_again(follow, scratch, unit_on, spoil, code, told):
    follow()
    spoil(scratch)
    unit = unit_on()
    # The machine is a machine's; a container may let everyone open low ports.
    scratch.sh("echo 1024 > /proc/sys/net/ipv4/ip_unprivileged_port_start")

    with unit.started() as process:
        ended = process.wait(30)

    assert ended == code, process.log()
    assert told in process.log()
    assert (code in unit.gives_up_at) == (code == 78)


def _edit(root, old, new):
    text = root.path(FILE).read_text()
    assert old in text
    root.write(FILE, text.replace(old, new))


def test_a_key_in_a_file_of_root_is_handed_over(follow, scratch, unit_on, blocks_of):
    _, credential, _ = blocks_of("systemd", "ini")
    follow(lambda toml: toml.replace("env:OPENAI_API_KEY", "file:/run/credentials/nexus-proxy.service/gpu-1.key"))
    scratch.write("/etc/nexus-proxy/gpu-1.key", "sk-of-the-file", mode=0o600)
    scratch.write("/etc/systemd/system/nexus-proxy.service.d/override.conf", credential)
    unit = unit_on()

    with unit.started():
        assert unit.told() == "READY=1"


def test_an_older_systemd_reloads_by_a_signal(follow, scratch, unit_on):
    follow(is_older=True)
    unit = unit_on()

    with unit.started():
        unit.told()
        scratch.sh(f"MAINPID={unit.main_pid()}; {unit.one('ExecReload')}")
        told = [unit.told(), unit.told(), unit.told()]

    assert unit.one("Type") == "notify"
    assert any(each.startswith("RELOADING=1") for each in told)


def test_systemd_understands_the_unit(follow, scratch):
    if shutil.which("systemd-analyze") is None:
        pytest.skip("systemd-analyze is not installed")
    version = subprocess.run(["systemd-analyze", "--version"], capture_output=True, text=True, check=True).stdout
    follow(is_older=int(version.split()[1]) < 253)

    done = scratch.run(["systemd-analyze", "verify", "/etc/systemd/system/nexus-proxy.service"])

    assert (done.returncode, done.stdout + done.stderr) == (0, "")


def test_a_stop_waits_longer_than_nexus_takes(root):
    unit = (root / "contrib/systemd/nexus-proxy.service").read_text()
    (timeout_s,) = re.findall(r"^TimeoutStopSec=(\d+)$", unit, re.MULTILINE)
    lame_duck_s, last_words_s = 5, 5

    assert int(timeout_s) > Config().server.drain_timeout_seconds + lame_duck_s + last_words_s


def test_tries_last_longer_than_the_drain_of_the_process_that_has_the_port(root):
    unit = (root / "contrib/systemd/nexus-proxy.service").read_text()
    number = {key: int(n) for key, n in re.findall(r"^(RestartSec|StartLimit\w+)=(\d+)$", unit, re.MULTILINE)}

    assert number["StartLimitBurst"] * number["RestartSec"] >= Config().server.drain_timeout_seconds
    assert number["StartLimitBurst"] * number["RestartSec"] < number["StartLimitIntervalSec"]
