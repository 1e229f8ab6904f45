"""Generates samples of a plugin's policy keys."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from decimal import Decimal
from typing import Any, Final

import msgspec
from msgspec import inspect

from nexus.config.schema import PolicyKeys


def samples_of(keys: type[PolicyKeys]) -> Iterator[PolicyKeys]:
    """Yield the defaults, and one sample for each valid value of each key, with all other keys at their defaults."""
    yield keys()
    described = inspect.type_info(keys)
    if not isinstance(described, inspect.StructType):
        raise TypeError(f"{keys.__name__} is not a Struct")
    for field in described.fields:
        for value in _values(field.type):
            try:
                yield msgspec.convert({field.encode_name: value}, keys)
            except msgspec.ValidationError:
                # The plugin's own validation refuses it.
                continue


def _values(type_: inspect.Type) -> Iterable[Any]:
    make = _VALUES.get(type(type_))
    return () if make is None else make(type_)


def _numbers(type_: Any) -> Iterable[Any]:
    lowest = type_.ge if type_.ge is not None else type_.gt
    highest = type_.le if type_.le is not None else type_.lt
    return dict.fromkeys(number for number in (lowest, 0, 1, 3, highest) if number is not None)


_VALUES: Final[Mapping[type[inspect.Type], Callable[[Any], Iterable[Any]]]] = {
    inspect.BoolType: lambda _: (False, True),
    inspect.DecimalType: lambda _: (Decimal(0), Decimal("0.01"), Decimal(1000)),
    inspect.EnumType: lambda type_: tuple(member.value for member in type_.cls),
    inspect.FloatType: _numbers,
    inspect.IntType: _numbers,
    inspect.LiteralType: lambda type_: type_.values,
    inspect.Metadata: lambda type_: _values(type_.type),
    inspect.NoneType: lambda _: (None,),
    inspect.StrType: lambda _: ("", "a-name", "restricted", "open"),
    inspect.UnionType: lambda type_: [value for one in type_.types for value in _values(one)],
}
"""Sample values, by kind of type."""
