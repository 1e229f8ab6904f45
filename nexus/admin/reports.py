"""What stages add to ``/v1/stats``: a section each, and columns of backends."""

from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

from nexus.routing.stage.runner import Stage

Facts = Mapping[str, Any]


class Report(msgspec.Struct, frozen=True):
    """The report of one stage."""

    section: Facts
    backends: Mapping[str, Facts]
    """By backend name."""


def reports_of(stages: Iterable[Stage]) -> dict[str, Report]:
    """Return the reports of *stages* by stage name."""
    return {stage.place.name: _split(stage.report()) for stage in stages}


def _split(report: Facts) -> Report:
    section = dict(report)
    backends = section.pop("backends", None)
    rows = backends.items() if isinstance(backends, dict) else ()
    return Report(section, {name: facts for name, facts in rows if isinstance(facts, dict)})
