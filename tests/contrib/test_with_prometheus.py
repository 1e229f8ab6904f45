"""A started Prometheus reads a busy proxy by the example's configuration: every query and every rule has an answer."""

import json
import shutil
import subprocess
from urllib.parse import quote

import pytest

from nexus.testing.client import ask
from nexus.testing.ports import free_port
from nexus.testing.waiting import until

PROMETHEUS = shutil.which("prometheus")
HAS_NOTHING = {"Models without a healthy backend"}
"""Panels that are empty while all is well."""

pytestmark = pytest.mark.skipif(PROMETHEUS is None, reason="prometheus is not installed")


class Reader:
    """A started Prometheus."""

    def __init__(self, url):
        self.url = url

    def api(self, path):
        return ask(self.url, f"/api/v1/{path}").json()["data"]

    def query(self, expr):
        return self.api(f"query?query={quote(expr)}")["result"]

    def is_ready(self):
        try:
            return ask(self.url, "/-/ready").status == 200
        except OSError:
            return False

    def scrapes(self):
        """How often it has read the proxy."""
        found = self.query('count_over_time(up{job="nexus"}[5m])')
        return int(found[0]["value"][1]) if found else 0


@pytest.fixture(scope="module")
def prometheus(busy, root, tmp_path_factory):
    """Give one that has read the proxy some times, while there were requests of every kind."""
    folder = tmp_path_factory.mktemp("prometheus")
    config = (root / "contrib/prometheus/prometheus.yml").read_text()
    config = config.replace("localhost:8000", busy.nexus.url.removeprefix("http://")).replace("15s", "1s")
    (folder / "prometheus.yml").write_text(config)
    shutil.copy(root / "contrib/prometheus/nexus.rules.yml", folder)
    address = f"127.0.0.1:{free_port()}"
    words = (f"--config.file={folder / 'prometheus.yml'}", f"--storage.tsdb.path={folder}/data")
    with (
        (folder / "log").open("w") as log,
        subprocess.Popen([PROMETHEUS, *words, f"--web.listen-address={address}"], stdout=log, stderr=log) as process,
    ):
        try:
            reader = Reader(f"http://{address}")
            until(reader.is_ready, within_s=15)
            until(lambda: reader.scrapes() >= 2, within_s=15)
            busy.send_all()
            before = reader.scrapes()
            until(lambda: reader.scrapes() >= before + 3, within_s=15)
            yield reader
        finally:
            process.terminate()


def test_it_reads_the_proxy(prometheus):
    (target,) = prometheus.api("targets")["activeTargets"]

    assert (target["health"], target["labels"]["job"]) == ("up", "nexus")


def test_every_panel_has_something_to_show(prometheus, root):
    panels = json.loads((root / "contrib/grafana/nexus.json").read_text())["panels"]
    empty = set()
    for panel in panels:
        for target in panel.get("targets", ()):
            expr = target["expr"].replace("$__rate_interval", "1m")
            for variable in ("job", "instance", "model", "backend"):
                expr = expr.replace(f"${variable}", ".*")
            if not prometheus.query(expr):
                empty.add(panel["title"])

    assert empty == HAS_NOTHING


def test_every_rule_is_understood(prometheus):
    rules = [rule for group in prometheus.api("rules")["groups"] for rule in group["rules"]]

    assert {rule["health"] for rule in rules} == {"ok"}
    assert {"StageFailing", "StageSwitchedOff"} <= {rule["name"] for rule in rules if rule.get("alerts")}
