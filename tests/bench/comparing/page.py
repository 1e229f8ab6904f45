"""The results as reStructuredText, and their place in the page that explains them."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Final

import msgspec

from comparing.comparison import DIRECT
from comparing.figures import Figure, Measured
from comparing.proxies import NEXUS
from comparing.thresholds import Verdict

PAGE: Final = Path(__file__).parents[3] / "docs/reference/performance.rst"
BEGIN: Final = ".. What follows is written by tests/bench/{script} --write-docs.\n"
END: Final = ".. The end of what is written.\n"
NOTHING: Final = "\\-"


class Report(msgspec.Struct, frozen=True):
    """One run."""

    conditions: Sequence[str]
    """On what, when and how much was measured: one sentence each."""
    measured: Mapping[str, Measured]
    verdicts: Sequence[Verdict]
    micro: str


def rendered(report: Report) -> str:
    """Return the part of the page that a run makes."""
    proxies = list(report.measured.values())
    heads = [f"{proxy.name} {proxy.version}".strip() for proxy in proxies]
    figures = ([figure.title, *(_cell(figure, proxy, proxies[0]) for proxy in proxies)] for figure in Figure)
    verdicts = ([verdict.threshold.figure.title, verdict.threshold.text, verdict.text] for verdict in report.verdicts)
    return "\n".join(
        (
            "".join(f"- {condition}\n" for condition in report.conditions),
            table(["", *heads], (row for row in figures if set(row[1:]) != {NOTHING})),
            table(["Promise", "Limit", "In this run"], verdicts),
            _literal("Single steps, without a server or a socket:", report.micro) if report.micro else "",
        )
    )


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
    ratio = nexus.ratio(figure, proxy) if proxy.name not in {NEXUS, DIRECT} else None
    return figure.show(value) if ratio is None else f"{figure.show(value)} ({ratio:.2f} x)"


def table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [".. list-table::", "   :header-rows: 1", ""]
    for row in (heads, *rows):
        lines += [f"   {'* -' if number == 0 else '  -'} {cell}".rstrip() for number, cell in enumerate(row)]
    return "\n".join(lines) + "\n"


def _literal(lead: str, text: str) -> str:
    lines = "".join(f"    {line}\n" if line else "\n" for line in text.splitlines())
    return f"{lead}\n\n.. code-block:: text\n\n{lines}"
