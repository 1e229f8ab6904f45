"""Rules between keys, and the spelling of names."""

import pytest

from nexus.errors import ConfigError


def backend(name: str, url: str, more: str = "") -> str:
    return f'[[backends]]\nname = "{name}"\nurl = "{url}"\n{more}\n'


@pytest.mark.parametrize(
    ("toml", "text"),
    [
        (backend("a", "http://a") + backend("a", "http://b"), "two backends are named 'a'"),
        (backend("None", "http://a"), "'None' stands for no backend in headers, logs and metrics"),
        (
            backend("a", "http://h:8000") + backend("b", "http://H:8000/v1/"),
            "the backend 'a' has the same URL, http://h:8000",
        ),
        (backend("", "http://a"), "letters, digits"),
        (backend("two words", "http://a"), "letters, digits"),
        (backend("a,b", "http://a"), "letters, digits"),
        (backend("a\\u001b[31m", "http://a"), r"got 'a\\x1b\[31m'"),
        (backend("ü", "http://a"), "letters, digits"),
        (backend("a", "gpu:8000"), r"bad URL: .* did you mean 'http://gpu:8000'\?"),
        (backend("a", "http://u@h"), "bad URL: expected user:password before the @ .* or use basic_auth"),
        (backend("a", "http://u:p@h", 'basic_auth = "env:X"'), "the URL has credentials too"),
        (backend("a", "http://h", 'headers = { "a b" = "c" }'), "expected the name of a header - at `a b`"),
        (backend("a", "http://h", 'headers = { host = "c" }'), "the proxy sets itself"),
        (backend("a", "http://h", 'headers = { X-Nexus-Hops = "0" }'), "the proxy sets itself"),
        (backend("a", "http://h", 'headers = { a = "b", A = "b" }'), "is set twice"),
        (backend("a", "http://h", 'headers = { a = "b\\r\\nc: d" }'), "not allowed in a header value .* visible ASCII"),
        (backend("a", "http://h", 'headers = { a = "" }'), "not allowed in a header value"),
        (backend("a", "http://h", 'headers = { a = "env:GONE" }'), "the variable GONE is not set"),
        (backend("a", "http://h", 'query = { "" = "b" }'), "expected the name of a parameter"),
        (backend("a", "http://h", 'query = { a = "file:gone" }'), "gone cannot be read"),
        (backend("a", "http://h", 'basic_auth = "me:sesame"'), "expected a reference to a secret"),
        (backend("a", "http://h", 'tls_key_file = "gone.key"'), "no such file: gone.key"),
        (
            backend("a", "http://a", 'zone = "opne"'),
            r"expected 'restricted' or 'open', got 'opne' .* did you mean 'open'\?",
        ),
        (backend("a", "http://a", 'protocols = ["olama"]'), r"did you mean 'ollama'\?"),
        (backend("a", "http://a", "protocols = []"), "expected at least one - at `protocols`"),
        (backend("a", "http://a", 'tls_ca_file = "gone.pem"'), "no such file: gone.pem"),
        (backend("a", "https://a", 'tls_cert_file = "."'), "expected a file, got a folder: ."),
        (backend("a", "http://a", 'tls_ca_file = "\\u0000"'), "no such file"),
        ('[routing.aliases]\na = "a"', "Circular alias detected: 'a' eventually points back to 'a'"),
        ('[routing.aliases]\na = "b"\nb = "c"\nc = "b"', "Circular alias detected: 'a' eventually points back to 'b'"),
        ('[routing.aliases]\na = ["x", "b"]\nb = "a"', "Circular alias detected: 'a' eventually points back to 'a'"),
        (
            '[routing.aliases]\na = "b"\nb = "c"\nc = "d"\nd = "e"',
            r"takes more than 3 hops to a model - at `a` \(line 2\)",
        ),
        ('[routing.aliases]\na = ""', "expected the name of a model"),
        ("[routing.aliases]\na = []", "expected the name of a model"),
        ('[routing.aliases]\n" a" = "b"', "without blanks around it, got ' a'"),
        ('[routing.aliases]\na = ["b", "c "]', "without blanks around it, got 'c '"),
        ('[routing.fallbacks]\na = [" b"]', "without blanks around it, got ' b'"),
        ('[routing.fallbacks]\na = ["b", ""]', "expected the name of a model"),
        ('[routing.fallbacks]\na = ["a"]', "cannot be its own fallback"),
        ('[server]\nhost = ""', "expected an address"),
        ('[server]\nallowed_origins = ["http://a/"]', "expected scheme://host:port"),
        ('[server]\nallowed_hosts = ["http://a"]', "expected a host name"),
    ],
)
def test_a_broken_rule_refuses_to_start(loaded, toml, text):
    with pytest.raises(ConfigError, match=text):
        loaded(toml)


def test_three_hops_of_aliases_are_followed(loaded):
    aliases = loaded('[routing.aliases]\na = "b"\nb = "c"\nc = "d"').config.routing.aliases

    assert aliases == {"a": "b", "b": "c", "c": "d"}


def test_two_paths_to_one_model_are_no_cycle(loaded):
    aliases = loaded('[routing.aliases]\na = ["b", "c"]\nb = "d"\nc = "d"').config.routing.aliases

    assert aliases["a"] == ("b", "c")


def test_a_very_long_cycle_is_found(loaded):
    ring = "\n".join(f'm{n} = "m{(n + 1) % 3000}"' for n in range(3000))

    with pytest.raises(ConfigError, match="Circular alias detected: 'm0' eventually points back to 'm0'"):
        loaded("[routing.aliases]\n" + ring)


@pytest.mark.parametrize("zone", ["restricted", "Restricted", "RESTRICTED"])
def test_a_zone_may_be_in_any_letter_case(loaded, zone):
    result = loaded(backend("a", "http://a", f'zone = "{zone}"'))

    assert result.config.backends[0].zone == "restricted"


def test_a_policy_may_have_keys_of_plugins(loaded):
    toml = '[[routing.policies]]\nmodel_pattern = "llama[23]*"\nprivacy = "restricted"'

    assert loaded(toml).config.routing.policies[0]["privacy"] == "restricted"


@pytest.mark.parametrize("name", ["gpu-1", "ollama-local:11434", "A.b_c", "9"])
def test_usual_names_are_allowed(loaded, name):
    assert loaded(backend(name, "http://a")).config.backends[0].name == name
