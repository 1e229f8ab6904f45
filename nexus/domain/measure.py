"""A metric of a plugin, and the checks that it passes before it is exposed to Prometheus."""

import re
from collections.abc import Mapping
from math import isnan
from typing import Final, Literal

import msgspec

from nexus.containment import is_interrupt, safe_text

MAX_SAMPLES: Final = 1000
"""Of one metric of a plugin; the rest is exposed as one sample."""
MAX_READ_SAMPLES: Final = 20_000
"""The samples that are read of one metric of a plugin, which bounds the time that this takes."""
MAX_LABEL_CHARACTERS: Final = 200


class Measure(msgspec.Struct, frozen=True, kw_only=True):
    """One metric with all its samples."""

    name: str
    """Without the suffix ``_total`` of counters."""
    documentation: str
    """One sentence, with the unit."""
    type: Literal["counter", "gauge"]
    samples: tuple["Sample", ...]
    across: Literal["sum", "max", "min"] | None = None
    """How the values of several workers become one (:doc:`/howto/workers`). None: counters are added up, and of gauges
    the largest is taken, because a share, a time or a figure of the store must not be added up."""

    @property
    def merging(self) -> Literal["sum", "max", "min"]:
        """How the values of several workers become one."""
        return self.across or ("sum" if self.type == "counter" else "max")


class Sample(msgspec.Struct, frozen=True):
    """One value of a metric."""

    value: float
    labels: Mapping[str, str] = {}
    """The same keys in all samples of one metric."""


def prefix_of(plugin: str) -> str:
    """Return the prefix of the names of all measures of *plugin*."""
    return f"nexus_{plugin.replace('-', '_').lower()}_"


def check_measure(measure: object, plugin: str) -> None:
    """Check *measure* of *plugin* and all its samples. :raises ValueError: some of it is invalid, and why."""
    family = check_family(measure, plugin)
    if len(family.samples) > MAX_SAMPLES:
        raise ValueError(f"{family.name} has more than {MAX_SAMPLES} samples")
    read = read_samples(family)
    if read.refused:
        raise ValueError(read.complaint)


def check_family(measure: object, plugin: str) -> Measure:
    """Return *measure* of *plugin* if all but its samples is valid. :raises ValueError: it is not, and why."""
    if not isinstance(measure, Measure):
        raise ValueError(f"{type(measure).__name__} is not a nexus.api.Measure")  # noqa: TRY004 - one kind of complaint
    name, prefix = measure.name, prefix_of(plugin)
    if not isinstance(name, str) or not name.startswith(prefix) or not _NAME.fullmatch(name[len(prefix) :]):
        raise ValueError(
            f"{name!r:.80} is not a valid name for a measure of '{plugin}'; use lower case, beginning with '{prefix}'"
        )
    if measure.type not in {"counter", "gauge"}:
        raise ValueError(f"{name} has the type {measure.type!r:.80}; use counter or gauge")
    if measure.across not in {None, "sum", "max", "min"}:
        raise ValueError(f"{name} has {measure.across!r:.80} as across; use sum, max or min")
    if not isinstance(measure.documentation, str) or not measure.documentation.strip():
        raise ValueError(f"{name} has no documentation")
    if not isinstance(measure.samples, tuple | list):
        raise ValueError(f"{name} has no samples")  # noqa: TRY004 - one kind of complaint
    return measure


class ReadSamples(msgspec.Struct, frozen=True):
    """The valid samples of one measure."""

    labels: tuple[str, ...]
    values: Mapping[tuple[str, ...], float]
    """By the values of their labels."""
    refused: int = 0
    """How many are invalid."""
    complaint: str = ""
    """What is wrong with the first invalid one."""


def read_samples(measure: Measure) -> ReadSamples:
    """Return the valid samples of *measure*; the first valid one sets the labels of all."""
    labels: tuple[str, ...] | None = None
    values: dict[tuple[str, ...], float] = {}
    refused, complaint = 0, ""
    is_counter = measure.type == "counter"
    for sample in measure.samples[:MAX_READ_SAMPLES]:
        plain = None if labels is None else _plain_key(sample, labels, is_counter=is_counter)
        if plain is not None and plain not in values:
            values[plain] = float(sample.value)
            continue
        try:
            keys, value = _validated(measure.name, sample, is_counter=is_counter)
            labels = _checked_labels(measure.name, labels, keys)
            key = tuple(keys[label] for label in labels)
            if key in values:
                raise ValueError(f"{measure.name} has two samples with the same labels")  # noqa: TRY301 - one complaint
            values[key] = value
        except BaseException as exc:
            if is_interrupt(exc):
                raise
            # Labels and numbers may be objects of the plugin, whose methods may raise anything.
            refused, complaint = refused + 1, complaint or safe_text(exc)
    unread = max(0, len(measure.samples) - MAX_READ_SAMPLES)
    if unread:
        complaint = (
            complaint or f"{measure.name} has {len(measure.samples)} samples; {MAX_READ_SAMPLES} of them are read"
        )
    return ReadSamples(labels or (), values, refused + unread, complaint)


_NAME: Final = re.compile(r"[a-z0-9]+(?:_[a-z0-9]+)*(?<!_created)(?<!_bucket)")
_LABEL: Final = re.compile(r"(?!__)[a-zA-Z_][a-zA-Z0-9_]*")


def _plain_key(sample: Sample, labels: tuple[str, ...], *, is_counter: bool) -> tuple[str, ...] | None:
    """Return the label values of a usual sample; None when the sample needs all checks."""
    if type(sample) is not Sample or type(sample.labels) is not dict or type(sample.value) not in _NUMBERS:
        return None
    if not (0.0 if is_counter else -_LARGE) <= sample.value <= _LARGE or tuple(sample.labels) != labels:
        return None
    key = tuple(sample.labels.values())
    is_plain = all(type(value) is str and value.isascii() and len(value) <= MAX_LABEL_CHARACTERS for value in key)
    return key if is_plain else None


_LARGE: Final = 1e300
_NUMBERS: Final = frozenset({int, float})


def _validated(name: str, sample: object, *, is_counter: bool) -> tuple[dict[str, str], float]:
    if not isinstance(sample, Sample) or not isinstance(sample.labels, Mapping):
        raise ValueError(f"{name} has a sample of type {type(sample).__name__}")  # noqa: TRY004 - as above
    if not isinstance(sample.value, int | float) or (is_counter and (isnan(sample.value) or sample.value < 0)):
        raise ValueError(f"{name} cannot have the value {sample.value!r:.80}")
    labels = dict(sample.labels)
    if not all(isinstance(key, str) and _LABEL.fullmatch(key) for key in labels):
        raise ValueError(f"{name} has an invalid label: {sorted(map(str, labels))}")
    if not all(
        isinstance(value, str) and len(value) <= MAX_LABEL_CHARACTERS and _is_utf8(value) for value in labels.values()
    ):
        raise ValueError(f"{name} has a label whose value is not text, or too long")
    return labels, float(sample.value)


def _checked_labels(name: str, labels: tuple[str, ...] | None, keys: Mapping[str, str]) -> tuple[str, ...]:
    if labels is not None and set(labels) != keys.keys():
        raise ValueError(f"{name} has samples with different labels")
    return tuple(keys) if labels is None else labels


def _is_utf8(text: str) -> bool:
    return text.isascii() or text.encode(errors="replace").decode() == text
