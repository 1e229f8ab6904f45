"""Checks each request and hands it to an exchange, a page or a WebSocket, or refuses it."""

from collections.abc import Callable
from typing import Final

from aiohttp.http import RawRequestMessage
from msgspec.structs import replace

from nexus.domain.routes import Page, PageRoute, SocketRoute
from nexus.errors import RequestError
from nexus.proxy.client import cors, replies
from nexus.proxy.client.access import AUTHORITY
from nexus.proxy.client.connection import ClientConnection
from nexus.proxy.client.incoming import IncomingRequest
from nexus.proxy.client.request_ids import id_lines, new_request_id
from nexus.proxy.client.request_reader import Received
from nexus.proxy.dispatch.explained_path import spoken_path
from nexus.proxy.dispatch.pages import Asked, Pages
from nexus.proxy.dispatch.refusal_log import RefusalLog
from nexus.proxy.exchange.context import DataPlane
from nexus.proxy.exchange.exchange import Exchange
from nexus.proxy.exchange.record import begin_record
from nexus.proxy.headers.from_client import Head
from nexus.wire import paths
from nexus.wire.paths import Found
from nexus.wire.protocols import ENDPOINTS, PROTOCOLS

UNREAD: Final = Head(forward=[])
"""Stands for a head that could not be read."""


class RequestHandler:
    """Handles the requests of all connections; see :data:`nexus.proxy.client.connection.Handle`."""

    def __init__(
        self,
        plane: DataPlane,
        pages: tuple[PageRoute, ...],
        sockets: tuple[SocketRoute, ...] = (),
        *,
        on_refused: Callable[[str], None],
    ) -> None:
        """Serve *pages* and *sockets*, and send everything else to backends.

        :param on_refused: called with the error code of each request that never became an exchange.
        """
        self._plane = plane
        self._refusals = RefusalLog(on_refused)
        self._pages = Pages(plane, pages, sockets)
        self.exchanges: set[Exchange] = set()
        """Those under way, which a shutdown ends."""

    def use_pages(self, pages: tuple[PageRoute, ...]) -> None:
        """Serve *pages* from now on, in place of the former ones."""
        self._pages.use(pages)

    async def serve(self, client: ClientConnection, received: Received) -> bool:
        """Write the reply to one request; return whether another may follow on the connection."""
        if client.writing_paused:
            # A client that sends requests and reads no replies must not make the proxy keep them all.
            await client.drained()
        request = self._repeated(client, received)
        return await (self._dispatch(client, received) if request is None else self._exchange(client, request))

    def refuse_malformed(self, client: ClientConnection, exc: RequestError, is_head: bool) -> bytes:
        """Return the reply to bytes that are no request, and count it; without a body where *is_head*."""
        request_id = new_request_id()
        self._refusals.note(client.remote, exc.code, request_id)
        return replies.error(PROTOCOLS["openai"], exc, request_id=request_id, is_head=is_head)

    def _repeated(self, client: ClientConnection, received: Received) -> IncomingRequest | None:
        """Return the request if head and settings are those of the last one: it reuses the checks of that."""
        last, (message, body, length) = client.last_request, received
        if (
            last is None
            or last.access is not self._plane.settings.access
            or message.path != last.message.path
            or message.method != last.message.method
            or client.heads.again(message) is not last.head
        ):
            return None
        return replace(last, message=message, body=body, length=length)

    async def _dispatch(self, client: ClientConnection, received: Received) -> bool:
        message = received.message
        # Never message.url: it was built from what the client sent.
        target = message.path if message.path.startswith("/") else AUTHORITY.sub("", message.path)
        path, mark, query = target.partition("?")
        path, found = self._find(message, path)
        # A fragment is for the client alone (RFC 3986, 3.5).
        query = query.partition("#")[0]
        asked = Asked(client, received, UNREAD, path, query, new_request_id())
        try:
            head = asked.head = client.heads.read(message)
            access = self._plane.settings.access
            if head.origin:
                head.cors_lines = access.cors_lines(head.origin)
            access.check(message, head, "client" if found is not None else self._pages.access_to(path))
            if found is not None:
                request = client.last_request = self._admit(asked, found, f"{path}{mark}")
                return await self._exchange(client, request)
            if head.cors_lines and cors.is_preflight(message, head):
                return self._permit(asked)
            if self._pages.is_socket(path):
                return await self._pages.serve_socket(asked)
            page = await self._pages.respond(asked)
        except RequestError as exc:
            return self._refuse(asked, found, exc)
        return self._show(asked, page)

    def _find(self, message: RawRequestMessage, path: str) -> tuple[str, Found | None]:
        """Return *path* in the spelling that is served, and the endpoint that the request is for.

        Access is checked for that spelling, so that no other spelling gets around the check.
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

    def _admit(self, asked: Asked, found: Found, path: str) -> IncomingRequest:
        """Return the request that was checked.

        :param path: with the ``?`` that ends it, if there is one.
        """
        if asked.client.is_surplus:
            text = "the proxy has too few file descriptors left to carry another request"
            raise RequestError("overloaded", text, retry_after_s=1, close=True)
        (message, body, length), head, access = asked.received, asked.head, self._plane.settings.access
        key_digest = access.client_of(head)
        access.own_keys.withhold(head)
        return IncomingRequest(
            message,
            body,
            length,
            head,
            access,
            endpoint=found.endpoint,
            protocol=PROTOCOLS[found.endpoint.protocol],
            target=path.encode("latin-1") + access.own_keys.without_keys(asked.query.encode("latin-1")),
            key_digest=key_digest,
            method=message.method.encode(),
            ids=found.ids,
        )

    async def _exchange(self, client: ClientConnection, request: IncomingRequest) -> bool:
        record = begin_record(new_request_id(), request.endpoint, request.head.request_id)
        exchange = Exchange(self._plane, self._plane.settings, client, request, record)
        self.exchanges.add(exchange)
        try:
            return await exchange.run()
        finally:
            self.exchanges.discard(exchange)

    def _permit(self, asked: Asked) -> bool:
        keep_alive = asked.client.may_follow(asked.message)
        ids = id_lines(asked.request_id, asked.head.request_id)
        asked.client.write(
            cors.preflight_answer(asked.message, asked.head.cors_lines, ids, close=not keep_alive),
        )
        return keep_alive

    def _show(self, asked: Asked, page: Page) -> bool:
        keep_alive = asked.client.may_follow(asked.message)
        lines = "".join(f"{name}: {value}\r\n" for name, value in page.headers.items())
        asked.client.write(
            replies.page(
                page.status,
                page.content_type.encode(),
                page.body,
                request_id=asked.request_id,
                client_request_id=asked.head.request_id,
                lines=lines.encode("latin-1") + asked.head.cors_lines,
                is_head=asked.message.method == "HEAD",
                close=not keep_alive,
            )
        )
        return keep_alive

    def _refuse(self, asked: Asked, found: Found | None, exc: RequestError) -> bool:
        client, message, client_id = asked.client, asked.message, asked.head.request_id
        self._refusals.note(client.remote, exc.code, asked.request_id, client_id)
        keep_alive = client.may_follow(message) and not exc.close
        lines = asked.head.cors_lines or self._cors_lines(message)
        client.write(
            replies.error(
                PROTOCOLS[found.endpoint.protocol if found is not None else _protocol_of(asked)],
                exc,
                request_id=asked.request_id,
                client_request_id=client_id,
                lines=lines if keep_alive or exc.close else lines + b"Connection: close\r\n",
                is_head=message.method == "HEAD",
            )
        )
        return keep_alive

    def _cors_lines(self, message: RawRequestMessage) -> bytes:
        """Return the lines that let a page read the reply to a request whose head could not be read."""
        origins = message.headers.getall("Origin", ())
        if len(origins) != 1:
            return b""
        return self._plane.settings.access.cors_lines(origins[0].encode("utf-8", "replace"))


def _protocol_of(asked: Asked) -> str:
    """Return the protocol in which an error at a path is told that no endpoint has."""
    path = spoken_path(asked.path, asked.query, is_anthropic=asked.is_anthropic)
    if path.startswith("/api/") or path == "/api":
        return "ollama"
    if path.startswith("/v1/messages") or asked.is_anthropic:
        return "anthropic"
    return "openai"
