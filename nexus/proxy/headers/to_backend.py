"""Makes the head of a request to a backend."""

from typing import Final

import msgspec

from nexus.dialing.upstream_settings import PathMap, UpstreamSettings
from nexus.domain.kinds import BackendKind
from nexus.observability.tracing import trace as tracing
from nexus.proxy.headers.from_client import Head

MAX_PREPARED: Final = 8
"""Backends for which a client's head keeps the lines that were made of it."""


class HeadTemplate(msgspec.Struct, frozen=True):
    """The parts of a head that are the same in every request to one backend."""

    host_line: bytes
    configured_lines: bytes
    """The backend's key, and the headers in its configuration."""
    replaces_credentials: bool
    """Whether these hold credentials, so that the client's own are not sent."""
    path: PathMap
    dropped: frozenset[bytes]
    """Headers of a client that are not sent: the backend's kind forbids them, or the configuration sets them."""


def head_template(kind: BackendKind, url: str, authority: str, settings: UpstreamSettings) -> HeadTemplate:
    """Prepare the heads of all requests to the backend at *url*."""
    configured = settings.headers_for(kind)
    return HeadTemplate(
        host_line=f"Host: {authority}\r\n".encode(),
        configured_lines="".join(f"{name}: {value}\r\n" for name, value in configured.items()).encode(),
        replaces_credentials=settings.replaces_credentials,
        path=settings.path_of(url),
        dropped=frozenset(name.lower().replace("_", "-").encode() for name in (*kind.dropped_headers, *configured)),
    )


def request_head(  # noqa: PLR0913 - the parts of one head
    template: HeadTemplate,
    head: Head,
    target: bytes,
    *,
    method: bytes = b"POST",
    body_length: int,
    request_id: str,
    may_pass_credentials: bool,
    trace_lines: bytes | None = None,
) -> bytes:
    """Make the head of a request to a backend from the client's *head* and the backend's template.

    :param target: path and query, both as the backend expects them.
    :param may_pass_credentials: whether the client's own key may go to a backend for which none is configured.
    :param trace_lines: replace the trace headers of the client; None: those are sent on.
    """
    may_reuse = trace_lines is None and method == b"POST"
    prepared = head.prepared.get(id(template)) if may_reuse else None
    if (
        prepared is not None
        and prepared[0] is template
        and prepared[1] == target
        and prepared[2] is may_pass_credentials
    ):
        lines = prepared[3]
    else:
        lines = _stable_lines(template, head, method, target, trace_lines, may_pass_credentials=may_pass_credentials)
        if may_reuse:
            if len(head.prepared) >= MAX_PREPARED:
                head.prepared.clear()
            head.prepared[id(template)] = template, target, may_pass_credentials, lines
    return b"%bX-Request-Id: %b\r\nX-Nexus-Hops: %d\r\n%b\r\n" % (
        lines,
        request_id.encode(),
        head.hops + 1,
        b"Content-Length: %d\r\n" % body_length if body_length or method == b"POST" else b"",
    )


def _stable_lines(  # noqa: PLR0913 - the parts of one head
    template: HeadTemplate,
    head: Head,
    method: bytes,
    target: bytes,
    trace_lines: bytes | None,
    *,
    may_pass_credentials: bool,
) -> bytes:
    """Make the part of a head that is the same in all requests to one backend with the client's *head*."""
    path = template.path.of(target.decode("latin-1")).encode("latin-1")
    lines = [b"%b %b HTTP/1.1\r\n" % (method, path), template.host_line, template.configured_lines]
    dropped = template.dropped
    if trace_lines is not None:
        dropped = dropped | tracing.HEADERS
        lines.append(trace_lines)
    if dropped:
        # Some servers read an underscore in a name as a hyphen.
        lines += [line for name, line in head.forward if name.replace(b"_", b"-") not in dropped]
    else:
        lines += [line for _, line in head.forward]
    if may_pass_credentials and not template.replaces_credentials:
        lines += [line for name, line in head.credentials if name not in dropped]
    return b"".join(lines)
