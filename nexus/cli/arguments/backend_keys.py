"""``KEY=VALUE`` on the command line as the keys of one ``[[backends]]`` table."""

import json
import tomllib
from collections.abc import Iterable
from typing import Any

import click

from nexus.config.schema import Config


def table_of(settings: Iterable[str]) -> dict[str, Any]:
    """Return *settings* as a table; a value that is not TOML is a text.

    :raises click.BadParameter: a setting has no value, or an invalid key.
    """
    table: dict[str, Any] = {}
    for setting in settings:
        key, equals, value = setting.partition("=")
        if not equals:
            raise click.BadParameter(f"'{setting}' has no value; write KEY=VALUE", param_hint="--with")
        _merge(_parsed(key, value), table)
    return table


def refuse_keys_of_a_backend(overrides: Iterable[str]) -> None:
    """Refuse keys of a backend that were given with ``--set``, which sets keys of the configuration.

    :raises click.BadParameter: the first part of a key is no section.
    """
    for key in overrides:
        if key.partition(".")[0] not in Config.__struct_fields__:
            text = f"'{key}' is no key of the configuration; --with sets one of the backend"
            raise click.BadParameter(text, param_hint="--set")


def _parsed(key: str, value: str) -> dict[str, Any]:
    for text in (value, json.dumps(value, ensure_ascii=False)):
        try:
            parsed = tomllib.loads(f"{key} = {text}")
        except ValueError:
            continue
        # A value of several lines could set further keys.
        if "\n" not in text:
            return parsed
    raise click.BadParameter(f"'{key}' is not a key, such as priority or headers.X-Team", param_hint="--with")


def _merge(parsed: dict[str, Any], table: dict[str, Any]) -> None:
    for key, value in parsed.items():
        if isinstance(value, dict) and isinstance(table.get(key), dict):
            _merge(value, table[key])
        else:
            table[key] = value
