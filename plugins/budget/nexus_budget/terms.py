"""The limits of one configuration, and the status of a month's spending under them."""

from decimal import Decimal
from enum import StrEnum
from typing import Final

import msgspec

from nexus_budget.config import Action, BudgetConfig, OnStoreFailure
from nexus_budget.money import ZERO


class Status(StrEnum):
    """The status of a month's spending."""

    NORMAL = "Normal"
    SOFT = "SoftLimit"
    HARD = "HardLimit"


STATUS_NUMBERS: Final = {status: number for number, status in enumerate(Status)}


class Terms(msgspec.Struct, frozen=True, kw_only=True):
    """The limits of one configuration."""

    limit_usd: Decimal | None
    soft_usd: Decimal
    """The soft limit; meaningless without a limit."""
    action: Action
    allowance_usd: Decimal
    """What this process draws ahead; 0 if nothing is limited."""
    is_observed: bool = False
    """Whether the stage decides nothing."""
    on_store_failure: OnStoreFailure = "refuse"

    @property
    def is_enforced(self) -> bool:
        """Whether a request may be refused because the budget is used up."""
        return self.limit_usd is not None and self.action != "warn" and not self.is_observed

    @property
    def ceiling_usd(self) -> Decimal | None:
        """The most that all processes together may draw; None for no limit."""
        return self.limit_usd if self.is_enforced else None

    def status(self, spent_usd: Decimal) -> Status:
        """Return the status of a month with this spending."""
        if self.limit_usd is None or spent_usd < self.soft_usd:
            return Status.NORMAL
        return Status.SOFT if spent_usd < self.limit_usd else Status.HARD

    def percent(self, spent_usd: Decimal) -> Decimal:
        """Return the spent percentage of the limit; 0 without a limit."""
        return spent_usd * 100 / self.limit_usd if self.limit_usd is not None else ZERO


def terms_of(config: BudgetConfig, *, is_observed: bool = False) -> Terms:
    """Return the terms of *config*."""
    limit = config.monthly_limit_usd
    return Terms(
        limit_usd=limit,
        soft_usd=ZERO if limit is None else limit * config.soft_limit_percent / 100,
        action=config.hard_limit_action,
        allowance_usd=ZERO if limit is None or is_observed else config.allowance_usd,
        is_observed=is_observed,
        on_store_failure=config.on_store_failure,
    )
