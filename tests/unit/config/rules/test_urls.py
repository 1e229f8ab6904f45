"""Backend URLs are normalised, and invalid ones refused."""

import pytest

from nexus.config.rules.urls import normalised


@pytest.mark.parametrize(
    "url",
    ["http://h:8000", "http://h:8000/", "http://h:8000/v1", "http://h:8000/v1/", "HTTP://H:8000//", "http://h:08000"],
)
def test_spellings_of_one_server_are_equal(url):
    assert normalised(url) == "http://h:8000"


@pytest.mark.parametrize(
    ("url", "normal"),
    [
        ("https://api.openai.com:443/v1", "https://api.openai.com"),
        ("http://h:80", "http://h"),
        ("http://h:443", "http://h:443"),
        ("https://h/base/v1", "https://h/base"),
        ("https://h/openai/deployments/a%20b/", "https://h/openai/deployments/a%20b"),
        ("https://h/av1", "https://h/av1"),
        ("http://[::1]:8000/v1", "http://[::1]:8000"),
        ("http://[0:0:0:0:0:0:0:1]", "http://[::1]"),
        ("http://127.0.0.1:11434", "http://127.0.0.1:11434"),
        ("http://my_host.local", "http://my_host.local"),
    ],
)
def test_significant_parts_of_a_url_are_kept(url, normal):
    assert normalised(url) == normal


@pytest.mark.parametrize(
    "url",
    [
        "",
        "h",
        "h:8000",
        "ftp://h",
        "http://",
        "http:///v1",
        "http://h:0",
        "http://h:65536",
        "http://h:x",
        "http://user:pass@h",
        "http://h?x=1",
        "http://h#x",
        "http://h/a b",
        "http://h/\n",
        "http://ho st",
        "http://[::1",
        "http://[nonsense]",
        "http://::1",
        "http://h\\x",
        "http://-h-",
        "http://hé",
        "http://h/<x>",
    ],
)
def test_an_invalid_url_is_refused(url):
    with pytest.raises(ValueError, match=r"expected|holds|credentials"):
        normalised(url)


def test_a_password_in_a_url_is_not_quoted():
    with pytest.raises(ValueError, match="credentials") as refused:
        normalised("http://user:sesame@h")

    assert "sesame" not in str(refused.value)
