import pytest

from nexus.fleet.membership.locations import is_public


@pytest.mark.parametrize(
    "url",
    ["https://llm.example.com", "https://openrouter.ai/api", "http://8.8.8.8:8000", "https://[2606:4700::1]",
     "https://api.openai.com.", "https://local.example.org"],
)  # fmt: skip
def test_some_addresses_can_be_in_the_internet(url):
    assert is_public(url)


@pytest.mark.parametrize(
    "url",
    ["http://gpu-1:8000", "http://localhost", "http://127.0.0.1:11434", "http://192.168.1.7", "http://10.0.0.1",
     "http://100.64.0.9", "http://[::1]:8000", "http://[fd00::1]", "http://gpu.lan", "http://gpu.local.",
     "http://vllm.models.svc", "http://vllm.models.svc.cluster.local", "http://gpu.home.arpa"],
)  # fmt: skip
def test_others_are_the_houses_own(url):
    assert not is_public(url)
