"""What announces servers beside ``nexus-proxy announce``: the files for Avahi, and the unit of systemd."""

import shutil
import subprocess
from contextlib import ExitStack
from xml.etree import ElementTree as ET

import pytest

from nexus.config.discovery_schema import DiscoveryConfig
from nexus.fleet.discovery.mdns.announcer import ANY_TYPE, SERVICE_TYPES
from nexus.fleet.discovery.ports.local import USUAL_PORTS
from nexus.simulator import Settings, Simulator, in_thread
from nexus.testing.waiting import until
from tests.support.lan import lan, why_no_lan
from tests.support.process import run_nexus

NOT_SIMULATED = {"exo"}
UNIT = "nexus-announce@.service"
AVAHI = """
mount -t tmpfs tmpfs /run
mount --bind {services} /etc/avahi/services
exec avahi-daemon --file {config} --no-drop-root --no-chroot --no-rlimits
"""


@pytest.fixture
def files(root):
    """Give what each file for Avahi announces, by its name."""
    return {path.stem: ET.parse(path).getroot().find("service") for path in (root / "contrib/avahi").glob("*.service")}


def test_each_engine_has_a_file_that_says_what_announce_says(files):
    told = {
        name: (service.findtext("type"), int(service.findtext("port")), service.findtext("txt-record"))
        for name, service in files.items()
    }

    assert told == {
        kind: (SERVICE_TYPES.get(kind, ANY_TYPE), port, f"type={kind}")
        for port, kind in USUAL_PORTS.items()
        if kind not in NOT_SIMULATED
    }
    assert {service_type for service_type, _, _ in told.values()} <= set(DiscoveryConfig().service_types)


def test_what_a_real_avahi_announces_with_these_files_is_found(root, files, tmp_path):
    if reason := why_no_lan():
        pytest.skip(reason)
    if shutil.which("avahi-daemon", path="/usr/sbin:/usr/bin") is None:
        pytest.skip("avahi-daemon is not installed")
    config = tmp_path / "avahi-daemon.conf"
    config.write_text("[server]\nenable-dbus=no\n")
    script = AVAHI.format(services=root / "contrib/avahi", config=config)
    with ExitStack() as running:
        network = running.enter_context(lan())
        desk, proxy = network.machine("desk"), network.machine("proxy")
        with desk.entered():
            servers = [
                Simulator(Settings(name="desk", kind=kind, host="0.0.0.0", port=int(service.findtext("port"))))
                for kind, service in files.items()
            ]
            running.enter_context(in_thread(*servers))
            words = ["unshare", "--mount", "sh", "-euc", script]
            avahi = running.enter_context(subprocess.Popen(words, stderr=subprocess.DEVNULL))
            running.callback(avahi.terminate)
        with proxy.entered():
            nexus = running.enter_context(run_nexus(tmp_path, ""))

            def recognised():
                rows = nexus.get_json("/admin/backends")["pending"]
                return {row["backend_type"] for row in rows} >= set(files) and rows

            pending = until(recognised, within_s=20)

    assert {(row["backend_type"], row["url"]) for row in pending} == {
        (kind, f"http://{desk.address}:{service.findtext('port')}") for kind, service in files.items()
    }
    assert {row["host"] for row in pending} == {"desk.local"}
    assert {"desk", "desk-llamacpp", "desk-sglang"} < {row["name"] for row in pending}


@pytest.fixture
def installed(scratch, blocks_of, root):
    """Install as the pages say, and give the lines of the unit."""
    scratch.sh(blocks_of("systemd", "sh")[0], cwd=str(root))
    (install,) = (block for block in blocks_of("find-servers", "sh") if UNIT in block)
    scratch.sh(install, cwd=str(root))
    return [line.partition("=") for line in scratch.path(f"/etc/systemd/system/{UNIT}").read_text().splitlines()]


def test_the_unit_announces_the_server_on_its_port(installed, scratch, simulated):
    simulated("--kind", "ollama", port=11434)
    (start,) = [value for key, _, value in installed if key == "ExecStart"]
    words = start.replace("%i", "11434").replace(" $OPTIONS", " --name desk").split()

    with scratch.started(words, user=(61_234, 61_234)) as process:
        until(lambda: "announcing 'desk', ollama on port 11434" in process.log(), within_s=20)
        scratch.kill(process)
        code = process.wait(20)

    assert (code, "'desk' withdrawn" in process.log()) == (0, True)
    assert scratch.asked()[-1] == "systemctl enable --now nexus-announce@11434"


def test_systemd_understands_the_unit(installed, scratch):
    if shutil.which("systemd-analyze") is None:
        pytest.skip("systemd-analyze is not installed")

    done = scratch.run(["systemd-analyze", "verify", "/etc/systemd/system/nexus-announce@11434.service"])

    assert (done.returncode, done.stdout + done.stderr) == (0, "")


@pytest.mark.parametrize("unit", ["nexus-proxy.service", UNIT])
def test_the_units_may_ask_which_interfaces_there_are(root, unit):
    (line,) = [
        line for line in (root / "contrib/systemd" / unit).read_text().splitlines() if "RestrictAddressFamilies" in line
    ]

    assert {"AF_INET", "AF_INET6", "AF_NETLINK", "AF_UNIX"} == set(line.partition("=")[2].split())
