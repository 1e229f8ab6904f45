"""The contract for a plugin's README: subclass :class:`ReadmeContract` as ``TestSomething``."""

import re
import tomllib
from abc import ABC, abstractmethod
from collections.abc import Iterator
from pathlib import Path
from textwrap import dedent
from typing import Any, Final

import msgspec
from msgspec.structs import FieldInfo

from nexus.config.schema import PluginConfig, PolicyKeys
from nexus.routing.stage.api import Reconciler
from nexus.testing.builders import make_intent

HEADINGS: Final = (
    "What it does",
    "Install",
    "Configure",
    "How it decides",
    "When it fails",
    "What it shows",
    "Limits",
)
"""The headings of every plugin's README."""

POLICIES: Final = "[[routing.policies]]"
NOT_SET: Final = "not set"
"""How a README writes a default of None."""

_HEADING: Final = re.compile(r"^(.+)\n-{3,}$", re.MULTILINE)
_ROW: Final = re.compile(r"\n +\* - ")
_CELL: Final = re.compile(r"\n +- ")
_LITERAL: Final = re.compile(r"``([^`]+)``")
_TOML: Final = re.compile(r"^\.\. code-block:: toml\n\n((?: +.*\n|\n)+)", re.MULTILINE)


class Readme:
    """The headings, tables and examples of a README."""

    def __init__(self, path: Path) -> None:
        self.text = path.read_text(encoding="utf-8")

    def headings(self) -> tuple[str, ...]:
        return tuple(_HEADING.findall(self.text))

    def rows(self, head: str) -> list[tuple[str, ...]]:
        """Return the cells of each row of the list-table whose first heading starts with *head*."""
        begun = re.search(rf"^ +\* - {re.escape(head)}", self.text, re.MULTILINE)
        table, _, _ = self.text[begun.end() if begun else len(self.text) :].partition("\n\n")
        _, *rows = _ROW.split(table)
        return [tuple(" ".join(cell.split()) for cell in _CELL.split(row)) for row in rows]

    def named(self, head: str) -> set[str]:
        """Return all literals in the first column of that table."""
        return {name for first, *_ in self.rows(head) for name in _LITERAL.findall(first)}

    def configuration(self) -> dict[str, Any]:
        """Return all its TOML examples as one configuration."""
        return tomllib.loads("\n".join(dedent(block) for block in _TOML.findall(self.text)))


class ReadmeContract(ABC):
    """A README has the usual headings, and documents each key and its default, each metric and each ``explain`` fact.

    Keys, metrics and facts are in tables, whose first headings are ``Key``, ``Metric`` and ``In ``explain````.
    """

    plugin: str
    """The name of the plugin."""
    path: Path
    """The README."""
    config: type[PluginConfig] = PluginConfig
    """The type of the plugin's table, if it has one."""

    @abstractmethod
    def make(self) -> Reconciler | None:
        """Return a stage with all its metrics; None for a plugin without a stage."""

    def test_it_has_the_headings_that_every_plugin_has(self) -> None:
        assert Readme(self.path).headings() == HEADINGS

    def test_it_names_every_key_and_no_other(self) -> None:
        assert Readme(self.path).named("Key") == {name for name, _ in self._keys()}

    def test_the_defaults_are_those_of_the_code(self) -> None:
        told = {name: row[2] for row in Readme(self.path).rows("Key") for name in _LITERAL.findall(row[0])}

        for name, key in self._keys():
            if not key.required:
                assert (name, _value(told[name], key.type)) == (name, key.default)

    def test_the_configuration_that_it_shows_is_one(self) -> None:
        shown = Readme(self.path).configuration()

        msgspec.convert(shown.get("plugins", {}).get(self.plugin, {}), self.config)
        for policy in shown.get("routing", {}).get("policies", ()):
            keys = {key: value for key, value in policy.items() if key != "model_pattern"}
            msgspec.convert(keys, self._policy_keys())

    def test_it_names_every_metric_and_no_other(self) -> None:
        stage = self.make()
        measures = () if stage is None else stage.measures()

        # Prometheus adds a suffix to counters.
        names = {f"{measure.name}_total" if measure.type == "counter" else measure.name for measure in measures}
        assert Readme(self.path).named("Metric") == names

    def test_it_names_every_fact_of_an_explanation_and_no_other(self) -> None:
        stage = self.make()
        facts = {} if stage is None else stage.explain(make_intent())

        assert Readme(self.path).named("In ``explain``") == set(facts)

    def _keys(self) -> Iterator[tuple[str, FieldInfo]]:
        for table, type_ in ((f"[plugins.{self.plugin}]", self.config), (POLICIES, self._policy_keys())):
            yield from ((f"{table} {key.encode_name}", key) for key in msgspec.structs.fields(type_))

    def _policy_keys(self) -> type[PolicyKeys]:
        keys: type[PolicyKeys] = getattr(self.config, "policy_keys", PolicyKeys)
        return keys


def _value(told: str, type_: Any) -> object:
    if told == NOT_SET:
        return None
    return msgspec.convert(tomllib.loads(f"it = {told.strip('`')}")["it"], type_)
