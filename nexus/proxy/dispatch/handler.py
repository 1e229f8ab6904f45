"""Checks each request and hands it to an exchange, a page or a WebSocket, or refuses it."""

import asyncio
import os
from collections.abc import Callable, Iterator
from typing import Final

import structlog
from aiohttp.http import RawRequestMessage
from msgspec.structs import replace

from nexus.domain.routes import Access, Page, PageRoute, SocketRoute
from nexus.errors import RequestError
from nexus.proxy.client import cors, replies
from nexus.proxy.client.access import AUTHORITY
from nexus.proxy.client.connection import ClientConnection
from nexus.proxy.client.incoming import IncomingRequest
from nexus.proxy.client.request_reader import Received
from nexus.proxy.dispatch.explained_path import spoken_path
from nexus.proxy.dispatch.pages import ClientRequest, Pages
from nexus.proxy.dispatch.refusal_log import RefusalLog
from nexus.proxy.exchange.context import DataPlane
from nexus.proxy.exchange.exchange import Exchange
from nexus.proxy.exchange.record import begin_record
from nexus.proxy.headers.from_client import Head
from nexus.proxy.headers.to_client import id_lines
from nexus.wire import paths
from nexus.wire.paths import Found
from nexus.wire.protocols import ENDPOINTS, PROTOCOLS

log = structlog.get_logger("nexus.proxy")

UNREAD: Final = Head(forward=[])
"""Stands for a head that was not read, or is malformed."""
ID_BYTES: Final = 16
IDS_AT_ONCE: Final = 256
"""Request ids that are made of the random bytes of one system call."""


class RequestHandler:
    """Handles the requests of all connections; see :data:`nexus.proxy.client.server.Handle`."""

    def __init__(
        self,
        plane: DataPlane,
        pages: tuple[PageRoute, ...],
        sockets: tuple[SocketRoute, ...] = (),
        *,
        on_refused: Callable[[str], None],
    ) -> None:
        """Serve *pages* and *sockets*, and send all other requests to backends.

        :param on_refused: called with the error code of each request that never became an exchange.
        """
        self._plane = plane
        self._refusals = RefusalLog(on_refused)
        self._pages = Pages(plane, pages, sockets)

    def use_pages(self, pages: tuple[PageRoute, ...]) -> None:
        """Replace the pages."""
        self._pages.use(pages)

    async def serve(self, client: ClientConnection, received: Received) -> bool:
        """Write the reply to one request; return whether another may follow on the connection."""
        if client.writing_paused:
            # Replies must not pile up for a client that sends requests and does not read.
            try:
                await client.drained()
            except asyncio.CancelledError:
                self.note_abandoned(client, (received,))
                raise
        request = self._repeated(client, received)
        if request is None:
            return await self._dispatch(client, received)
        return await self._exchange(client, request, received).run()

    def note_abandoned(self, client: ClientConnection, abandoned: tuple[Received, ...]) -> None:
        """Log and count requests that were read, and whose client left before they could be served."""
        for received in abandoned:
            try:
                self._note_abandoned(client, received)
            except Exception:
                # A bug in Nexus must not keep the connection from ending.
                log.exception("request_crashed", remote=client.remote)

    def refuse_malformed(self, client: ClientConnection, exc: RequestError, is_head: bool) -> bytes:
        """Return the reply to a malformed request, and count it; without a body where *is_head*."""
        request_id = new_request_id()
        self._refusals.note(client.remote, exc.code, request_id)
        return replies.error(PROTOCOLS["openai"], exc, request_id=request_id, is_head=is_head)

    def _repeated(self, client: ClientConnection, received: Received) -> IncomingRequest | None:
        """Return the request if the checks of the last one hold for its head and the access rules, else None."""
        last, message = client.last_request, received.message
        if last is None or last.access is not self._plane.settings.access:
            return None
        if message is last.message:
            return last
        if message.path != last.message.path or message.method != last.message.method:
            return None
        head = client.heads.again(message, last.head, last.access.key_filter.may_pass)
        return None if head is None else replace(last, message=message, head=head)

    async def _dispatch(self, client: ClientConnection, received: Received) -> bool:
        request, found, path = self._locate(client, received)
        try:
            if found is not None:
                incoming = client.last_request = self._admit(request, found, path)
                return await self._exchange(client, incoming, received).run()
            self._check(request, self._pages.access_to(request.path))
            if request.head.cors_lines and cors.is_preflight(received.message, request.head):
                return self._permit(request)
            if self._pages.is_socket(request.path):
                return await self._pages.serve_socket(request)
            page = await self._pages.respond(request)
        except RequestError as exc:
            return self._refuse(request, found, exc)
        return self._show(request, page)

    def _locate(self, client: ClientConnection, received: Received) -> tuple[ClientRequest, Found | None, str]:
        """Return the request, the endpoint that its path leads to, and that path, with a ``?`` if there is a query."""
        message = received.message
        # Not message.url, which aiohttp builds from the unchecked target.
        target = message.path if message.path.startswith("/") else AUTHORITY.sub("", message.path)
        path, mark, query = target.partition("?")
        path, found = self._find(message, path)
        # A fragment is for the client alone (RFC 3986, 3.5).
        query = query.partition("#")[0]
        return ClientRequest(client, received, UNREAD, path, query, new_request_id()), found, f"{path}{mark}"

    def _check(self, request: ClientRequest, access: Access) -> None:
        """Read the head and check whether the request may come in.

        :raises RequestError: it may not.
        """
        message, rules = request.message, self._plane.settings.access
        head = request.head = request.client.heads.read(message)
        if head.origin:
            head.cors_lines = rules.cors_lines(head.origin)
        rules.check(message, head, access)

    def _find(self, message: RawRequestMessage, path: str) -> tuple[str, Found | None]:
        """Return *path* in the spelling of the endpoint or page, and the endpoint, if it is one.

        Access is checked for this spelling, so that no other spelling gets around the check.
        """
        if path in ENDPOINTS and message.method == "POST":
            return path, Found(ENDPOINTS[path], path)
        is_anthropic = "anthropic-version" in message.headers
        spellings = tuple(paths.spellings(path))
        for spelling in spellings:
            if found := paths.find(message.method, spelling, is_anthropic=is_anthropic):
                return found.path, found
            if self._pages.is_served(spelling) or paths.methods_at(spelling):
                return spelling, None
        return spellings[0], None

    def _admit(self, request: ClientRequest, found: Found, path: str) -> IncomingRequest:
        """Check a request to an endpoint, and return it.

        :param path: with a ``?`` at its end if there is a query.
        :raises RequestError: it is refused.
        """
        self._check(request, "client")
        if request.client.is_surplus:
            text = "the proxy has too few file descriptors left to carry another request"
            raise RequestError("overloaded", text, retry_after_s=1, close=True)
        message, head, access = request.message, request.head, self._plane.settings.access
        key_digest = access.key_digest_of(head)
        access.key_filter.withhold(head)
        return IncomingRequest(
            message,
            head,
            access,
            endpoint=found.endpoint,
            protocol=PROTOCOLS[found.endpoint.protocol],
            target=path.encode("latin-1") + access.key_filter.without_keys(request.query.encode("latin-1")),
            key_digest=key_digest,
            remote=request.client.remote,
            method=message.method.encode(),
            ids=found.ids,
        )

    def _exchange(self, client: ClientConnection, request: IncomingRequest, received: Received) -> Exchange:
        """Return an exchange that begins now."""
        record = begin_record(new_request_id(), request.endpoint, request.head.request_id)
        return Exchange(self._plane, self._plane.settings, client, request, received, record)

    def _note_abandoned(self, client: ClientConnection, received: Received) -> None:
        request = self._repeated(client, received)
        if request is None:
            asked, found, path = self._locate(client, received)
            if found is None:
                return
            try:
                request = self._admit(asked, found, path)
            except RequestError as exc:
                self._refusals.note(
                    client.remote, exc.code, asked.request_id, asked.head.request_id, asked.message.path
                )
                return
        self._exchange(client, request, received).abandon()

    def _permit(self, request: ClientRequest) -> bool:
        """Reply to a preflight."""
        keep_alive = request.client.may_follow(request.message)
        ids = id_lines(request.request_id, request.head.request_id)
        request.client.write(
            cors.preflight_reply(request.message, request.head.cors_lines, ids, close=not keep_alive),
        )
        return keep_alive

    def _show(self, request: ClientRequest, page: Page) -> bool:
        keep_alive = request.client.may_follow(request.message)
        lines = "".join(f"{name}: {value}\r\n" for name, value in page.headers.items())
        request.client.write(
            replies.page(
                page.status,
                page.content_type.encode(),
                page.body,
                request_id=request.request_id,
                client_request_id=request.head.request_id,
                lines=lines.encode("latin-1") + request.head.cors_lines,
                is_head=request.message.method == "HEAD",
                close=not keep_alive,
            )
        )
        return keep_alive

    def _refuse(self, request: ClientRequest, found: Found | None, exc: RequestError) -> bool:
        client, message, client_id = request.client, request.message, request.head.request_id
        self._refusals.note(client.remote, exc.code, request.request_id, client_id, message.path)
        keep_alive = client.may_follow(message) and not exc.close
        lines = request.head.cors_lines or self._cors_lines(message)
        client.write(
            replies.error(
                PROTOCOLS[found.endpoint.protocol if found is not None else _protocol_of(request)],
                exc,
                request_id=request.request_id,
                client_request_id=client_id,
                lines=lines if keep_alive or exc.close else lines + b"Connection: close\r\n",
                is_head=message.method == "HEAD",
            )
        )
        return keep_alive

    def _cors_lines(self, message: RawRequestMessage) -> bytes:
        """Return the lines that let a page read the reply to a request whose head is malformed."""
        origins = message.headers.getall("Origin", ())
        if len(origins) != 1:
            return b""
        return self._plane.settings.access.cors_lines(origins[0].encode("utf-8", "replace"))


def _protocol_of(request: ClientRequest) -> str:
    """Return the protocol for an error at a path that is no endpoint."""
    path = spoken_path(request.path, request.query, is_anthropic=request.is_anthropic)
    if path.startswith("/api/") or path == "/api":
        return "ollama"
    if path.startswith("/v1/messages") or request.is_anthropic:
        return "anthropic"
    return "openai"


def _ids() -> Iterator[str]:
    digits = 2 * ID_BYTES
    while True:
        random = os.urandom(IDS_AT_ONCE * ID_BYTES).hex()
        for start in range(0, len(random), digits):
            yield f"req-{random[start : start + digits]}"


new_request_id: Final = _ids().__next__
"""Returns a unique id that cannot be guessed from others."""
