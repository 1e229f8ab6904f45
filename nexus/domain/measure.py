"""A figure that Prometheus is told, as whoever knows it gives it: without a registry, without state."""

import re
from collections.abc import Iterable, Mapping
from math import isnan
from typing import Final, Literal

import msgspec

MOST_SAMPLES: Final = 1000
LONGEST_LABEL: Final = 200


class Measure(msgspec.Struct, frozen=True, kw_only=True):
    """One metric with all its samples."""

    name: str
    """Without the ``_total`` that counters get."""
    documentation: str
    """One sentence, with the unit."""
    type: Literal["counter", "gauge"]
    samples: tuple["Sample", ...]


class Sample(msgspec.Struct, frozen=True):
    """One value of a metric."""

    value: float
    labels: Mapping[str, str] = {}
    """The same keys in all samples of one metric."""


def prefix_of(plugin: str) -> str:
    """Return what the names of all measures of *plugin* begin with."""
    return f"nexus_{plugin.replace('-', '_').lower()}_"


def check_measure(measure: object, plugin: str) -> None:
    """Check what *plugin* gave. :raises ValueError: Prometheus cannot be told that; the text says why."""
    if not isinstance(measure, Measure):
        raise ValueError(f"{type(measure).__name__} is no nexus.api.Measure")  # noqa: TRY004 - one kind of complaint
    name, prefix = measure.name, prefix_of(plugin)
    if not isinstance(name, str) or not name.startswith(prefix) or not _NAME.fullmatch(name[len(prefix) :]):
        raise ValueError(f"a measure is named {name!r:.80}; all of '{plugin}' begin with '{prefix}', in lower case")
    if measure.type not in {"counter", "gauge"}:
        raise ValueError(f"{name} is a {measure.type!r:.80}, which is neither counter nor gauge")
    if not isinstance(measure.documentation, str) or not measure.documentation.strip():
        raise ValueError(f"{name} does not say what it measures")
    if not isinstance(measure.samples, tuple | list) or len(measure.samples) > MOST_SAMPLES:
        raise ValueError(f"{name} has no samples, or more than {MOST_SAMPLES}")
    _check_samples(name, measure.samples, is_counter=measure.type == "counter")


_NAME: Final = re.compile(r"[a-z0-9]+(?:_[a-z0-9]+)*(?<!_created)(?<!_bucket)")
_LABEL: Final = re.compile(r"(?!__)[a-zA-Z_][a-zA-Z0-9_]*")


def _check_samples(name: str, samples: Iterable[object], *, is_counter: bool) -> None:
    keys: set[str] | None = None
    seen: set[tuple[str, ...]] = set()
    for sample in samples:
        if not isinstance(sample, Sample) or not isinstance(sample.labels, Mapping):
            raise ValueError(f"{name} has {type(sample).__name__} for a sample")  # noqa: TRY004 - as above
        if not isinstance(sample.value, int | float) or (is_counter and (isnan(sample.value) or sample.value < 0)):
            raise ValueError(f"{name} cannot be {sample.value!r:.80}")
        labels = dict(sample.labels)
        if not all(isinstance(key, str) and _LABEL.fullmatch(key) for key in labels):
            raise ValueError(f"{name} has a label that Prometheus does not know: {sorted(map(str, labels))}")
        if not all(
            isinstance(value, str) and len(value) <= LONGEST_LABEL and _is_utf8(value) for value in labels.values()
        ):
            raise ValueError(f"{name} has a label whose value is no text, or a long one")
        if keys is not None and keys != labels.keys():
            raise ValueError(f"{name} has other labels in one sample than in another")
        keys = set(labels)
        values = tuple(labels[key] for key in sorted(labels))
        if values in seen:
            raise ValueError(f"{name} has two samples of the same labels")
        seen.add(values)


def _is_utf8(text: str) -> bool:
    return text.isascii() or text.encode(errors="replace").decode() == text
