"""Another program writes a list of backends, in every way that programs do, and no request fails."""

import json
from urllib.request import Request, urlopen

import pytest

from nexus.testing.client import ask, chat
from nexus.testing.fleets import backend_table, table_of
from nexus.testing.waiting import until
from tests.support.steady_load import SteadyLoad

CONFIG = """
[discovery]
{more}

[[discovery.file]]
path = "{path}"
references = ["env:GPU_*"]
"""
ENVIRON = {"GPU_KEY": "gpu-canary", "OTHER_KEY": "other-canary"}


def replace(path, text):
    beside = path.with_name(path.name + ".new")
    beside.write_text(text)
    beside.replace(path)


@pytest.fixture
def servers(simulate):
    return [simulate(name=name, kind="vllm", models=("llama3",)) for name in ("one", "two", "three")]


def test_traffic_follows_the_file_however_it_is_written_and_no_request_fails(start_nexus, servers, tmp_path):
    one, two, three = map(table_of, servers)
    path = tmp_path / "fleet.toml"
    path.write_text(one)
    nexus = start_nexus(CONFIG.format(path=path, more=""))

    with SteadyLoad(nexus.url, clients=2) as load:
        load.wait_until_only("one")
        # A program that overwrites it in place: what is there for a moment is valid TOML, with a backend missing.
        path.write_text("")
        path.write_text(two + three[: len(three) // 2])
        nexus.wait_for_log("fleet_file_failed")
        load.wait_until_only("one")
        path.write_text(two + three)
        load.wait_until_only("two", "three")
        path.unlink()
        nexus.wait_for_log("fleet_file_failed", count=2)
        load.wait_until_only("two", "three")
        replace(path, three)
        load.wait_until_only("three")

    assert load.failures == []
    assert [line["backends"] for line in nexus.log_lines("fleet_file_failed")] == [1, 2]
    assert len(nexus.log_lines("backend_joined")) == len(servers)


def test_a_symlink_swap_is_followed_as_kubernetes_mounts_a_config_map(start_nexus, servers, tmp_path):
    for version, server in zip("12", servers, strict=False):
        (tmp_path / version).mkdir()
        entry = {"name": server.name, "url": server.url}
        (tmp_path / version / "fleet.json").write_text(json.dumps({"backends": [entry]}))
    (tmp_path / "..data").symlink_to("1")
    (tmp_path / "fleet.json").symlink_to("..data/fleet.json")
    nexus = start_nexus(CONFIG.format(path=tmp_path / "fleet.json", more=""))

    with SteadyLoad(nexus.url, clients=2) as load:
        load.wait_until_only("one")
        (tmp_path / "..data_tmp").symlink_to("2")
        (tmp_path / "..data_tmp").replace(tmp_path / "..data")
        load.wait_until_only("two")

    assert load.failures == []


def test_a_file_that_comes_later_brings_keys_and_zones_that_are_shown_and_never_told(
    start_nexus, simulate, tmp_path, command
):
    server = simulate(name="gpu-1", kind="vllm", models=("llama3",), api_key="gpu-canary")
    path = tmp_path / "fleet.toml"
    configured = backend_table("desk", "http://127.0.0.1:9")
    nexus = start_nexus(CONFIG.format(path=path, more="") + configured, environ=ENVIRON)
    nexus.wait_for_log("fleet_file_failed")
    entry = table_of(server, api_key="env:GPU_KEY", zone="open", tier=3)
    clash = backend_table("desk", "http://127.0.0.1:7")
    replace(path, entry + clash)
    until(lambda: any(row["models"] for row in nexus.get_json("/admin/backends")["backends"]))

    rows = {row["name"]: row for row in nexus.get_json("/admin/backends")["backends"]}
    listing, shown = command("backends"), command("config", "show", "--json")
    denied = ask(nexus.url, "/admin/backends/gpu-1", method="DELETE")
    replace(path, entry.replace("GPU_KEY", "OTHER_KEY"))
    (_, refused) = nexus.wait_for_log("fleet_file_failed", count=2)

    assert (rows["gpu-1"]["discovery_source"], rows["gpu-1"]["zone"], rows["gpu-1"]["tier"]) == ("file", "open", 3)
    assert rows["desk"]["url"] == "http://127.0.0.1:9"
    assert (denied.status, str(path) in denied.body.decode()) == (400, True)
    assert nexus.log_lines("fleet_file_entry_ignored")[0]["backend"] == "desk"
    assert f"{path}: gpu-1, desk (read " in listing.stdout
    assert "  not in the fleet, for another backend has the name or the address: desk\n" in listing.stdout
    origins = {row["keys"]["name"]: row["origin"] for row in json.loads(shown.stdout)["backends"]}
    assert origins["gpu-1"].startswith(f"{path}, as of 20")
    assert "backends[0]: 'gpu-1': this file may not name the secret env:OTHER_KEY" in refused["reason"]
    assert "(line 5)" in refused["reason"]
    assert "canary" not in nexus.log_text() + listing.stdout + shown.stdout


def test_check_reads_the_file_as_a_start_would(command, tmp_path):
    path = tmp_path / "fleet.toml"
    path.write_text(backend_table("gpu-1", "http://127.0.0.1:9", teir=3))
    (tmp_path / "nexus.toml").write_text(CONFIG.format(path=path, more=""))

    checked = command("check")

    assert checked.returncode == 0
    assert "fleet_file_failed" not in checked.stderr
    assert f"  watched files: {path}\n" in checked.stdout
    assert f"nexus-proxy: warning: {path}: backends[0]: 'gpu-1': unknown key - at `teir` (line 5)" in checked.stderr
    assert "did you mean 'tier'?; a start goes on without its backends" in checked.stderr


def test_an_answer_under_way_is_finished_by_a_backend_that_the_file_lists_no_more(start_nexus, simulate, tmp_path):
    server = simulate(name="one", kind="vllm", models=("llama3",), tokens_per_s=10.0, answer_tokens=30)
    path = tmp_path / "fleet.toml"
    path.write_text(table_of(server))
    nexus = start_nexus(CONFIG.format(path=path, more=""))
    until(lambda: nexus.get_json("/admin/backends")["backends"][0]["status"] == "healthy")

    body = json.dumps(chat(stream=True)).encode()
    request = Request(nexus.url + "/v1/chat/completions", body, {"Content-Type": "application/json"})
    with urlopen(request, timeout=10) as answer:
        answer.readline()
        replace(path, "backends = []")
        until(lambda: not nexus.get_json("/admin/backends")["backends"])
        rest = answer.read()

    assert rest.rstrip().endswith(b"data: [DONE]")
