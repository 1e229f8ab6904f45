"""Valid and invalid configurations."""

import msgspec
import pytest

from nexus_privacy.config import PrivacyConfig, PrivacyKeys


@pytest.mark.parametrize("said", ["restricted", "Restricted", "RESTRICTED", "unrestricted", "UnRestricted"])
def test_letter_case_makes_no_difference(said):
    assert msgspec.convert({"privacy": said}, PrivacyKeys).privacy == said.lower()
    assert msgspec.convert({"default": said}, PrivacyConfig).default == said.lower()


@pytest.mark.parametrize("said", ["open", "private", "", " restricted", "restricted!"])
def test_another_word_is_refused_with_the_valid_ones(said):
    expected = f"privacy: expected 'restricted' or 'unrestricted', got '{said}'"

    with pytest.raises(msgspec.ValidationError, match=expected):
        msgspec.convert({"privacy": said}, PrivacyKeys)
    with pytest.raises(msgspec.ValidationError, match="default: expected 'restricted' or 'unrestricted'"):
        msgspec.convert({"default": said}, PrivacyConfig)


@pytest.mark.parametrize("table", [{"privacy": True}, {"privacy": 1}, {"privcay": "restricted"}])
def test_another_type_or_key_is_refused(table):
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert(table, PrivacyKeys)


def test_by_default_nothing_is_restricted_and_discovered_backends_are_trusted():
    config = PrivacyConfig()

    assert (config.default, config.trust_discovered, PrivacyKeys().privacy) == ("unrestricted", True, None)
