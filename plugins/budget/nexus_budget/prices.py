"""The price of a model on a backend: configured, else from the shipped list, else assumed."""

import re
import tomllib
from collections.abc import Iterable, Mapping
from decimal import Decimal
from fnmatch import translate
from importlib import resources
from pathlib import Path
from typing import Final, Literal

import msgspec

from nexus.api import Backend, ConfigError
from nexus_budget.config import BudgetConfig, Price, PriceRow
from nexus_budget.money import TOKENS_PER_PRICE, ZERO, rounded_up

MAX_CACHED_RATES: Final = 4096
"""Bounds memory when discovered backends come and go."""

Source = Literal["configured", "shipped", "assumed", "local"]


class Rate(msgspec.Struct, frozen=True):
    """The price of one model on one backend."""

    input_usd: Decimal
    """Per token of the prompt."""
    output_usd: Decimal
    """Per token of the answer."""
    request_usd: Decimal
    source: Source
    is_paid: bool
    """Whether the backend is a cloud (by kind or zone), or the operator configured a price."""

    @property
    def is_free(self) -> bool:
        return not (self.input_usd or self.output_usd or self.request_usd)

    @property
    def is_known(self) -> bool:
        return self.source != "assumed"

    def cost(self, prompt_tokens: int, completion_tokens: int) -> Decimal:
        """Return the cost of so many tokens."""
        return rounded_up(self.input_usd * prompt_tokens + self.output_usd * completion_tokens + self.request_usd)


class PriceBook:
    """All prices of one configuration."""

    def __init__(self, config: BudgetConfig, shipped: Mapping[str, Price], as_of: str = "") -> None:
        """:param as_of: the date of the list of *shipped* prices.

        :raises ConfigError: ``prices_file`` cannot be read, or is wrong.
        """
        self.as_of = as_of
        rows = (*config.prices, *(_read_rows(config.prices_file) if config.prices_file else ()))
        # The most specific row wins: backend and model, then backend, then model; then the first in the file.
        self._rows = sorted(map(_Matcher, rows), key=lambda row: row.vagueness)
        self._shipped = shipped
        self._assumed = config.assumed_price
        self._rates: dict[tuple[str, str, bool], Rate] = {}

    def rate(self, backend: Backend, model: str) -> Rate:
        """Return the price of *model*, by its own name on *backend*."""
        is_elsewhere = not backend.kind.is_local or backend.zone_of(model) == "open"
        key = backend.name, model, is_elsewhere
        rate = self._rates.get(key)
        if rate is None:
            if len(self._rates) >= MAX_CACHED_RATES:
                self._rates.clear()
            rate = self._rates[key] = self._find(backend.name, model, is_elsewhere=is_elsewhere)
        return rate

    def last_rate(self, backend: str, model: str) -> Rate | None:
        """Return the last price for a backend of that name; None if there was none."""
        return self._rates.get((backend, model, True)) or self._rates.get((backend, model, False))

    def flat_usd(self, rate: Rate) -> Decimal:
        """Return the price of a request that is not counted in tokens: images and audio."""
        if rate.request_usd or rate.is_free:
            return rate.request_usd
        return self._assumed.request_usd or ZERO

    def _find(self, backend: str, model: str, *, is_elsewhere: bool) -> Rate:
        for row in self._rows:
            if row.matches(backend, model):
                return _rate(row.price, "configured", is_paid=is_elsewhere or not _rate(row.price, "local").is_free)
        if not is_elsewhere:
            return _FREE
        shipped = next((self._shipped[name] for name in plain_names(model) if name in self._shipped), None)
        return _rate(shipped, "shipped") if shipped is not None else _rate(self._assumed, "assumed")


def plain_names(model: str) -> tuple[str, ...]:
    """Return the names under which *model* may be listed: without the maker, and without a date or ``latest``."""
    name = model.lower().rpartition("/")[2]
    return name, _DATED.sub("", name)


_DATED: Final = re.compile(r"(?:-latest|[-@](?:\d{4}-\d{2}-\d{2}|\d{8}|\d{6}|\d{4}))$")


def shipped_prices() -> tuple[Mapping[str, Price], str]:
    """Return the prices that come with this distribution, by model, and the date of the list."""
    listed = msgspec.convert(_decimals((resources.files(__package__) / "prices.toml").read_text()), _Listed)
    return {name: price.price for price in listed.models for name in price.names}, listed.as_of


class _ListedPrice(msgspec.Struct, forbid_unknown_fields=True):
    names: tuple[str, ...]
    input: Decimal | None = None
    output: Decimal | None = None
    request: Decimal | None = None

    @property
    def price(self) -> Price:
        return Price(input_usd_per_1m=self.input, output_usd_per_1m=self.output, request_usd=self.request)


class _Listed(msgspec.Struct, forbid_unknown_fields=True):
    as_of: str
    source: str
    models: tuple[_ListedPrice, ...]


class _File(msgspec.Struct, forbid_unknown_fields=True):
    prices: tuple[PriceRow, ...] = ()


class _Matcher:
    def __init__(self, row: PriceRow) -> None:
        self.price = row
        self._backend = row.backend
        self._model = re.compile(translate(row.model)) if row.model else None

    @property
    def vagueness(self) -> int:
        return (self._backend is None) * 2 + (self._model is None)

    def matches(self, backend: str, model: str) -> bool:
        is_backend = self._backend is None or self._backend == backend
        return is_backend and (self._model is None or self._model.match(model) is not None)


def _read_rows(name: str) -> Iterable[PriceRow]:
    try:
        return msgspec.convert(_decimals(Path(name).read_text()), _File).prices
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError, msgspec.ValidationError) as exc:
        raise ConfigError(f"'{name}' cannot be used: {exc}", key="prices_file") from exc


def _decimals(text: str) -> Mapping[str, object]:
    # Decimal from the start: a float would change the price.
    return tomllib.loads(text, parse_float=Decimal)


def _rate(price: Price, source: Source, *, is_paid: bool = True) -> Rate:
    return Rate(
        input_usd=(price.input_usd_per_1m or ZERO) / TOKENS_PER_PRICE,
        output_usd=(price.output_usd_per_1m or ZERO) / TOKENS_PER_PRICE,
        request_usd=price.request_usd or ZERO,
        source=source,
        is_paid=is_paid,
    )


_FREE: Final = Rate(ZERO, ZERO, ZERO, "local", is_paid=False)
