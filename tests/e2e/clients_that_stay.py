"""Clients of one library that send requests until SIGTERM, each on a persistent connection.

Asks by POST, which no library repeats by itself. Prints what became of the requests as one line of JSON.
"""

import asyncio
import json
import random
import signal
import sys
import threading

import aiohttp
import httpx
import requests

LONGEST_PAUSE_S = 0.02
PAUSE_WHILE_REFUSED_S = 0.1
STREAMED = 0.1
"""The share of streamed requests, which take longer."""
DONE = b"data: [DONE]\n\n"


class Tally:
    """Counts the results of all requests."""

    def __init__(self):
        self.asked = self.refused = 0
        self.lost = []
        self.is_over = False

    def begin(self):
        """Return the body of a request."""
        self.asked += 1
        is_stream = random.random() < STREAMED
        messages = [{"role": "user", "content": "hi"}]
        return {"model": "slow" if is_stream else "fast", "messages": messages, "stream": is_stream}

    def answered(self, body, status, answer):
        """Count a response, and return the pause before the next request."""
        if status != 200 or (body["stream"] and not answer.endswith(DONE)):
            self.lost.append(f"status {status}: {answer[-200:]}")
        return random.random() * LONGEST_PAUSE_S

    def failed(self, exc):
        """Count a failure, and return the pause before the next request."""
        if isinstance(exc, aiohttp.ClientConnectorError | httpx.ConnectError) or "refused" in str(exc):
            self.refused += 1
        else:
            self.lost.append(f"{exc!r} from {exc.__cause__!r}")
        return PAUSE_WHILE_REFUSED_S


async def by_aiohttp(tally, url):
    async with aiohttp.ClientSession() as session:
        while not tally.is_over:
            body = tally.begin()
            try:
                async with session.post(url, json=body) as answer:
                    pause_s = tally.answered(body, answer.status, await answer.read())
            except aiohttp.ClientError as exc:
                pause_s = tally.failed(exc)
            await asyncio.sleep(pause_s)


async def by_httpx(tally, url):
    async with httpx.AsyncClient(timeout=20, trust_env=False) as client:
        while not tally.is_over:
            body = tally.begin()
            try:
                answer = await client.post(url, json=body)
                pause_s = tally.answered(body, answer.status_code, answer.content)
            except httpx.HTTPError as exc:
                pause_s = tally.failed(exc)
            await asyncio.sleep(pause_s)


async def by_requests(tally, url):
    await asyncio.to_thread(_by_requests, tally, url)


def _by_requests(tally, url):
    with requests.Session() as session:
        session.trust_env = False
        while not tally.is_over:
            body = tally.begin()
            try:
                answer = session.post(url, json=body, timeout=20)
                pause_s = tally.answered(body, answer.status_code, answer.content)
            except requests.RequestException as exc:
                pause_s = tally.failed(exc)
            threading.Event().wait(pause_s)


LIBRARIES = {"aiohttp": by_aiohttp, "httpx": by_httpx, "requests": by_requests}


async def main(url, library, count):
    tally = Tally()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, setattr, tally, "is_over", True)
    await asyncio.gather(*(LIBRARIES[library](tally, url) for _ in range(count)))
    sys.stdout.write(json.dumps({"asked": tally.asked, "refused": tally.refused, "lost": tally.lost}))


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], sys.argv[2], int(sys.argv[3])))
