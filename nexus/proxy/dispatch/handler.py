"""The front desk: every request is checked at the door, then carried to a backend, answered by us, or refused."""

import inspect
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

import structlog
from aiohttp.http import RawRequestMessage

from nexus.domain.routes import Access, Page, PageRequest, PageRoute, SocketRoute
from nexus.errors import RequestError
from nexus.proxy.client import cors, replies
from nexus.proxy.client.access import AUTHORITY
from nexus.proxy.client.body import receive
from nexus.proxy.client.connection import ClientConnection
from nexus.proxy.client.incoming import Admission
from nexus.proxy.client.known_head import Payload
from nexus.proxy.client.request_ids import id_lines, new_request_id
from nexus.proxy.dispatch import websocket
from nexus.proxy.dispatch.explained_path import spoken_path
from nexus.proxy.dispatch.refusal_log import RefusalLog
from nexus.proxy.exchange.context import DataPlane
from nexus.proxy.exchange.exchange import Exchange
from nexus.proxy.exchange.record import begin_record
from nexus.proxy.headers.from_client import Head
from nexus.wire import paths
from nexus.wire.paths import Found
from nexus.wire.protocol import WireProtocol
from nexus.wire.protocols import ENDPOINTS, PROTOCOLS

log = structlog.get_logger("nexus.proxy")

MAX_PAGE_BODY: Final = 64 * 1024

SERVER_PATH: Final = "*"
"""What a request asks for that asks for the server as a whole (RFC 9110, 9.3.7)."""

Ids = tuple[str, str]
"""Of a request: the one that Nexus gave it, and the one that the client sent, or an empty text."""


class FrontDesk:
    """Answers every request; see :class:`nexus.proxy.client.connection.Desk`."""

    def __init__(
        self,
        plane: DataPlane,
        pages: tuple[PageRoute, ...],
        sockets: tuple[SocketRoute, ...] = (),
        *,
        on_refused: Callable[[str], None],
    ) -> None:
        """Serve *pages* and *sockets*, and carry everything else.

        :param on_refused: told the error code of each request that never became an exchange.
        """
        self._plane = plane
        self._refusals = RefusalLog(on_refused)
        self.exchanges: set[Exchange] = set()
        """Those under way, for the end of the process."""
        self._sockets = {socket.path: socket for socket in sockets}
        self.use_pages(pages)

    def use_pages(self, pages: tuple[PageRoute, ...]) -> None:
        """Answer *pages* from now on."""
        self._exact = {page.path: page for page in pages if page.path == "/" or not page.path.endswith("/")}
        self._exact[SERVER_PATH] = _SERVER_PAGE
        self._below = [page for page in pages if page.path != "/" and page.path.endswith("/")]

    async def __call__(self, client: ClientConnection, message: RawRequestMessage, payload: Payload) -> bool:
        if client.writing_paused:
            # Who sends requests and takes no answers would have us keep them all.
            await client.drained()
        known = client.admission
        if isinstance(known, Admission) and known.message is message and known.settings is self._plane.settings:
            # What was let in a moment ago is let in again.
            known.head.content_length = client.body_length
            return await self._carry(known, client, payload)
        # Never message.url: it was built from what the client sent.
        target = message.path if message.path.startswith("/") else AUTHORITY.sub("", message.path)
        path, mark, query = target.partition("?")
        path, found = self._find(message, path)
        # A fragment is for the client alone (RFC 3986, 3.5).
        query = query.partition("#")[0]
        request_id, clients_id, cors_lines = new_request_id(), "", b""
        try:
            head = client.heads.read(message)
            if client.body_length is not None:
                head.content_length = client.body_length
            clients_id = head.request_id
            settings = self._plane.settings
            if head.origin:
                head.cors_lines = cors_lines = settings.door.cors_lines(head.origin)
            settings.door.check(message, head, "client" if found is not None else self._access_to(path))
            if found is not None:
                _refuse_surplus(client)
                known = client.admission = self._admit(message, head, found, f"{path}{mark}", query)
                return await self._carry(known, client, payload)
            if cors_lines and cors.is_preflight(message, head):
                return self._permit(client, head, request_id, message)
            if path in self._sockets:
                return await self._open_socket(self._sockets[path], client, message, head, request_id, query)
            page = await self._page(client, message, payload, head, path, query, request_id)
        except RequestError as exc:
            name = found.endpoint.protocol if found is not None else _protocol_name(path, query, message)
            protocol = PROTOCOLS[name]
            cors_lines = cors_lines or self._cors_lines(message)
            return self._refuse(client, protocol, exc, (request_id, clients_id), message, cors_lines)
        return self._show(client, page, (request_id, clients_id), message, cors_lines)

    def malformed(self, client: ClientConnection, exc: RequestError, *, is_head: bool) -> bytes:
        """Return the answer to bytes that are no request, and note it."""
        request_id = new_request_id()
        self._refusals.note(client.remote, exc.code, request_id)
        return replies.error(PROTOCOLS["openai"], exc, request_id=request_id, is_head=is_head)

    def _admit(self, message: RawRequestMessage, head: Head, found: Found, path: str, query: str) -> Admission:
        """Return what holds for this request and all with the same head.

        :param path: with the ``?`` that ends it, if there is one.
        """
        settings = self._plane.settings
        door = settings.door
        key_digest = door.client_of(head)
        door.own_keys.withhold(head)
        target = path.encode("latin-1") + door.own_keys.without_keys(query.encode("latin-1"))
        endpoint, protocol = found.endpoint, PROTOCOLS[found.endpoint.protocol]
        method = message.method.encode()
        return Admission(message, settings, head, endpoint, protocol, target, key_digest, method, found.ids)

    async def _carry(self, admission: Admission, client: ClientConnection, payload: Payload) -> bool:
        record = begin_record(new_request_id(), admission.endpoint, admission.head.request_id)
        exchange = Exchange(self._plane, client, payload, admission, record)
        self.exchanges.add(exchange)
        try:
            return await exchange.run()
        finally:
            self.exchanges.discard(exchange)

    async def _page(  # noqa: PLR0913 - what one request is
        self,
        client: ClientConnection,
        message: RawRequestMessage,
        payload: Payload,
        head: Head,
        path: str,
        query: str,
        request_id: str,
    ) -> Page:
        route = self._route_at(path)
        if route is None:
            if methods := paths.methods_at(path):
                raise _wrong_method(", ".join(sorted(methods)))
            raise RequestError("not_found", "there is nothing at this path; the reference of endpoints lists what is")
        if message.method not in (allowed := route.methods_at(path)):
            raise _wrong_method(", ".join(sorted(allowed)))
        with self._counted(route, head) as longest_bytes:
            body = await receive(
                payload,
                head,
                client,
                limit=longest_bytes,
                deadline_s=self._plane.settings.config.timeouts.body_seconds,
            )
            door = self._plane.settings.door
            asked = PageRequest(
                method=message.method,
                path=path,
                query=query,
                accept=head.accept.decode("latin-1"),
                body=body,
                content_type=head.content_type,
                origin=head.origin,
                fetch_site=head.fetch_site,
                hints=head.hints,
                request_id=request_id,
                is_anthropic=_is_anthropic(message),
                is_known=self._knows(head),
                is_admin=door.knows(head, "admin"),
                is_still_admin=self._still_knows(head, "admin"),
                sees_all=door.sees_all(head),
                key_digest=door.client_of(head),
                client_request_id=head.request_id,
            )
            page = route.respond(asked)
            return await page if inspect.isawaitable(page) else page

    @contextmanager
    def _counted(self, route: PageRoute, head: Head) -> Iterator[int]:
        """Give how long the body may be; that of a request to a model counts as one of those while it is looked at."""
        if not route.takes_requests:
            yield MAX_PAGE_BODY
            return
        plane, settings = self._plane, self._plane.settings
        plane.in_flight += 1
        try:
            if plane.in_flight > settings.config.server.max_concurrent_requests:
                raise RequestError("overloaded", "too many requests are under way", retry_after_s=1, close=True)
            settings.door.check_size(head)
            yield settings.config.server.max_body_bytes
        finally:
            plane.in_flight -= 1

    async def _open_socket(  # noqa: PLR0913 - what one request is
        self,
        route: SocketRoute,
        client: ClientConnection,
        message: RawRequestMessage,
        head: Head,
        request_id: str,
        query: str,
    ) -> bool:
        if message.method != "GET":
            raise _wrong_method("GET")
        accepted = websocket.accept(message.headers)
        serve = route.admit(
            PageRequest(method=message.method, path=route.path, query=query, is_known=self._knows(head))
        )
        client.write(b"%b%b\r\n" % (accepted, id_lines(request_id, head.request_id)))
        socket = websocket.Socket(client)
        client.hand_over(socket.receive)
        try:
            await serve(socket)
        finally:
            socket.close()
        return False

    def _find(self, message: RawRequestMessage, path: str) -> tuple[str, Found | None]:
        """Return *path* in the spelling under which something is there, and the endpoint that the request is for.

        What a path needs, such as whose key, is asked of that spelling, so no other one gets around it.
        """
        if path in ENDPOINTS and message.method == "POST":
            return path, Found(ENDPOINTS[path], path)
        is_anthropic = _is_anthropic(message)
        spellings = tuple(paths.spellings(path))
        for spelling in spellings:
            if found := paths.find(message.method, spelling, is_anthropic=is_anthropic):
                return found.path, found
            if spelling in self._sockets or self._route_at(spelling) is not None or paths.methods_at(spelling):
                return spelling, None
        return spellings[0], None

    def _route_at(self, path: str) -> PageRoute | None:
        """Return the page at *path*, which has no slash at its end."""
        return self._exact.get(path) or next((p for p in self._below if path.startswith(p.path)), None)

    def _access_to(self, path: str) -> Access:
        if path in self._sockets:
            return "open"
        route = self._route_at(path)
        return "client" if route is None else route.access

    def _still_knows(self, head: Head, access: Access) -> Callable[[], bool]:
        # Only the key is kept, and whichever door is in force is asked.
        shown = Head(authorization=head.authorization, api_key=head.api_key, forward=[])
        return lambda: self._plane.settings.door.knows(shown, access)

    def _knows(self, head: Head) -> bool:
        return self._plane.settings.door.knows(head)

    def _permit(self, client: ClientConnection, head: Head, request_id: str, message: RawRequestMessage) -> bool:
        keep_alive = client.may_follow(message)
        ids = id_lines(request_id, head.request_id)
        client.write(cors.preflight_answer(message, head.cors_lines, ids, close=not keep_alive))
        return keep_alive

    def _show(
        self, client: ClientConnection, page: Page, ids: Ids, message: RawRequestMessage, cors_lines: bytes
    ) -> bool:
        keep_alive = client.may_follow(message)
        lines = "".join(f"{name}: {value}\r\n" for name, value in page.headers.items())
        client.write(
            replies.page(
                page.status,
                page.content_type.encode(),
                page.body,
                request_id=ids[0],
                client_request_id=ids[1],
                lines=lines.encode("latin-1") + cors_lines,
                is_head=message.method == "HEAD",
                close=not keep_alive,
            )
        )
        return keep_alive

    def _refuse(  # noqa: PLR0913 - what one refusal is
        self,
        client: ClientConnection,
        protocol: WireProtocol,
        exc: RequestError,
        ids: Ids,
        message: RawRequestMessage,
        cors_lines: bytes,
    ) -> bool:
        request_id, clients_id = ids
        self._refusals.note(client.remote, exc.code, request_id, clients_id)
        keep_alive = client.may_follow(message) and not exc.close
        lines = cors_lines if keep_alive or exc.close else cors_lines + b"Connection: close\r\n"
        is_head = message.method == "HEAD"
        client.write(
            replies.error(
                protocol, exc, request_id=request_id, client_request_id=clients_id, lines=lines, is_head=is_head
            )
        )
        return keep_alive

    def _cors_lines(self, message: RawRequestMessage) -> bytes:
        """Return what lets a page read the answer to a request whose head could not be read."""
        origins = message.headers.getall("Origin", ())
        return self._plane.settings.door.cors_lines(origins[0].encode("utf-8", "replace")) if len(origins) == 1 else b""


_SERVER_PAGE: Final = PageRoute(
    path=SERVER_PATH,
    methods=frozenset({"OPTIONS"}),
    respond=lambda _: Page(200, "text/plain", b"", {"Allow": "DELETE, GET, HEAD, OPTIONS, POST"}),
    access="open",
)


def _refuse_surplus(client: ClientConnection) -> None:
    if client.is_surplus:
        text = "the proxy has too few file descriptors left to carry another request"
        raise RequestError("overloaded", text, retry_after_s=1, close=True)


def _wrong_method(allowed: str) -> RequestError:
    return RequestError("method_not_allowed", f"this path takes {allowed}", headers={"Allow": allowed})


def _protocol_name(path: str, query: str, message: RawRequestMessage) -> str:
    """Say in whose shape an error at *path* is to be."""
    path = spoken_path(path, query, is_anthropic=_is_anthropic(message))
    if path.startswith("/api/") or path == "/api":
        return "ollama"
    if path.startswith("/v1/messages") or _is_anthropic(message):
        return "anthropic"
    return "openai"


def _is_anthropic(message: RawRequestMessage) -> bool:
    return "anthropic-version" in message.headers
