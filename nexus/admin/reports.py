"""What stages add to ``/v1/stats``: a section each, and columns of backends."""

from collections.abc import Iterable, Mapping
from typing import Any, Final

import msgspec

from nexus.routing.stage.runner import Stage

Facts = Mapping[str, Any]

BY_WORKER: Final = "by_worker"
"""The key of what the workers report differently."""


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


def merge_reports(by_worker: Mapping[str, Mapping[str, Report]]) -> dict[str, Report]:
    """Merge the reports of several workers, by their numbers.

    What all report alike is in the merged report once. The rest is in ``by_worker`` of the section or of the backend,
    by the numbers of the workers: only the stage knows whether it could be added up.
    """
    stages = dict.fromkeys(stage for reports in by_worker.values() for stage in reports)
    return {stage: _merged({name: r[stage] for name, r in by_worker.items() if stage in r}) for stage in stages}


def _merged(by_worker: Mapping[str, Report]) -> Report:
    backends = dict.fromkeys(backend for report in by_worker.values() for backend in report.backends)
    return Report(
        merge_facts({name: report.section for name, report in by_worker.items()}),
        {b: merge_facts({name: report.backends.get(b, {}) for name, report in by_worker.items()}) for b in backends},
    )


def merge_facts(by_worker: Mapping[str, Facts]) -> Facts:
    """Return what is equal for all workers once, and the rest in ``by_worker``."""
    keys = dict.fromkeys(key for facts in by_worker.values() for key in facts)
    first = next(iter(by_worker.values()), {})
    shared = {
        key: first[key]
        for key in keys
        if key in first and all(key in facts and facts[key] == first[key] for facts in by_worker.values())
    }
    if len(shared) == len(keys):
        return shared
    apart = {
        name: {key: value for key, value in facts.items() if key not in shared} for name, facts in by_worker.items()
    }
    return {**shared, BY_WORKER: apart}
