"""The Compose file: two replicas, the store that they share, Prometheus and Grafana, all with files that are there."""

import tomllib
from pathlib import Path

import pytest
import yaml

from nexus.config.loading import load

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "contrib/compose"


@pytest.fixture(scope="module")
def compose():
    return yaml.safe_load((FOLDER / "docker-compose.yml").read_text())


@pytest.fixture(scope="module")
def services(compose):
    return compose["services"]


def test_every_file_that_it_mounts_is_there_and_every_volume_declared(compose, services):
    mounts = [mount.split(":") for service in services.values() for mount in service.get("volumes", ())]
    files = [FOLDER / source for source, *_ in mounts if source.startswith(".")]
    volumes = {source for source, *_ in mounts if not source.startswith(".")}

    assert [path for path in files if not path.is_file()] == []
    assert volumes == set(compose["volumes"])


def test_the_replicas_share_a_store_that_keeps_everything(services, tmp_path):
    loaded = load(FOLDER / "nexus.toml", environ={"NEXUS_API_KEY": "key"}, overrides={})
    valkey = services["valkey"]
    server = services["nexus"]

    assert server["deploy"]["replicas"] == 2
    assert loaded.config.store.kind == "redis"
    assert loaded.config.plugins["redis"]["url"] == "redis://valkey:6379"
    assert server["depends_on"] == {"valkey": {"condition": "service_healthy"}}
    assert valkey["command"][valkey["command"].index("--maxmemory-policy") + 1] == "noeviction"


def test_the_image_has_the_plugins_of_its_configuration(services):
    dockerfile = (FOLDER / "Dockerfile").read_text()
    build = services["nexus"]["build"]
    context = (FOLDER / build["context"]).resolve()
    copied = [line.split()[1] for line in dockerfile.splitlines() if line.startswith("COPY")]

    assert (context / build["dockerfile"]).resolve() == FOLDER / "Dockerfile"
    assert [name for name in copied if not (context / name / "setup.cfg").is_file()] == []
    assert set(tomllib.loads((FOLDER / "nexus.toml").read_text())["plugins"]) <= set(copied)
    assert dockerfile.rstrip().endswith("USER 10001:10001")


def test_the_replicas_have_the_time_that_they_need_to_stop(services):
    grace = services["nexus"]["stop_grace_period"]
    config = load(FOLDER / "nexus.toml", environ={"NEXUS_API_KEY": "key"}, overrides={}).config

    # 5 is what lame_duck_seconds is where the address is no loopback.
    assert int(grace.removesuffix("s")) > config.server.drain_timeout_seconds + 5


def test_prometheus_reads_each_replica_under_the_name_of_the_rules(compose, services):
    scraped = yaml.safe_load((FOLDER / "prometheus.yml").read_text())
    (job,) = scraped["scrape_configs"]
    (lookup,) = job["dns_sd_configs"]
    alone = yaml.safe_load((ROOT / "contrib/prometheus/prometheus.yml").read_text())
    (key,) = services["prometheus"]["configs"]

    assert job["job_name"] == alone["scrape_configs"][0]["job_name"]
    assert lookup["names"][0] in services
    assert services["nexus"]["ports"][0].endswith(f":{lookup['port']}")
    assert job["authorization"]["credentials_file"] == key["target"]
    assert key["source"] in compose["configs"]


def test_grafana_finds_its_source_and_the_dashboard(services):
    (source,) = yaml.safe_load((FOLDER / "grafana/datasources.yml").read_text())["datasources"]
    (provider,) = yaml.safe_load((FOLDER / "grafana/dashboards.yml").read_text())["providers"]
    targets = [mount.split(":")[1] for mount in services["grafana"]["volumes"]]

    assert source["url"] == "http://prometheus:9090"
    assert f"{provider['options']['path']}/nexus.json" in targets


def test_the_page_shows_its_commands(blocks_of):
    (commands,) = [block for block in blocks_of("docker", "sh") if "compose" in block]
    head = [
        line.removeprefix("#   ") for line in (FOLDER / "docker-compose.yml").read_text().splitlines() if "#   " in line
    ]

    assert commands.splitlines() == head
