"""The files for Prometheus: it takes them, every alert asks for what there is, and fires when it should."""

import re

import pytest
import yaml

SEVERITIES = {"critical", "warning"}


@pytest.fixture(scope="module")
def folder(root):
    return root / "contrib/prometheus"


@pytest.fixture(scope="module")
def rules(folder):
    groups = yaml.safe_load((folder / "nexus.rules.yml").read_text())["groups"]
    return [rule for group in groups for rule in group["rules"]]


@pytest.fixture(scope="module")
def alerts(rules):
    return [rule for rule in rules if "alert" in rule]


@pytest.fixture(scope="module")
def recorded(rules, read_query):
    """The labels of what is recorded: by what it was added up."""
    records = {rule["record"]: read_query(rule["expr"]) for rule in rules if "record" in rule}
    return {name: frozenset.union(*query.groupings) - {"le"} for name, query in records.items()}


def test_every_rule_asks_for_what_there_is(rules, recorded, complaints):
    names = {rule.get("alert") or rule["record"]: rule["expr"] for rule in rules}

    assert {name: found for name, expr in names.items() if (found := complaints(expr, recorded))} == {}


def test_what_is_recorded_is_named_after_its_labels(recorded):
    assert all(set(name.split(":")[0].split("_")) == labels for name, labels in recorded.items())


def test_every_alert_says_what_it_means_and_how_bad_it_is(alerts):
    assert len({alert["alert"] for alert in alerts}) == len(alerts)
    for alert in alerts:
        assert alert["labels"]["severity"] in SEVERITIES
        assert alert["annotations"].keys() == {"summary", "description"}
        assert len(alert["annotations"]["description"].split()) > 15


def test_every_text_names_labels_that_are_left(alerts, recorded, read_query, told):
    for alert in alerts:
        query = read_query(alert["expr"])
        first = query.selectors[0].name
        labels = recorded.get(first) or (told.samples[first].labels if first in told.samples else frozenset())
        by = re.match(r"\w+ by", alert["expr"])
        left = query.groupings[0] if by else labels | {"job", "instance"}

        named = re.findall(r"\$labels\.(\w+)", " ".join(alert["annotations"].values()))

        assert set(named) <= left, alert["alert"]


def test_every_alert_has_a_test_in_which_it_fires(alerts, folder):
    fires = re.findall(r'alertname="(\w+)"', (folder / "nexus.test.yml").read_text())

    assert {alert["alert"] for alert in alerts} == set(fires)


def test_every_log_event_and_path_of_an_alert_is_documented(alerts, root):
    said = " ".join(alert["annotations"]["description"] for alert in alerts)
    documented = "".join(path.read_text() for path in [*root.glob("docs/**/*.rst"), *root.glob("plugins/*/README.rst")])

    words = set(re.findall(r"(?<![\w/])/(?:admin|v1|ready)[\w/]*|\b[a-z]+(?:_[a-z]+)+\b", said))

    assert [word for word in sorted(words) if word.rstrip("/") not in documented] == []


def test_alerts_fire_when_they_should_and_only_then(promtool, folder):
    assert "SUCCESS" in promtool("test", "rules", str(folder / "nexus.test.yml"))


def test_prometheus_takes_the_configuration(promtool, folder):
    assert "is valid prometheus config" in promtool("check", "config", str(folder / "prometheus.yml"))


def test_rules_keep_to_prometheuss_habits(promtool, folder):
    promtool("check", "rules", "--lint=all", "--lint-fatal", str(folder / "nexus.rules.yml"))
