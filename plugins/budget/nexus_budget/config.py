"""The ``[plugins.budget]`` table, and the ``max_cost_per_request`` key of ``[[routing.policies]]``."""

from decimal import Decimal
from typing import Annotated, ClassVar, Final, Literal

import msgspec
from msgspec import Meta

from nexus.api import PluginConfig, PolicyKeys
from nexus_budget.money import STEP, refuse_odd_amounts

Action = Literal["warn", "block_cloud", "block_all"]
OnStoreFailure = Literal["refuse", "local_share", "allow"]

MAX_PERCENT: Final = Decimal(100)


class Price(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The price of a model; a missing part costs nothing."""

    input_usd_per_1m: Decimal | None = None
    """Per million tokens of the prompt."""
    output_usd_per_1m: Decimal | None = None
    """Per million tokens of the answer."""
    request_usd: Decimal | None = None
    """Per request of any length: for images and audio, and in addition to tokens elsewhere."""

    def __post_init__(self) -> None:
        amounts = self.amounts()
        if not any(amount is not None for amount in amounts.values()):
            raise ValueError(f"a price says none of {', '.join(amounts)}; 0 means that it is free")
        refuse_odd_amounts(amounts)

    def amounts(self) -> dict[str, Decimal | None]:
        """Return the parts by their keys."""
        return {
            "input_usd_per_1m": self.input_usd_per_1m,
            "output_usd_per_1m": self.output_usd_per_1m,
            "request_usd": self.request_usd,
        }


class PriceRow(Price, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A price, and the backends and models that it applies to."""

    backend: str | None = None
    """The name of a backend; if missing, any."""
    model: str | None = None
    """A glob for the model name that the backend is asked for; if missing, any."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.backend and not self.model:
            raise ValueError("a row of prices names neither a `backend` nor a `model`")


ASSUMED: Final = Price(input_usd_per_1m=Decimal(15), output_usd_per_1m=Decimal(75), request_usd=Decimal("0.10"))


class BudgetKeys(PolicyKeys, frozen=True):
    """The keys that this plugin adds to a traffic policy."""

    max_cost_per_request: Decimal | None = None
    """The most, in USD, that one attempt at one backend may cost by its estimate."""

    def __post_init__(self) -> None:
        refuse_odd_amounts({"max_cost_per_request": self.max_cost_per_request})


class BudgetConfig(PluginConfig):
    """The ``[plugins.budget]`` table."""

    policy_keys: ClassVar[type[PolicyKeys]] = BudgetKeys

    monthly_limit_usd: Decimal | None = None
    """The most to spend in a calendar month (UTC); unset: spending is counted but not limited."""
    soft_limit_percent: Decimal = Decimal(75)
    """Above this share of the limit, paid backends rank lower."""
    hard_limit_action: Action = "warn"
    """What happens at the limit."""
    on_store_failure: OnStoreFailure = "refuse"
    """What happens to paid requests under a blocking limit while the store fails."""
    prices: tuple[PriceRow, ...] = ()
    """Your own prices, which override the shipped ones."""
    prices_file: str | None = None
    """A TOML file with more prices."""
    assumed_price: Price = ASSUMED
    """The price of a paid model without a known price."""
    unpriced_models: Literal["assume", "reject"] = "assume"
    """Whether a paid model without a known price is asked at the assumed price, or not at all."""
    assumed_output_tokens: Annotated[int, Meta(ge=1, le=1_000_000)] = 1024
    """The assumed length of an answer if the request does not limit it."""
    allowance_usd: Decimal = Decimal(1)
    """How much money each process draws ahead."""
    sync_interval_seconds: Annotated[float, Meta(ge=0.05, le=60)] = 1.0
    """How often a process enters its spending and reads that of all processes. Without a limit and without spending, it
    does so every five seconds."""

    def __post_init__(self) -> None:
        refuse_odd_amounts(
            {"monthly_limit_usd": self.monthly_limit_usd, "allowance_usd": self.allowance_usd}, minimum=STEP
        )
        percent = self.soft_limit_percent
        if not percent.is_finite() or not 1 < percent <= MAX_PERCENT:
            raise ValueError(f"`soft_limit_percent` is {percent}; give percent, more than 1 and at most 100")
