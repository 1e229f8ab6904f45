"""A reload takes nothing back of what the plugins have counted and learnt."""

import re
import signal

import pytest

from nexus.simulator import Status
from nexus.testing.client import ask, chat
from nexus.testing.fleets import table_of
from nexus.testing.waiting import until

for module in ("nexus_budget", "nexus_privacy", "nexus_quality", "nexus_tier"):
    pytest.importorskip(module)

CONFIG = """
[store]
kind = "sqlite"
path = "{store}"
[routing]
strategy = "round_robin"
[plugins.budget]
monthly_limit_usd = 1000.0
[[plugins.budget.prices]]
model = "llama3"
input_usd_per_1m = 1000.0
output_usd_per_1m = 1000.0
[plugins.privacy]
[plugins.quality]
min_samples = 2
error_rate_threshold = 0.2
[plugins.tier]
[[routing.policies]]
model_pattern = "*"
privacy = "restricted"
min_tier = 2
"""

IS_COUNTER = re.compile(r"^(nexus_(?!backends_total)\w+_(?:total|bucket|count|sum)(?:{.*})?) (\S+)$", re.MULTILINE)


def scrape(nexus):
    return {name: float(value) for name, value in IS_COUNTER.findall(ask(nexus.url, "/metrics").body.decode())}


@pytest.mark.parametrize("line", ["", "trial_interval_seconds = 50"])
def test_no_counter_falls_and_what_was_learnt_stays(start_nexus, simulate, tmp_path, line):
    good, bad = simulate(name="good"), simulate(name="bad")
    cloud, small = simulate(name="cloud"), simulate(name="small")
    fleet = (
        table_of(good, tier=3) + table_of(bad, tier=3) + table_of(cloud, zone="open", tier=3) + table_of(small, tier=1)
    )
    nexus = start_nexus(CONFIG.format(store=tmp_path / "nexus.sqlite3") + fleet)
    bad.faults.set(Status(status=500))
    for _ in range(12):
        ask(nexus.url, "/v1/chat/completions", chat())
    assert until(lambda: 'nexus_quality_avoided{backend="bad",model="llama3"} 1' in metrics(nexus))
    before, learnt = scrape(nexus), nexus.get_json("/admin/quality")["models"]

    if line:
        config = nexus.config_file.read_text()
        nexus.config_file.write_text(config.replace("[plugins.quality]", f"[plugins.quality]\n{line}"))
    nexus.send(signal.SIGHUP)
    nexus.wait_for_log("config_reloaded")
    after = scrape(nexus)

    of_plugins = {key.split("_")[1] for key, value in before.items() if value}
    assert {"budget", "privacy", "quality", "tier"} <= of_plugins
    assert [key for key, value in before.items() if after.get(key, -1) < value] == []
    assert nexus.get_json("/admin/quality")["models"] == learnt


def metrics(nexus):
    return ask(nexus.url, "/metrics").body.decode()
