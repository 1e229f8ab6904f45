"""The request target of a path on a backend, for all forms of base paths."""

import pytest

from nexus.config.rules.urls import normalised
from nexus.dialing.upstream_settings import UpstreamSettings

CHAT = "/v1/chat/completions"


def target(url, path=CHAT, **settings):
    return (
        UpstreamSettings(**settings)
        .path_of(normalised(url, path_is_complete=settings.get("path_is_complete")))
        .of(path)
    )


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("http://gpu:8000", "/v1/chat/completions"),
        ("http://gpu:8000/v1/", "/v1/chat/completions"),
        ("https://openrouter.ai/api/v1", "/api/v1/chat/completions"),
        ("https://openrouter.ai/api", "/api/v1/chat/completions"),
        ("https://host/v1beta/openai", "/v1beta/openai/chat/completions"),
        ("https://host/v1beta/openai/", "/v1beta/openai/chat/completions"),
        ("https://host/api/paas/v4", "/api/paas/v4/chat/completions"),
        ("https://host/client/v4/accounts/a/ai/v1", "/client/v4/accounts/a/ai/v1/chat/completions"),
        ("https://host/openai/v1", "/openai/v1/chat/completions"),
        ("https://host/v2.1preview/x", "/v2.1preview/x/chat/completions"),
        ("https://host/vault/v1x", "/vault/v1x/v1/chat/completions"),
    ],
)
def test_a_base_path_that_names_a_version_takes_the_place_of_v1(url, expected):
    assert target(url) == expected


@pytest.mark.parametrize(
    ("url", "is_complete", "expected"),
    [
        ("https://host/openai/deployments/gpt", True, "/openai/deployments/gpt/chat/completions"),
        ("https://host", True, "/chat/completions"),
        ("https://host/v1", True, "/v1/chat/completions"),
        ("https://host/v1/account/anthropic", False, "/v1/account/anthropic/v1/chat/completions"),
        ("https://host/v4/v1", False, "/v4/v1/chat/completions"),
    ],
)
def test_the_operator_says_what_no_rule_can_tell(url, is_complete, expected):
    assert target(url, path_is_complete=is_complete) == expected


@pytest.mark.parametrize(
    ("path", "expected"),
    [("/api/tags", "/base/v4/api/tags"), ("/v1", "/base/v4/v1"), ("/v1/models?limit=9", "/base/v4/models?limit=9")],
)
def test_paths_of_other_protocols_follow_the_base_path(path, expected):
    assert target("https://host/base/v4", path) == expected


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        (CHAT, f"{CHAT}?api-version=1"),
        (f"{CHAT}?a=b&api%2Dversion=9&c", f"{CHAT}?a=b&c&api-version=1"),
        (f"{CHAT}?", f"{CHAT}?api-version=1"),
    ],
)
def test_a_configured_parameter_is_there_once(path, expected):
    assert target("https://host", path, query={"api-version": "1"}) == expected
