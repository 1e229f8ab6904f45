"""The results as reStructuredText, and their place in the page that explains them."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Final

import msgspec

from comparing.comparison import DIRECT
from comparing.figures import ADDED_UP, Figure, Measured
from comparing.lane import Lane
from comparing.proxies import NEXUS, Proxy
from comparing.thresholds import Verdict, show

PAGE: Final = Path(__file__).parents[3] / "docs/reference/performance.rst"
BEGIN: Final = ".. What follows is written by tests/bench/{script} --write-docs.\n"
END: Final = ".. The end of what is written.\n"
NOTHING: Final = "\\-"
UNRELATED: Final = ADDED_UP | {Figure.ADDED_P50, Figure.ADDED_P99}
"""Figures that may be 0, or below: their ratios say nothing."""


class Report(msgspec.Struct, frozen=True):
    """One run."""

    conditions: Sequence[str]
    """On what, when and how much was measured: one sentence each."""
    lanes: Sequence[Lane]
    proxies: Sequence[Proxy]
    measured: Mapping[str, Measured]
    verdicts: Sequence[tuple[Verdict, Verdict | None]]
    micro: str


def rendered(report: Report) -> str:
    """Return the part of the page that a run makes."""
    return "\n".join(
        (
            "".join(f"- {condition}\n" for condition in report.conditions),
            table(["Proxy", "Configured, besides ports; all else is default"], map(_configured, report.proxies)),
            f"Failed requests: {_failures(report.measured)}.\n",
            *(_lane(lane, list(report.measured.values())) for lane in report.lanes),
            _verdicts(report.verdicts),
            _literal("Single steps, without a server or a socket:", report.micro) if report.micro else "",
        )
    )


def _configured(proxy: Proxy) -> Sequence[str]:
    return f"{proxy.name} {proxy.version}".strip(), proxy.configured


def _failures(measured: Mapping[str, Measured]) -> str:
    """Return what makes the figures of some proxies worthless."""
    counts = {name: proxy.value(Figure.FAILED) for name, proxy in measured.items()}
    failed = [f"{name} {Figure.FAILED.show(count.middle)}" for name, count in counts.items() if count and count.middle]
    return ", ".join(failed) or "none"


def _lane(lane: Lane, proxies: Sequence[Measured]) -> str:
    """Return the table of one lane: a row for each proxy, or for each figure when only Nexus was measured."""
    measured = [proxy for proxy in proxies if any(proxy.value(figure) for figure in lane.figures)]
    figures = [figure for figure in lane.figures if any(proxy.value(figure) for proxy in measured)]
    if [proxy.name for proxy in measured] == [NEXUS]:
        heads, rows = ["Figure", NEXUS], [[figure.title, _cell(figure, measured[0], measured[0])] for figure in figures]
    else:
        heads = ["Proxy", *(figure.title for figure in figures)]
        rows = [[proxy.name, *(_cell(figure, proxy, measured[0]) for figure in figures)] for proxy in measured]
    return f"*{lane.name}*: {lane.text}\n\n{table(heads, rows)}"


def _verdicts(verdicts: Sequence[tuple[Verdict, Verdict | None]]) -> str:
    rows = (
        [limit.figure.title, limit.limit.text, limit.text, *(_goal_cells(goal))]
        for limit, goal in verdicts
        if limit.found is not None
    )
    return table(["Promise", "Limit", "In this run", "Goal beyond it", "In this run"], rows)


def _goal_cells(goal: Verdict | None) -> Sequence[str]:
    if goal is None:
        return NOTHING, NOTHING
    return goal.limit.text, "not measured" if goal.found is None else "reached" if goal.is_kept else "not reached"


def write(report: Report) -> None:
    """Put *report* in the place of the one before."""
    replace("run.py", rendered(report))


def replace(script: str, written: str) -> None:
    """Put *written* in the place of what that script has written before."""
    begin = BEGIN.format(script=script)
    before, _, rest = PAGE.read_text().partition(begin)
    _, _, after = rest.partition(END)
    PAGE.write_text(f"{before}{begin}\n{written}\n{END}{after}")


def _cell(figure: Figure, proxy: Measured, nexus: Measured) -> str:
    value = proxy.value(figure)
    if value is None:
        return NOTHING
    ratio = nexus.ratio(figure, proxy) if proxy.name not in {NEXUS, DIRECT} and figure not in UNRELATED else None
    shown = figure.show(value.middle)
    return shown if ratio is None else f"{shown} ({show(figure, ratio, is_ratio=True)})"


def table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [".. list-table::", "   :header-rows: 1", ""]
    for row in (heads, *rows):
        lines += [f"   {'* -' if number == 0 else '  -'} {cell}".rstrip() for number, cell in enumerate(row)]
    return "\n".join(lines) + "\n"


def _literal(lead: str, text: str) -> str:
    lines = "".join(f"    {line}\n" if line else "\n" for line in text.splitlines())
    return f"{lead}\n\n.. code-block:: text\n\n{lines}"
