"""The contract notices each way in which a README can differ from its plugin."""

from typing import Annotated, ClassVar

import msgspec
import pytest
from msgspec import Meta

from nexus.config.schema import PluginConfig, PolicyKeys
from nexus.domain.measure import Measure, Sample
from nexus.routing.stage.api import Reconciler
from nexus.testing.readme_contract import ReadmeContract

README = """nexus-proxy-night
=================

What it does
------------
Sleeps.

Install
-------
.. code-block:: toml

    [plugin_loading]
    required = ["night"]

Configure
---------
.. list-table::
   :header-rows: 1

   * - Key
     - Type
     - Default
     - Meaning
   * - ``[plugins.night] first_hour``
     - whole number,
       1 to 24
     - ``22``
     - when it
       begins
   * - ``[plugins.night] name``
     - text
     - not set
     - whose
   * - ``[plugins.night] place``
     - text
     - none: say it
     - where
   * - ``[[routing.policies]] at_night``
     - true or false
     - ``false``
     - whether

.. code-block:: toml

    [plugins.night]
    first_hour = 23
    place = "here"

    [[routing.policies]]
    model_pattern = "gpt-*"
    at_night = true

How it decides
--------------
By the clock.

When it fails
-------------
It sleeps.

What it shows
-------------
.. list-table::
   :header-rows: 1

   * - Metric, by ``backend``
     - Meaning
   * - ``nexus_night_naps_total``
     - how many
   * - ``nexus_night_depth``
     - how deep

.. list-table::
   :header-rows: 1

   * - In ``explain``
     - Meaning
   * - ``hour``, ``is_night``
     - when

Limits
------
None.
"""


class NightKeys(PolicyKeys, frozen=True):
    at_night: bool = False


class NightConfig(PluginConfig):
    policy_keys: ClassVar[type[PolicyKeys]] = NightKeys

    place: str
    first_hour: Annotated[int, Meta(ge=1, le=24)] = 22
    name: str | None = None


class Night(Reconciler):
    name = "night"
    priority = 500

    def reconcile(self, intent):
        pass

    def explain(self, intent):
        return {"hour": 3, "is_night": True}

    def measures(self):
        yield Measure(name="nexus_night_naps", documentation="Naps.", type="counter", samples=(Sample(0),))
        yield Measure(name="nexus_night_depth", documentation="Depth.", type="gauge", samples=(Sample(0),))


class OfNight(ReadmeContract):
    plugin = "night"
    config = NightConfig

    def make(self):
        return Night()


HEADED = "test_it_has_the_headings_that_every_plugin_has"
KEYS = "test_it_names_every_key_and_no_other"
DEFAULTS = "test_the_defaults_are_those_of_the_code"
SHOWN = "test_the_configuration_that_it_shows_is_one"
METRICS = "test_it_names_every_metric_and_no_other"
FACTS = "test_it_names_every_fact_of_an_explanation_and_no_other"

PROMISES = [name for name in vars(ReadmeContract) if name.startswith("test_")]


@pytest.fixture
def broken_by(tmp_path):
    """Give what returns the promises that a README breaks."""

    def broken(text):
        contract = OfNight()
        contract.path = tmp_path / "README.rst"
        contract.path.write_text(text)
        return {promise for promise in PROMISES if is_broken(getattr(contract, promise))}

    return broken


def is_broken(promise):
    try:
        promise()
    except (AssertionError, KeyError, msgspec.ValidationError):
        return True
    return False


def test_a_readme_that_tells_all_keeps_every_promise(broken_by):
    assert broken_by(README) == set()


@pytest.mark.parametrize(
    ("said", "instead", "promises"),
    [
        ("Limits\n------\n", "Bounds\n------\n", {HEADED}),
        ("night] first_hour``", "night] last_hour``", {KEYS, DEFAULTS}),
        ("``22``", "``21``", {DEFAULTS}),
        ("``22``", "not set", {DEFAULTS}),
        ("not set", '``"Bo"``', {DEFAULTS}),
        ("``false``", "``true``", {DEFAULTS}),
        ("first_hour = 23", "first_hour = 25", {SHOWN}),
        ("first_hour = 23", "frist_hour = 23", {SHOWN}),
        ("    at_night = true", "    by_night = true", {SHOWN}),
        ("naps_total", "naps", {METRICS}),
        ("   * - ``nexus_night_depth``\n     - how deep\n", "", {METRICS}),
        ("``hour``, ", "", {FACTS}),
        ("In ``explain``", "Explained", {FACTS}),
    ],
)
def test_what_differs_from_the_code_is_noticed(broken_by, said, instead, promises):
    assert said in README

    assert broken_by(README.replace(said, instead, 1)) == promises


def test_a_plugin_without_keys_needs_no_table_of_them(tmp_path):
    class OfNobody(OfNight):
        config = PluginConfig
        path = tmp_path / "README.rst"

    before, _, rest = README.partition("Configure\n---------\n")
    OfNobody.path.write_text(before + "Configure\n---------\nNothing.\n\nHow" + rest.partition("\nHow")[2])

    assert [promise for promise in PROMISES if is_broken(getattr(OfNobody(), promise))] == []
