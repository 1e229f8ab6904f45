"""The checks of a plugin's metrics."""

from math import inf, nan

import pytest

from nexus.domain.measure import MAX_SAMPLES, Measure, Sample, check_measure, prefix_of


def measure(name="nexus_night_owls", *samples, **fields):
    return Measure(name=name, **{"documentation": "Owls.", "type": "gauge", "samples": samples, **fields})


def labelled(**labels):
    return measure("nexus_night_owls", Sample(1, labels))


def test_names_begin_with_the_plugin_s():
    assert prefix_of("No-Cloud_at_night") == "nexus_no_cloud_at_night_"


@pytest.mark.parametrize(
    "good",
    [
        measure(),
        measure("nexus_night_owls", Sample(1)),
        measure("nexus_night_owls", Sample(-2.5), documentation="Ü\n"),
        measure("nexus_night_owls", Sample(nan)),
        measure("nexus_night_owls", Sample(inf), type="counter"),
        measure("nexus_night_owls", Sample(1, {"wood": "a"}), Sample(1, {"wood": "ü\n"})),
    ],
)
def test_a_valid_measure_passes(good):
    check_measure(good, "night")


@pytest.mark.parametrize(
    ("bad", "why"),
    [
        ("nexus_night_owls", "str is not a nexus.api.Measure"),
        (measure("owls"), "of 'night'; use lower case, beginning with 'nexus_night_'"),
        (measure("nexus_night_"), "is not a valid name for a measure of 'night'"),
        (measure("nexus_nightly_owls"), "is not a valid name for a measure of 'night'"),
        (measure("nexus_night_Owls"), "use lower case"),
        (measure("nexus_night_owls\n"), "is not a valid name for a measure of 'night'"),
        (measure("nexus_night_owls_bucket"), "is not a valid name for a measure of 'night'"),
        (measure(5), "is not a valid name for a measure of 'night'"),
        (measure(type="histogram"), "use counter or gauge"),
        (measure(documentation=" "), "has no documentation"),
        (measure(documentation=None), "has no documentation"),
        (measure(samples=None), "has no samples"),
        (measure(samples=(Sample(1),) * (MAX_SAMPLES + 1)), "more than 1000"),
        (measure("nexus_night_owls", 5), "has a sample of type int"),
        (measure("nexus_night_owls", Sample(1, ["wood"])), "a sample of type"),
        (measure("nexus_night_owls", Sample("5")), "cannot have the value '5'"),
        (measure("nexus_night_owls", Sample(-1), type="counter"), "cannot have the value -1"),
        (measure("nexus_night_owls", Sample(nan), type="counter"), "cannot have the value nan"),
        (labelled(**{"the wood": "a"}), "an invalid label"),
        (labelled(__wood="a"), "an invalid label"),
        (labelled(wood=5), "is not text"),
        (labelled(wood="x" * 300), "is not text, or too long"),
        (labelled(wood="\ud83d"), "is not text"),
        (measure("nexus_night_owls", Sample(1, {"wood": "a"}), Sample(1)), "different labels"),
        (measure("nexus_night_owls", Sample(1, {"wood": "a"}), Sample(2, {"wood": "a"})), "two samples with the same"),
    ],
)
def test_an_invalid_measure_is_refused_with_the_reason(bad, why):
    with pytest.raises(ValueError) as refused:  # noqa: PT011 - its words are compared
        check_measure(bad, "night")

    assert why in str(refused.value)
