"""The page of metrics of a busy proxy: read by others' parsers, and documented to the last label."""

import re

from prometheus_client.openmetrics.parser import text_string_to_metric_families as openmetrics_of

from nexus.testing.client import ask

ONLY_COMPLAINT = 'nexus_backends_total non-counter metrics should not have "_total" suffix'
"""Its name is older than the habit, and what exists is built on it."""


ON_DEMAND = {"nexus_traces_total"}
"""What is told only of a part that has to be switched on."""


def test_promtool_accepts_it(promtool, told):
    said = promtool("check", "metrics", stdin=told.page, may_complain=True)

    assert [line for line in said.splitlines() if line != ONLY_COMPLAINT] == []


def test_the_openmetrics_parser_accepts_it(busy):
    page = ask(busy.nexus.url, "/metrics", headers={"Accept": "application/openmetrics-text"}).body.decode()

    families = {family.name: family for family in openmetrics_of(page)}

    assert {"nexus_requests", "nexus_budget_spending_usd"} <= families.keys()


def rows(text):
    """Each metric of a page of documentation, with the second cell of its row."""
    for names, second in re.findall(r"^   \* - (``nexus_.+)\n     - (.+)$", text, re.MULTILINE):
        for name in re.findall(r"``(nexus_\w+)``", names):
            yield name, second


def ours(told, prefix="nexus_", without=()):
    return {n for n in told.families if n.startswith(prefix) and not n.startswith(tuple(without))}


def test_every_metric_of_the_core_is_documented_with_its_labels(told, root):
    documented = dict(rows((root / "docs/reference/metrics.rst").read_text()))
    plugins = [f"nexus_{path.name}_" for path in (root / "plugins").iterdir()]

    scraped = {
        name: {label for sample in told.families[name].samples for label in sample.labels} - {"le"}
        for name in ours(told, without=plugins)
    }

    told_here = {name: labels for name, labels in documented.items() if name not in ON_DEMAND}
    assert {name: set(re.findall(r"``(\w+)``", labels)) for name, labels in told_here.items()} == {
        name if told.families[name].type != "counter" else f"{name}_total": labels for name, labels in scraped.items()
    }


def test_every_metric_of_a_plugin_is_in_its_readme(told, root):
    for path in sorted((root / "plugins").glob("*/README.rst")):
        prefix = f"nexus_{path.parent.name}_"
        documented = {name.removesuffix("_total") for name, _ in rows(path.read_text())}

        assert ours(told, prefix) == documented


def test_every_metric_has_been_seen_at_work(told):
    assert [name for name in ours(told) if not told.families[name].samples] == []


def test_every_label_of_a_plugin_s_metric_is_in_its_readme(told, root):
    for path in sorted((root / "plugins").glob("*/README.rst")):
        text = path.read_text()
        families = [told.families[name] for name in ours(told, f"nexus_{path.parent.name}_")]
        labels = {label for family in families for sample in family.samples for label in sample.labels}

        assert [label for label in labels if f"``{label}``" not in text] == []
