"""The dashboard for Grafana: its file is what the script makes, and it asks for what there is."""

import json
import re
import subprocess
import sys
from itertools import combinations

import pytest

VALUES = {"$__rate_interval": "1m", "$__interval": "1m", "$job": ".*", "$instance": ".*", "$model": ".*"}
VALUES["$backend"] = ".*"
LEFT_OUT = {
    "nexus_translated_requests": "a matter of single clients, whose heads show it",
    "nexus_affinity_bytes": "bounded by the configuration",
    "nexus_affinity_entries": "the share of prompts in caches is shown",
    "nexus_affinity_evictions": "the share of prompts in caches is shown",
    "nexus_affinity_hits": "the share of prompts in caches is shown",
    "nexus_affinity_requests": "the requests of each backend are shown",
    "nexus_backend_report_age_seconds": "the reported requests end with the reports",
    "nexus_backend_reported_kv_usage_ratio": "the engines' own dashboards show their caches",
    "nexus_backend_request_duration_seconds": "the time to first token of each backend is shown",
    "nexus_backend_time_between_tokens_seconds": "the tokens per second of each backend are shown",
    "nexus_backend_restarts": "the log says when, and how it was noticed",
    "nexus_early_heads": "a matter of single clients, whose heads show it",
    "nexus_load_reads": "the backends page says what is wrong, and what would help",
    "nexus_backend_max_in_flight": "the limit in effect, which may be lower, is shown",
    "nexus_backend_tokens_in_flight": "the requests are shown",
    "nexus_attempts": "the failed ones are shown, and requests by backend",
    "nexus_backend_misconfigured": "backends that fail are shown, and the log says why",
    "nexus_backend_latency_seconds": "of probes, which says little of requests",
    "nexus_backend_oldest_unanswered_seconds": "the breaker that follows from it is shown",
    "nexus_backends_by_source": "all of them are shown",
    "nexus_budget_allowance_usd": "of one process, for who looks into the ledger",
    "nexus_budget_attempts": "spending is shown",
    "nexus_budget_events": "the status is shown",
    "nexus_budget_status": "utilisation is shown",
    "nexus_budget_store_failures": "whether the ledger is reached is shown",
    "nexus_discovered_servers": "the dashboard of Nexus lists them, where they are approved",
    "nexus_embeddings_requests": "among the endpoints",
    "nexus_embeddings_tokens": "among the tokens",
    "nexus_model_breaker_state": "the breaker of the whole backend is shown",
    "nexus_plugin_series_left_out": "the log says of which metric, and why",
    "nexus_workers": "changes with the configuration only",
    "nexus_workers_answered": "the log says which worker has ended, or was killed as it hung",
    "nexus_queue_body_bytes": "the number of requests is shown",
    "nexus_queue_oldest_seconds": "how long all have waited is shown",
    "nexus_queue_served_per_second": "requests of each backend are shown",
    "nexus_queue_requests": "all of them are shown, whatever their priority",
    "nexus_quality_failures": "the error rate is shown",
    "nexus_quality_request_count_1h": "requests are shown",
    "nexus_quality_success_rate_24h": "the error rate is shown",
    "nexus_quality_trials": "what is avoided is shown",
    "nexus_quality_ttft_ema_seconds": "the time to first token is shown",
    "nexus_quality_ttft_seconds": "the time to first token is shown",
    "nexus_reconciler_idle": "a matter of the configuration, which nexus-proxy pipeline shows",
    "nexus_request_tokens": "their sum is shown",
    "nexus_store_failed": "the log says why, and the budget whether its ledger is reached",
    "nexus_store_failures": "the log says why",
}


@pytest.fixture(scope="module")
def dashboard(root):
    return json.loads((root / "contrib/grafana/nexus.json").read_text())


@pytest.fixture(scope="module")
def pictures(dashboard):
    return [panel for panel in dashboard["panels"] if panel["type"] != "row"]


def with_values(expr):
    for name in sorted(VALUES, key=len, reverse=True):
        expr = expr.replace(name, VALUES[name])
    return expr


def test_the_file_is_what_the_script_makes(root):
    made = subprocess.run(
        [sys.executable, root / "contrib/grafana/make_dashboard.py"], capture_output=True, text=True, check=True
    )

    assert (root / "contrib/grafana/nexus.json").read_text() == made.stdout


def test_every_query_asks_for_what_there_is(pictures, complaints):
    wrong = {
        f"{panel['title']}: {target['expr']}": found
        for panel in pictures
        for target in panel["targets"]
        if (found := complaints(with_values(target["expr"])))
    }

    assert wrong == {}


def test_every_legend_names_labels_that_are_left(pictures, read_query):
    for panel in pictures:
        for target in panel["targets"]:
            named = set(re.findall(r"{{(\w+)}}", target["legendFormat"]))
            groupings = read_query(with_values(target["expr"])).groupings
            assert named <= (groupings[0] if groupings else set()), (panel["title"], target["legendFormat"])


def test_every_variable_takes_its_values_from_what_there_is(dashboard, told):
    source, *others = dashboard["templating"]["list"]

    assert (source["type"], source["query"]) == ("datasource", "prometheus")
    for variable in others:
        metric, matchers, label = re.fullmatch(
            r"label_values\((\w+)(?:{(.*)})?, (\w+)\)", variable["definition"]
        ).groups()
        labels = told.samples[metric].labels | {"job", "instance"}
        assert {label, *re.findall(r"(\w+)=~", matchers or "")} <= labels
    assert {"model", "backend"} <= {variable["name"] for variable in others}


def test_every_metric_is_shown_or_left_out_on_purpose(pictures, told, read_query):
    asked = {s.name for p in pictures for t in p["targets"] for s in read_query(with_values(t["expr"])).selectors}
    shown = {re.sub(r"_(?:total|bucket|sum|count)$", "", name) for name in asked if name != "nexus_backends_total"}

    ours = {name for name in told.families if name.startswith("nexus_") and name != "nexus_backends_total"}

    assert set(LEFT_OUT) == ours - shown


def test_panels_have_their_own_numbers_and_places(dashboard):
    panels = dashboard["panels"]
    places = [panel["gridPos"] for panel in panels]

    assert len({panel["id"] for panel in panels}) == len(panels)
    assert all(place["x"] >= 0 and place["x"] + place["w"] <= 24 for place in places)
    assert [(a, b) for a, b in combinations(places, 2) if overlap(a, b)] == []


def overlap(one, other):
    return all(
        one[at] < other[at] + other[size] and other[at] < one[at] + one[size] for at, size in (("x", "w"), ("y", "h"))
    )


def test_every_panel_says_what_one_reads_off_it_and_uses_the_chosen_source(pictures):
    assert [panel["title"] for panel in pictures if not panel["description"].endswith(".")] == []
    assert len({panel["title"] for panel in pictures}) == len(pictures)
    sources = {json.dumps(part["datasource"]) for panel in pictures for part in (panel, *panel["targets"])}
    assert sources == {json.dumps({"type": "prometheus", "uid": "${datasource}"})}
    for panel in pictures:
        assert len({target["refId"] for target in panel["targets"]}) == len(panel["targets"])


def test_no_panel_is_bound_to_the_grafana_that_it_was_made_in(dashboard):
    assert "id" not in dashboard
    assert dashboard["uid"] == "nexus-proxy"
    assert dashboard["schemaVersion"] >= 38


def test_prometheus_understands_every_query(pictures, promtool, tmp_path):
    exprs = [with_values(target["expr"]) for panel in pictures for target in panel["targets"]]
    rules = [{"record": f"dashboard:query:{number}", "expr": expr} for number, expr in enumerate(exprs)]
    file = tmp_path / "rules.yml"
    # JSON is YAML.
    file.write_text(json.dumps({"groups": [{"name": "dashboard", "rules": rules}]}))

    assert f"{len(exprs)} rules found" in promtool("check", "rules", str(file))
