"""Prints the dashboard that Grafana imports: ``python contrib/grafana/make_dashboard.py > contrib/grafana/nexus.json``.

The panels are defined in panels.py; this script turns them into Grafana's JSON. It needs only Python.
"""

import json
import sys

from panels import JOB, ROWS, Panel, Query, Row

COLUMNS = 24
CALM = "blue"
DATASOURCE = {"type": "prometheus", "uid": "${datasource}"}

VARIABLES = (
    ("job", "Job", "label_values(nexus_build_info, job)"),
    ("instance", "Instance", 'label_values(nexus_build_info{job=~"$job"}, instance)'),
    ("model", "Model", f"label_values(nexus_requests_total{{{JOB}}}, model)"),
    ("backend", "Backend", f"label_values(nexus_requests_total{{{JOB}}}, backend)"),
)


def dashboard() -> dict[str, object]:
    """Return the whole dashboard."""
    return {
        "uid": "nexus-proxy",
        "title": "Nexus",
        "description": "A fleet of LLM servers behind Nexus: traffic, latency, backends, routing, plugins, process.",
        "tags": ["llm", "nexus", "proxy"],
        "editable": True,
        "graphTooltip": 1,
        "refresh": "30s",
        "schemaVersion": 38,
        "time": {"from": "now-1h", "to": "now"},
        "timezone": "browser",
        "templating": {"list": [_datasource(), *(_variable(*variable) for variable in VARIABLES)]},
        "annotations": {"list": [_restarts()]},
        "panels": _panels(),
        "__requires": [
            {"type": "grafana", "id": "grafana", "name": "Grafana", "version": "10.0.0"},
            {"type": "datasource", "id": "prometheus", "name": "Prometheus", "version": "1.0.0"},
        ],
    }


def _datasource() -> dict[str, object]:
    return {
        "name": "datasource",
        "label": "Data source",
        "type": "datasource",
        "query": "prometheus",
        "refresh": 1,
        "hide": 0,
    }


def _variable(name: str, label: str, query: str) -> dict[str, object]:
    return {
        "name": name,
        "label": label,
        "type": "query",
        "datasource": DATASOURCE,
        "definition": query,
        "query": {"query": query, "refId": name},
        # When the time range changes: what came and went since then is to be found too.
        "refresh": 2,
        "sort": 1,
        "multi": True,
        "includeAll": True,
        # Also what has no such label.
        "allValue": ".*",
        "current": {"selected": True, "text": ["All"], "value": ["$__all"]},
        "hide": 0,
    }


def _restarts() -> dict[str, object]:
    return {
        "name": "Restarts",
        "datasource": DATASOURCE,
        "enable": True,
        "iconColor": "purple",
        "expr": f"process_start_time_seconds{{{JOB}}} * 1000",
        "useValueForTime": True,
        "titleFormat": "Nexus was started",
        "textFormat": "{{instance}}",
    }


def _panels() -> list[dict[str, object]]:
    """Return the rows, and their panels from left to right."""
    made: list[dict[str, object]] = []
    y = 0
    for row in ROWS:
        made.append(_row(row, number=len(made) + 1, y=y))
        y += 1
        x = 0
        for panel in row.panels:
            if x + panel.width > COLUMNS:
                x, y = 0, y + row.height
            place = {"x": x, "y": y, "w": panel.width, "h": row.height}
            made.append(_panel(panel, number=len(made) + 1, place=place))
            x += panel.width
        y += row.height
    return made


def _row(row: Row, *, number: int, y: int) -> dict[str, object]:
    place = {"x": 0, "y": y, "w": COLUMNS, "h": 1}
    return {"id": number, "type": "row", "title": row.title, "collapsed": False, "gridPos": place, "panels": []}


def _panel(panel: Panel, *, number: int, place: dict[str, int]) -> dict[str, object]:
    return {
        "id": number,
        "type": panel.kind,
        "title": panel.title,
        "description": panel.description,
        "datasource": DATASOURCE,
        "gridPos": place,
        "targets": [_target(query, chr(ord("A") + n), panel) for n, query in enumerate(panel.queries)],
        "fieldConfig": {"defaults": _field(panel), "overrides": []},
        "options": OPTIONS[panel.kind],
    }


def _target(query: Query, name: str, panel: Panel) -> dict[str, object]:
    return {
        "refId": name,
        "datasource": DATASOURCE,
        "expr": query.expr,
        "legendFormat": query.legend,
        "range": panel.kind != "stat",
        "instant": panel.kind == "stat",
    }


def _field(panel: Panel) -> dict[str, object]:
    field: dict[str, object] = {"unit": panel.unit, "custom": _drawing(panel)}
    if panel.kind == "timeseries":
        field["min"] = 0
    if panel.maximum is not None:
        field["max"] = panel.maximum
    if panel.words:
        options = {str(number): {"text": text, "color": colour} for number, text, colour in panel.words}
        field["mappings"] = [{"type": "value", "options": options}]
    field["color"] = {"mode": "palette-classic" if panel.kind == "timeseries" else "thresholds"}
    field["thresholds"] = {"mode": "absolute", "steps": [{"color": CALM, "value": None}]}
    return field


def _drawing(panel: Panel) -> dict[str, object]:
    if panel.kind != "timeseries":
        return {}
    return {
        "drawStyle": "line",
        "lineWidth": 1,
        "fillOpacity": 20 if panel.stacked else 8,
        "showPoints": "never",
        "stacking": {"mode": "normal" if panel.stacked else "none", "group": "A"},
    }


OPTIONS: dict[str, dict[str, object]] = {
    "timeseries": {
        "legend": {"displayMode": "list", "placement": "bottom", "showLegend": True, "calcs": []},
        "tooltip": {"mode": "multi", "sort": "desc"},
    },
    "stat": {
        "colorMode": "value",
        "graphMode": "none",
        "reduceOptions": {"calcs": ["lastNotNull"], "fields": "", "values": False},
        "textMode": "auto",
    },
    "state-timeline": {
        "legend": {"displayMode": "list", "placement": "bottom", "showLegend": False},
        "mergeValues": True,
        "showValue": "auto",
        "tooltip": {"mode": "single"},
    },
}


if __name__ == "__main__":
    sys.stdout.write(json.dumps(dashboard(), indent=2) + "\n")
