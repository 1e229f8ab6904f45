"""Asks a running proxy, which knows the present state of its fleet, how it would route a request."""

import http.client
from collections.abc import Mapping
from urllib.parse import quote

import msgspec

from nexus.cli.running_proxy.proxy import Proxy
from nexus.domain.request import Endpoint
from nexus.errors import NexusError
from nexus.routing.explain.model import Explanation


class CannotExplain(NexusError):
    """The proxy is of another release, or cannot explain for another reason."""


class Question(msgspec.Struct, frozen=True, kw_only=True):
    """A request to explain."""

    endpoint: Endpoint
    content_type: bytes
    body: bytes
    hints: Mapping[str, str]


def ask(proxy: Proxy, question: Question) -> Explanation:
    """Return the explanation of *proxy*.

    :raises NoProxy: nothing answers.
    :raises KeyRefused: it requires another key.
    :raises CannotExplain: it does not have this page, or its answer is invalid.
    :raises NexusError: it refuses the request.
    """
    version = proxy.version()
    path = f"/v1/route/explain?endpoint={quote(question.endpoint.path)}"
    headers = {"Content-Type": question.content_type.decode("latin-1"), **question.hints}
    answer = proxy.ask("POST", path, headers, question.body)
    if answer.status == http.client.OK:
        return _explanation(proxy.url, version, answer.body)
    code, message = answer.error
    if code in ("method_not_allowed", "not_found"):
        raise CannotExplain(f"the proxy at {proxy.url} is Nexus {version}, which cannot explain")
    raise NexusError(f"the proxy at {proxy.url} refuses such a request: {answer.status} {code}: {message}")


def _explanation(url: str, version: str, body: bytes) -> Explanation:
    try:
        return msgspec.json.decode(body, type=Explanation)
    except msgspec.DecodeError as exc:
        raise CannotExplain(f"the proxy at {url} is Nexus {version}, whose answer this one cannot read") from exc
