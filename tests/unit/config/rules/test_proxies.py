"""Which proxy the variables choose, and how its URL is normalised."""

import pytest

from nexus.config.rules.proxies import normalised, variable_for


@pytest.mark.parametrize(
    ("url", "environ", "expected"),
    [
        ("https://h", {"https_proxy": "p"}, "https_proxy"),
        ("https://h", {"HTTPS_PROXY": "p"}, "HTTPS_PROXY"),
        ("https://h", {"https_proxy": "p", "HTTPS_PROXY": "q"}, "https_proxy"),
        ("https://h", {"http_proxy": "p"}, None),
        ("http://h", {"http_proxy": "p"}, "http_proxy"),
        ("http://h", {"ALL_PROXY": "p"}, "ALL_PROXY"),
        ("https://h", {"https_proxy": ""}, None),
        ("https://h", {}, None),
    ],
)
def test_the_scheme_decides_which_variable_is_used(url, environ, expected):
    assert variable_for(url, environ) == expected


@pytest.mark.parametrize(
    ("host", "no_proxy", "is_excepted"),
    [
        ("gpu.lan", "gpu.lan", True),
        ("gpu.lan", "lan", True),
        ("gpu.lan", ".lan", True),
        ("gpu.lan", "*.lan", True),
        ("gpu.lan", "GPU.lan", True),
        ("gpu.lan", "a.b, .lan", True),
        ("gpu.lan", "*", True),
        ("gpu.lan", "gpu.lan:443", True),
        ("gpu.lan", "gpu.lan:80", False),
        ("gpu.lan", "u.lan", False),
        ("gpu.lan", ",", False),
        ("gpu.lan", "10.0.0.0/8", False),
        ("10.1.2.3", "10.0.0.0/8", True),
        ("10.1.2.3", "10.1.2.3", True),
        ("10.1.2.3", "10.1.2.3:443", True),
        ("11.1.2.3", "10.0.0.0/8", False),
        ("[::1]", "::1", True),
        ("[::1]", "[::1]", True),
    ],
)
def test_no_proxy_excepts_hosts(host, no_proxy, is_excepted):
    found = variable_for(f"https://{host}", {"https_proxy": "p", "no_proxy": no_proxy})

    assert (found is None) is is_excepted


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("http://proxy:3128", ("http://proxy:3128", None)),
        ("proxy:3128", ("http://proxy:3128", None)),
        ("http://me:s%40me@Proxy:3128/", ("http://proxy:3128", "me:s@me")),
        ("http://proxy", ("http://proxy", None)),
    ],
)
def test_the_url_of_a_proxy_is_normalised(url, expected):
    assert normalised(url) == expected


@pytest.mark.parametrize("url", ["https://proxy", "socks5://proxy", "http://proxy/path", "http://me@proxy", ""])
def test_an_invalid_proxy_is_refused(url):
    with pytest.raises(ValueError, match="expected"):
        normalised(url)
