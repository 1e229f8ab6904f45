"""The questions of one probe to one backend: what two of them share is asked once."""

from nexus.domain.kinds import FactsLookup
from nexus.fleet.fetching import Fetcher, FetchError, FetchResponse, Target


class Questions:
    """Lives as long as one probe."""

    def __init__(self, fetcher: Fetcher, target: Target) -> None:
        self._fetcher = fetcher
        self._target = target
        self._answers: dict[str, FetchResponse] = {}

    async def get(self, path: str) -> FetchResponse:
        """Return the answer to a GET, whatever its status. :raises FetchError: when there is none."""
        if path not in self._answers:
            self._answers[path] = await self._fetcher.get(self._target, path)
        return self._answers[path]

    async def ask(self, path: str) -> bytes:
        """Return the body of a good answer. :raises FetchError: when there is none."""
        return _good_body(await self.get(path))

    async def ask_about(self, lookup: FactsLookup, model: str) -> bytes:
        """Return the body of a good answer about one model. :raises FetchError: when there is none."""
        if lookup.body is None:
            return await self.ask(lookup.path)
        return _good_body(await self._fetcher.post(self._target, lookup.path, lookup.body(model)))


def _good_body(answer: FetchResponse) -> bytes:
    if not answer.is_success:
        raise FetchError(f"HTTP error: {answer.status}")
    return answer.body
