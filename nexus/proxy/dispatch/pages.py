"""Serves the pages and WebSockets of Nexus itself."""

import inspect
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

import msgspec
from aiohttp.http import RawRequestMessage

from nexus.domain.routes import Access, Page, PageRequest, PageRoute, SocketRoute
from nexus.errors import RequestError
from nexus.proxy.client.access import AccessRules
from nexus.proxy.client.body import receive
from nexus.proxy.client.connection import ClientConnection
from nexus.proxy.client.request_reader import Received
from nexus.proxy.dispatch import websocket
from nexus.proxy.exchange.context import DataPlane
from nexus.proxy.headers.from_client import Head
from nexus.proxy.headers.to_client import id_lines
from nexus.wire import paths

MAX_PAGE_BODY: Final = 64 * 1024
"""Bytes of the body of a request for a page, whatever the operator allows for requests to models."""
SERVER_PATH: Final = "*"
"""The target of a request about the server as a whole (RFC 9110, 9.3.7)."""
SERVER_PAGE: Final = PageRoute(
    path=SERVER_PATH,
    methods=frozenset({"OPTIONS"}),
    respond=lambda _: Page(200, "text/plain", b"", {"Allow": "DELETE, GET, HEAD, OPTIONS, POST"}),
    access="open",
)


class ClientRequest(msgspec.Struct, eq=False):
    """One request that is being dispatched."""

    client: ClientConnection
    received: Received
    head: Head
    """A stand-in until it is read."""
    path: str
    """In the spelling of the endpoint or page."""
    query: str
    request_id: str

    @property
    def message(self) -> RawRequestMessage:
        return self.received.message

    @property
    def is_anthropic(self) -> bool:
        return "anthropic-version" in self.message.headers


class Pages:
    """The pages and sockets that are served, by their paths."""

    def __init__(self, plane: DataPlane, pages: tuple[PageRoute, ...], sockets: tuple[SocketRoute, ...]) -> None:
        self._plane = plane
        self._sockets = {socket.path: socket for socket in sockets}
        self.use(pages)

    def use(self, pages: tuple[PageRoute, ...]) -> None:
        """Replace the pages."""
        self._exact = {page.path: page for page in pages if page.path == "/" or not page.path.endswith("/")}
        self._exact[SERVER_PATH] = SERVER_PAGE
        self._below = [page for page in pages if page.path != "/" and page.path.endswith("/")]

    def is_served(self, path: str) -> bool:
        return path in self._sockets or self._route_at(path) is not None

    def is_socket(self, path: str) -> bool:
        return path in self._sockets

    def access_to(self, path: str) -> Access:
        """Return which keys give access to *path*."""
        if path in self._sockets:
            return "open"
        route = self._route_at(path)
        return "client" if route is None else route.access

    async def respond(self, request: ClientRequest) -> Page:
        """Return the requested page.

        :raises RequestError: there is no such page, or it does not accept the method or the body.
        """
        route, path, method = self._route_at(request.path), request.path, request.message.method
        if route is None:
            if methods := paths.methods_at(path):
                raise _wrong_method(", ".join(sorted(methods)))
            raise RequestError("not_found", "no endpoint has this path; GET /openapi.json lists all paths")
        if method not in (allowed := route.methods_at(path)):
            raise _wrong_method(", ".join(sorted(allowed)))
        with self._counted(route) as (max_bytes, limit_key):
            body = await receive(
                request.received.body,
                request.head,
                request.received.length,
                write=request.client.write,
                limit=max_bytes,
                limit_key=limit_key,
                deadline_s=self._plane.settings.config.timeouts.body_seconds,
            )
            page = route.respond(self._page_request(request, body))
            return await page if inspect.isawaitable(page) else page

    def _page_request(self, request: ClientRequest, body: bytes) -> PageRequest:
        head, access = request.head, self._plane.settings.access
        return PageRequest(
            method=request.message.method,
            path=request.path,
            query=request.query,
            accept=head.accept.decode("latin-1"),
            body=body,
            content_type=head.content_type,
            origin=head.origin,
            fetch_site=head.fetch_site,
            hints=head.hints,
            request_id=request.request_id,
            is_anthropic=request.is_anthropic,
            is_known=access.has_key(head),
            is_admin=access.has_key(head, "admin"),
            # Not the whole head, as the check may outlive the request.
            is_still_admin=AdminCheck(lambda: self._plane.settings.access, head.authorization, head.api_key),
            sees_all=access.sees_all(head),
            key_digest=access.key_digest_of(head),
            client_request_id=head.request_id,
        )

    @contextmanager
    def _counted(self, route: PageRoute) -> Iterator[tuple[int, str]]:
        """Yield the maximum size of the body and the key that sets it, if one does.

        A page that takes requests for models counts as one of them.
        """
        if not route.takes_requests:
            yield MAX_PAGE_BODY, ""
            return
        plane, server = self._plane, self._plane.settings.config.server
        plane.in_flight += 1
        try:
            if plane.in_flight > server.max_concurrent_requests:
                raise RequestError("overloaded", "too many requests are under way", retry_after_s=1, close=True)
            yield server.max_body_bytes, "server.max_body_bytes"
        finally:
            plane.in_flight -= 1

    async def serve_socket(self, request: ClientRequest) -> bool:
        """Open a WebSocket and serve it to its end; return False, as no request can follow on the connection."""
        route, client, head = self._sockets[request.path], request.client, request.head
        if request.message.method != "GET":
            raise _wrong_method("GET")
        accepted = websocket.accept(request.message.headers)
        is_known = self._plane.settings.access.has_key(head)
        serve = route.admit(PageRequest(method="GET", path=route.path, query=request.query, is_known=is_known))
        client.write(b"%b%b\r\n" % (accepted, id_lines(request.request_id, head.request_id)))
        socket = websocket.Socket(client)
        client.hand_over(socket.receive)
        try:
            await serve(socket)
        finally:
            socket.close()
        return False

    def _route_at(self, path: str) -> PageRoute | None:
        """Return the page at *path*, which has no slash at its end."""
        return self._exact.get(path) or next((p for p in self._below if path.startswith(p.path)), None)


class AdminCheck:
    """Returns whether a request's key is an administrator's under the rules in force when this is called.

    :param rules: returns the rules in force.
    """

    __slots__ = ("_rules", "api_key", "authorization")

    def __init__(self, rules: Callable[[], AccessRules], authorization: bytes, api_key: bytes) -> None:
        self._rules = rules
        self.authorization = authorization
        self.api_key = api_key

    def __call__(self) -> bool:
        keys = Head(authorization=self.authorization, api_key=self.api_key, forward=[])
        return self._rules().has_key(keys, "admin")


def _wrong_method(allowed: str) -> RequestError:
    return RequestError("method_not_allowed", f"this path takes {allowed}", headers={"Allow": allowed})
