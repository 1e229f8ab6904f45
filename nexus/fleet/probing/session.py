"""Sends the requests of one probe, each GET only once."""

from nexus.domain.kinds import FactsLookup
from nexus.fleet.fetching import Fetcher, FetchError, FetchResponse, Target


class ProbeSession:
    """Lives as long as one probe; several steps of it may need the response of the same path."""

    def __init__(self, fetcher: Fetcher, target: Target) -> None:
        self._fetcher = fetcher
        self._target = target
        self._responses: dict[str, FetchResponse] = {}

    async def get(self, path: str) -> FetchResponse:
        """Return the response to a GET, whatever its status. :raises FetchError: there is none."""
        if path not in self._responses:
            self._responses[path] = await self._fetcher.get(self._target, path)
        return self._responses[path]

    async def body(self, path: str) -> bytes:
        """Return the body of a successful response. :raises FetchError: there is none."""
        return _body_of_success(path, await self.get(path))

    async def body_about(self, lookup: FactsLookup, model: str) -> bytes:
        """Return the body of a successful response about one model. :raises FetchError: there is none."""
        if lookup.body is None:
            return await self.body(lookup.path)
        return _body_of_success(lookup.path, await self._fetcher.post(self._target, lookup.path, lookup.body(model)))


def http_error(path: str, response: FetchResponse) -> str:
    """Return how a response to a probe that is no success is reported."""
    return f"HTTP error: {response.status} at {path}"


def _body_of_success(path: str, response: FetchResponse) -> bytes:
    if not response.is_success:
        raise FetchError(http_error(path, response))
    return response.body
