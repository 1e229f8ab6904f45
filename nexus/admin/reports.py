"""What stages report for the figures: a section each, and what they add to the rows of backends."""

from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

from nexus.routing.stage.runner import Stage

Facts = Mapping[str, Any]


class Report(msgspec.Struct, frozen=True):
    """Of one stage."""

    section: Facts
    backends: Mapping[str, Facts]
    """By the names of backends."""


def reports_of(stages: Iterable[Stage]) -> dict[str, Report]:
    """Return what *stages* report, by their names."""
    return {stage.place.name: _parted(stage.report()) for stage in stages}


def _parted(report: Facts) -> Report:
    section = dict(report)
    backends = section.pop("backends", None)
    rows = backends.items() if isinstance(backends, dict) else ()
    return Report(section, {name: facts for name, facts in rows if isinstance(facts, dict)})
