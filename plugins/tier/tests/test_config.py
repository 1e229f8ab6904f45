"""Valid and invalid configurations."""

import msgspec
import pytest

from nexus_tier.config import TierConfig, TierKeys


@pytest.mark.parametrize("type_", [TierKeys, TierConfig])
@pytest.mark.parametrize("tier", [1, 2, 3, 4, 5])
def test_there_are_five_tiers(type_, tier):
    assert msgspec.convert({"min_tier": tier}, type_).min_tier == tier


@pytest.mark.parametrize("type_", [TierKeys, TierConfig])
@pytest.mark.parametrize("tier", [0, 6, -1, 2.5, "3", True])
def test_another_tier_is_refused(type_, tier):
    with pytest.raises(msgspec.ValidationError, match="min_tier"):
        msgspec.convert({"min_tier": tier}, type_)


@pytest.mark.parametrize("type_", [TierKeys, TierConfig])
def test_a_downgrade_is_allowed_or_not(type_):
    assert msgspec.convert({"allow_downgrade": True}, type_).allow_downgrade is True
    with pytest.raises(msgspec.ValidationError, match="allow_downgrade"):
        msgspec.convert({"allow_downgrade": "yes"}, type_)


def test_by_default_no_tier_is_required_and_no_request_downgraded():
    assert (TierConfig().min_tier, TierConfig().allow_downgrade) == (1, False)
    assert (TierKeys().min_tier, TierKeys().allow_downgrade) == (None, None)
