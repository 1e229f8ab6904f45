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
        ("nexus_night_owls", "str is no nexus.api.Measure"),
        (measure("owls"), "all of 'night' begin with 'nexus_night_'"),
        (measure("nexus_night_"), "all of 'night' begin with"),
        (measure("nexus_nightly_owls"), "all of 'night' begin with"),
        (measure("nexus_night_Owls"), "in lower case"),
        (measure("nexus_night_owls\n"), "all of 'night' begin with"),
        (measure("nexus_night_owls_bucket"), "all of 'night' begin with"),
        (measure(5), "all of 'night' begin with"),
        (measure(type="histogram"), "neither counter nor gauge"),
        (measure(documentation=" "), "does not say what it measures"),
        (measure(documentation=None), "does not say what it measures"),
        (measure(samples=None), "has no samples"),
        (measure(samples=(Sample(1),) * (MAX_SAMPLES + 1)), "more than 1000"),
        (measure("nexus_night_owls", 5), "has int for a sample"),
        (measure("nexus_night_owls", Sample(1, ["wood"])), "for a sample"),
        (measure("nexus_night_owls", Sample("5")), "cannot be '5'"),
        (measure("nexus_night_owls", Sample(-1), type="counter"), "cannot be -1"),
        (measure("nexus_night_owls", Sample(nan), type="counter"), "cannot be nan"),
        (labelled(**{"the wood": "a"}), "a label that Prometheus does not know"),
        (labelled(__wood="a"), "a label that Prometheus does not know"),
        (labelled(wood=5), "no text"),
        (labelled(wood="x" * 300), "no text, or a long one"),
        (labelled(wood="\ud83d"), "no text"),
        (measure("nexus_night_owls", Sample(1, {"wood": "a"}), Sample(1)), "other labels in one sample"),
        (measure("nexus_night_owls", Sample(1, {"wood": "a"}), Sample(2, {"wood": "a"})), "two samples of the same"),
    ],
)
def test_an_invalid_measure_is_refused_with_the_reason(bad, why):
    with pytest.raises(ValueError) as refused:  # noqa: PT011 - its words are compared
        check_measure(bad, "night")

    assert why in str(refused.value)
