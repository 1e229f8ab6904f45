"""Probes a backend: its health, its models, and the facts about them."""

import asyncio
import math
from collections.abc import Mapping
from http import HTTPStatus
from time import monotonic
from typing import Final

from nexus.domain.kinds import BackendKind, ServerFacts, ServerLookup
from nexus.domain.model import ModelFacts
from nexus.fleet.fetching import Fetcher, FetchError, FetchRefused, FetchResponse, FetchShortage, FetchTimeout
from nexus.fleet.kinds import UNDETECTED
from nexus.fleet.membership.member import Member
from nexus.fleet.models.guesses import with_guesses
from nexus.fleet.models.overrides import with_overrides
from nexus.fleet.probing.completion import Completion
from nexus.fleet.probing.detection import Detection, detect
from nexus.fleet.probing.result import Cause, Failure, ProbeResult, Success, SuccessWithParseError
from nexus.fleet.probing.session import ProbeSession, http_error
from nexus.fleet.untrusted import accepted_models, with_plain_aliases

ASK_AGAIN_S: Final = 3600.0
"""After a lookup that is sent once has found nothing."""


class BackendProbe:
    """Probes one backend repeatedly; detects its kind first if it is not configured."""

    def __init__(self, member: Member, fetcher: Fetcher, kinds: Mapping[str, BackendKind]) -> None:
        self._member = member
        self._fetcher = fetcher
        self._kinds = kinds
        self._kind = member.kind
        self._found_once: dict[str, tuple[float, ServerFacts]] = {}
        """By path, when lookups that are sent once were sent, and what they found; empty again when the server was
        away."""
        self._completion = Completion(member.config.name, timeout_s=fetcher.timeout_s)

    async def run(self) -> ProbeResult:
        """Probe once; no behaviour of the backend makes this raise."""
        try:
            kind = self._kind = self._kind or await self._detect_known()
            if self._member.is_announced and (failure := await self._check_replaced(kind)) is not None:
                return failure
            return await self._probe(kind, ProbeSession(self._fetcher, self._member.target(kind)))
        except FetchRefused as exc:
            self._found_once.clear()
            return Failure(str(exc), Cause.REFUSED)
        except FetchTimeout as exc:
            return Failure(str(exc), Cause.TIMEOUT)
        except FetchShortage as exc:
            return Failure(str(exc), Cause.SHORTAGE)
        except FetchError as exc:
            return Failure(str(exc))

    async def _check_replaced(self, kind: BackendKind) -> Failure | None:
        """Return a failure if the server is of another kind than *kind*; None also if its kind is not recognised."""
        found = await self._detect()
        other = "nexus" if found.is_nexus else found.kind
        if other is None or other == kind.name:
            return None
        text = f"another server has taken its place: its kind is '{other}', not '{kind.name}'"
        return Failure(text, Cause.REPLACED if found.is_certain else Cause.PERHAPS_REPLACED)

    async def _detect(self) -> Detection:
        timeout_s = self._fetcher.timeout_s
        try:
            async with asyncio.timeout(timeout_s):
                return await detect(self._fetcher, self._member.target(UNDETECTED))
        except TimeoutError:
            raise FetchTimeout(f"request timeout after {math.ceil(timeout_s)}s") from None

    async def _detect_known(self) -> BackendKind:
        found = await self._detect()
        if found.kind is None or found.kind not in self._kinds:
            raise FetchError(_why_unknown(found))
        return self._kinds[found.kind]

    async def _probe(self, kind: BackendKind, session: ProbeSession) -> ProbeResult:
        clock = asyncio.get_running_loop().time
        began = clock()
        health = await session.get(kind.health_path)
        latency_ms = int((clock() - began) * 1000)
        if not health.is_success:
            if health.status == HTTPStatus.NOT_FOUND:
                # It may be another kind of server now: unless the kind is configured, detect it again next time.
                self._kind = self._member.kind
            if _is_loading(health):
                return Failure(f"loading: HTTP {health.status}, the server is loading its model", Cause.LOADING, kind)
            return Failure(_error_at(kind.health_path, health), kind=self._kind)
        try:
            models = await self._models(kind, session)
        except FetchError as exc:
            return SuccessWithParseError(kind=kind, latency_ms=latency_ms, error=str(exc))
        except ValueError as exc:
            return SuccessWithParseError(kind=kind, latency_ms=latency_ms, error=f"invalid response: {exc}")
        return Success(kind=kind, latency_ms=latency_ms, models=models, server=await self._server_facts(kind, session))

    async def _models(self, kind: BackendKind, session: ProbeSession) -> Mapping[str, ModelFacts]:
        """List the models; the configuration wins over the server, and both over guesses from a name."""
        listed = kind.listing.decode(await session.body(kind.listing.path))
        accepted = accepted_models(listed, backend=self._member.config.name)
        completed = await self._completion.complete(kind.lookups, tuple(accepted.values()), session)
        guessed = map(with_guesses, map(with_plain_aliases, completed))
        return {facts.name: facts for facts in with_overrides(guessed, self._member.config.models, kind)}

    async def _server_facts(self, kind: BackendKind, session: ProbeSession) -> ServerFacts:
        facts = ServerFacts()
        for lookup in kind.server_lookups:
            found = await (self._fact_once(lookup, session) if lookup.is_once else _server_fact(lookup, session))
            facts = found.completed_by(facts)
        return facts

    async def _fact_once(self, lookup: ServerLookup, session: ProbeSession) -> ServerFacts:
        now = monotonic()
        asked_at, found = self._found_once.get(lookup.path, (-math.inf, ServerFacts()))
        if found == ServerFacts() and now - asked_at >= ASK_AGAIN_S:
            found = await _server_fact(lookup, session)
            self._found_once[lookup.path] = now, found
        return found


async def _server_fact(lookup: ServerLookup, session: ProbeSession) -> ServerFacts:
    try:
        return lookup.decode(await session.body(lookup.path))
    except (FetchError, ValueError):
        # The server is healthy all the same, and unknown facts have defaults.
        return ServerFacts()


def _error_at(path: str, health: FetchResponse) -> str:
    hint = "; check 'url' and 'type'" if health.status == HTTPStatus.NOT_FOUND else ""
    return f"{http_error(path, health)}{hint}"


def _is_loading(health: FetchResponse) -> bool:
    # The error message of llama.cpp is "Loading model".
    return health.status == HTTPStatus.SERVICE_UNAVAILABLE and b"loading" in health.body[:MAX_SEARCHED_BYTES].lower()


MAX_SEARCHED_BYTES: Final = 4096


def _why_unknown(found: Detection) -> str:
    if (
        found.status in (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN)
        or found.status >= HTTPStatus.INTERNAL_SERVER_ERROR
    ):
        return f"HTTP error: {found.status}"
    return "invalid response: not from a known kind of server; set 'type'"
