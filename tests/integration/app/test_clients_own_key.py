"""A 401 of a backend is about the proxy's key or the client's, and the error says which."""

import asyncio

import pytest

from nexus.testing.client import ask, chat
from nexus.testing.proxy import nexus_in_loop
from tests.support.scripted import ReadRequest, ScriptedBackend, Send

BODY = b'{"error":{"message":"no such key","code":"invalid_api_key"}}'
REFUSED = [
    ReadRequest(),
    Send(
        b"HTTP/1.1 401 Unauthorized\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%b"
        % (len(BODY), BODY)
    ),
]


@pytest.fixture
def asked(monkeypatch):
    async def ask_with(headers, **backend_keys):
        keys = "".join(f'{name} = "{value}"\n' for name, value in backend_keys.items())
        async with ScriptedBackend(REFUSED) as backend:
            config = f"""
                [health_check]
                enabled = false
                [[backends]]
                name = "b"
                url = "{backend.url}"
                type = "vllm"
                {keys}
                models = {{ m = {{}} }}
            """
            async with nexus_in_loop(config) as nexus:
                url = f"http://127.0.0.1:{nexus.port}"
                return await asyncio.to_thread(ask, url, "/v1/chat/completions", chat("m", "x"), headers=headers)

    return ask_with


async def test_a_client_whose_own_key_was_refused_gets_the_reason(asked):
    reply = await asked({"Authorization": "Bearer mine"})

    assert (reply.status, reply.body) == (401, BODY)


async def test_a_client_that_sent_no_key_to_a_server_that_asks_for_one_is_told_so(asked):
    reply = await asked({})

    assert (reply.status, reply.body) == (401, BODY)


async def test_a_refusal_of_the_configured_key_is_no_affair_of_the_clients(asked, tmp_path):
    key = tmp_path / "key"
    key.write_text("ours")
    key.chmod(0o600)

    reply = await asked({"Authorization": "Bearer mine"}, api_key=f"file:{key}")

    assert (reply.status, reply.json()["error"]["code"]) == (502, "backend_auth")
