"""The clients of the soak: three protocols, large and small, patient and not."""

import asyncio
import base64
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from itertools import count
from random import Random
from typing import Any, Final

import aiohttp
import msgspec

from enduring.servers import KEYS, LIMIT

CLIENTS: Final = 10
PAUSE_S: Final = 0.5
"""The mean pause of each client between two requests."""
REQUESTS_PER_SESSION: Final = 12
"""Then a client connects again, maybe to another worker."""
WITHIN_S: Final = 30.0
MODELS: Final = ("llama3", "llama3", "qwen3", "any", "narrow", "slow-1", "slow-2", "missing")
JSON: Final = "application/json"


class Sent(msgspec.Struct):
    """One request."""

    began: float
    ended: float = 0.0
    status: int | None = None
    """None: no answer began."""
    failure: str = ""
    is_sent: bool = True
    """Whether it was written; a client that leaves early may not have connected yet."""


class Traffic:
    """Sends requests of all kinds until a time."""

    def __init__(self, url: str, until: float) -> None:
        self.sent: dict[str, Sent] = {}
        self.kinds: Counter[str] = Counter()
        self.pages: Counter[int] = Counter()
        self._url, self._until = url, until
        self._number = count(1)

    async def run(self) -> None:
        """Run all clients; return when all have gone."""
        await asyncio.gather(*(self._client(Random(number)) for number in range(CLIENTS)), self._looker(Random(99)))

    async def _client(self, chance: Random) -> None:
        loop = asyncio.get_running_loop()
        names, weights = [*KINDS], [weight for weight, _ in KINDS.values()]
        while loop.time() < self._until:
            headers = {"Authorization": f"Bearer {chance.choice(KEYS)}"}
            async with aiohttp.ClientSession(
                headers=headers, timeout=aiohttp.ClientTimeout(total=WITHIN_S), trace_configs=[_tracing()]
            ) as session:
                for _ in range(REQUESTS_PER_SESSION):
                    if loop.time() >= self._until:
                        break
                    (kind,) = chance.choices(names, weights)
                    self.kinds[kind] += 1
                    await KINDS[kind][1](self, session, chance)
                    await asyncio.sleep(chance.expovariate(1 / PAUSE_S))

    async def fill_narrow(self) -> None:
        """Send more at once than the narrow backend may get, each by a connection of its own."""

        async def one(chance: Random) -> None:
            headers = {"Authorization": f"Bearer {KEYS[0]}"}
            async with aiohttp.ClientSession(
                headers=headers, timeout=aiohttp.ClientTimeout(total=WITHIN_S), trace_configs=[_tracing()]
            ) as session:
                body = {**_chat(chance, "narrow", characters=20, stream=True), "max_tokens": 150}
                await self.send(session, "/v1/chat/completions", body)

        await asyncio.gather(*(one(Random(1000 + number)) for number in range(2 * LIMIT)))

    async def send(
        self,
        session: aiohttp.ClientSession,
        path: str,
        body: Mapping[str, Any],
        *,
        leave_after: int | None = None,
        leave_s: float | None = None,
        pause_s: float = 0.0,
    ) -> None:
        """Send one request, and read its answer.

        :param leave_after: leave after so many reads.
        :param leave_s: leave after this time, whatever has come.
        :param pause_s: between reads.
        """
        loop = asyncio.get_running_loop()
        name = f"soak-{next(self._number)}"
        sent = self.sent[name] = Sent(loop.time(), is_sent=False)
        headers = {"Content-Type": JSON, "X-Request-Id": name}
        try:
            async with (
                asyncio.timeout(leave_s),
                session.post(
                    self._url + path, data=msgspec.json.encode(body), headers=headers, trace_request_ctx=sent
                ) as answer,
            ):
                sent.status = answer.status
                reads = 0
                while await answer.content.readany():
                    reads += 1
                    if reads == leave_after:
                        answer.close()
                        break
                    await asyncio.sleep(pause_s)
        except TimeoutError:
            sent.failure = "left" if leave_s is not None else "timeout"
        except (aiohttp.ClientError, ConnectionError) as exc:
            sent.failure = type(exc).__name__
        sent.ended = loop.time()

    async def _looker(self, chance: Random) -> None:
        """Read pages, and follow the dashboard's feed for a moment."""
        loop = asyncio.get_running_loop()
        while loop.time() < self._until:
            headers = {"Authorization": f"Bearer {KEYS[0]}"}
            async with aiohttp.ClientSession(
                headers=headers, timeout=aiohttp.ClientTimeout(total=WITHIN_S), trace_configs=[_tracing()]
            ) as session:
                try:
                    for page in ("/metrics", "/v1/stats", "/admin/backends", "/v1/models", "/health"):
                        async with session.get(self._url + page) as answer:
                            await answer.read()
                            self.pages[answer.status] += 1
                    await self._feed(session, chance.uniform(0.5, 3))
                except (aiohttp.ClientError, ConnectionError, TimeoutError):
                    self.pages[0] += 1
            await asyncio.sleep(3)

    async def _feed(self, session: aiohttp.ClientSession, seconds: float) -> None:
        async with session.post(self._url + "/admin/feed-ticket") as answer:
            ticket = msgspec.json.decode(await answer.read())["ticket"]
        async with session.ws_connect(f"{self._url}/ws?ticket={ticket}") as feed:
            try:
                async with asyncio.timeout(seconds):
                    async for _ in feed:
                        self.pages[101] += 1
            except TimeoutError:
                return


def _tracing() -> aiohttp.TraceConfig:
    """Note of each request that it is written."""

    async def written(_: object, context: Any, __: object) -> None:
        if isinstance(context.trace_request_ctx, Sent):
            context.trace_request_ctx.is_sent = True

    tracing = aiohttp.TraceConfig()
    tracing.on_request_chunk_sent.append(written)
    return tracing


Sending = Callable[[Traffic, aiohttp.ClientSession, Random], Awaitable[None]]


def _chat(chance: Random, model: str = "", *, characters: int = 0, **more: Any) -> dict[str, Any]:
    """Return a chat of which no two are alike."""
    words = characters or chance.choice((20, 200, 2_000))
    text = chance.randbytes(words // 2 + 1).hex()
    messages = [{"role": "user", "content": f"{chance.random()} {text}"}]
    return {"model": model or chance.choice(MODELS), "messages": messages, "max_tokens": chance.randint(1, 60), **more}


async def _whole(traffic: Traffic, session: aiohttp.ClientSession, chance: Random) -> None:
    await traffic.send(session, "/v1/chat/completions", _chat(chance))


async def _stream(traffic: Traffic, session: aiohttp.ClientSession, chance: Random) -> None:
    await traffic.send(session, "/v1/chat/completions", _chat(chance, stream=True))


async def _ollama(traffic: Traffic, session: aiohttp.ClientSession, chance: Random) -> None:
    await traffic.send(session, "/api/chat", _chat(chance, "qwen3", stream=chance.random() < 0.7))


async def _anthropic(traffic: Traffic, session: aiohttp.ClientSession, chance: Random) -> None:
    await traffic.send(session, "/v1/messages", _chat(chance, "llama3", stream=chance.random() < 0.7))


async def _leave_in_the_middle(traffic: Traffic, session: aiohttp.ClientSession, chance: Random) -> None:
    path = chance.choice(("/v1/chat/completions", "/v1/messages"))
    await traffic.send(session, path, _chat(chance, "llama3", stream=True), leave_after=chance.randint(1, 6))


async def _leave_early(traffic: Traffic, session: aiohttp.ClientSession, chance: Random) -> None:
    model = chance.choice(("narrow", "slow-1", "slow-2", "llama3"))
    body = _chat(chance, model, stream=chance.random() < 0.5)
    await traffic.send(session, "/v1/chat/completions", body, leave_s=chance.uniform(0.05, 0.5))


async def _read_slowly(traffic: Traffic, session: aiohttp.ClientSession, chance: Random) -> None:
    await traffic.send(session, "/v1/chat/completions", _chat(chance, stream=True), pause_s=chance.uniform(0.05, 0.3))


async def _large(traffic: Traffic, session: aiohttp.ClientSession, chance: Random) -> None:
    body = _chat(chance, "llama3", characters=chance.randint(500_000, 3_000_000), stream=chance.random() < 0.5)
    await traffic.send(session, "/v1/chat/completions", body)


async def _image(traffic: Traffic, session: aiohttp.ClientSession, chance: Random) -> None:
    picture = base64.b64encode(chance.randbytes(chance.randint(50_000, 700_000))).decode()
    body = _chat(chance, "qwen3")
    asked = {"type": "text", "text": f"what is in picture {chance.random()}?"}
    image = {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{picture}"}}
    body["messages"] = [{"role": "user", "content": [asked, image]}]
    await traffic.send(session, "/v1/chat/completions", body)


async def _embed(traffic: Traffic, session: aiohttp.ClientSession, chance: Random) -> None:
    texts = [chance.randbytes(chance.randint(10, 500)).hex() for _ in range(chance.randint(1, 16))]
    await traffic.send(session, "/v1/embeddings", {"model": "embedder", "input": texts})


async def _burst(traffic: Traffic, session: aiohttp.ClientSession, chance: Random) -> None:
    """Send more at once than the narrow backend may get, so that some wait."""
    bodies: Sequence[dict[str, Any]] = [_chat(chance, "narrow", characters=20, stream=True) for _ in range(9)]
    await asyncio.gather(*(traffic.send(session, "/v1/chat/completions", body) for body in bodies))


KINDS: Final[Mapping[str, tuple[float, Sending]]] = {
    "whole": (20, _whole),
    "streamed": (25, _stream),
    "ollama": (10, _ollama),
    "anthropic": (10, _anthropic),
    "left in the middle": (10, _leave_in_the_middle),
    "left early": (8, _leave_early),
    "read slowly": (5, _read_slowly),
    "large": (2, _large),
    "image": (4, _image),
    "embeddings": (6, _embed),
    "burst": (2, _burst),
}
"""How often each comes, and how it is sent."""
