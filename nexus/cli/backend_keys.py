"""``KEY=VALUE`` on the command line as the keys of one ``[[backends]]`` table."""

import json
import tomllib
from collections.abc import Iterable
from typing import Any

import click


def table_of(settings: Iterable[str]) -> dict[str, Any]:
    """Return what *settings* say; a value is TOML or, where it is none, a text.

    :raises click.BadParameter: one has no value, or is no key.
    """
    table: dict[str, Any] = {}
    for setting in settings:
        key, equals, value = setting.partition("=")
        if not equals:
            raise click.BadParameter(f"'{setting}' has no value; write KEY=VALUE", param_hint="--with")
        _merge(_parsed(key, value), table)
    return table


def _parsed(key: str, value: str) -> dict[str, Any]:
    for text in (value, json.dumps(value, ensure_ascii=False)):
        try:
            parsed = tomllib.loads(f"{key} = {text}")
        except ValueError:
            continue
        # A value of several lines would bring keys of its own.
        if "\n" not in text:
            return parsed
    raise click.BadParameter(f"'{key}' is not a key, such as priority or headers.X-Team", param_hint="--with")


def _merge(parsed: dict[str, Any], table: dict[str, Any]) -> None:
    for key, value in parsed.items():
        if isinstance(value, dict) and isinstance(table.get(key), dict):
            _merge(value, table[key])
        else:
            table[key] = value
