"""Which headers do not pass, and why: one table for each direction.

All other headers pass unchanged. The reference of headers in the documentation is generated from these tables.
"""

from collections.abc import Mapping
from typing import Final

_HOP: Final = "belongs to one connection (RFC 9110, 7.6.1)"
_FRAMING: Final = "Nexus frames each message itself"
_CREDENTIAL: Final = (
    "a credential: goes only to a backend without an ``api_key`` of its own, on the first attempt, while "
    "``server.api_keys`` is empty, and never with a key of Nexus in it"
)
_ORIGIN: Final = "names the web page that sends the request; Nexus checks it, and some backends refuse unknown pages"
_ROUTE: Final = "a client's statement about the route of its request cannot be trusted"

CREDENTIALS: Final = frozenset({b"authorization", b"x-api-key", b"api-key", b"x-goog-api-key"})
"""Request headers, lower case, in which clients of one API or another send their key."""

NOT_FOR_BACKENDS: Final[Mapping[bytes, str]] = {
    b"connection": _HOP,
    b"keep-alive": _HOP,
    b"proxy-authenticate": _HOP,
    b"proxy-authorization": _HOP,
    b"proxy-connection": _HOP,
    b"te": _HOP,
    b"trailer": _HOP,
    b"transfer-encoding": _HOP,
    b"upgrade": _HOP,
    **dict.fromkeys(sorted(CREDENTIALS), _CREDENTIAL),
    b"accept-encoding": "Nexus reads events and usage in the response, which must not be compressed",
    b"content-encoding": "Nexus has decoded the body",
    b"content-length": _FRAMING,
    b"cookie": "belongs to the web origin that Nexus is served from",
    b"expect": "Nexus answers it",
    b"forwarded": _ROUTE,
    b"host": "the backend gets its own",
    b"origin": _ORIGIN,
    b"referer": _ORIGIN,
    b"x-real-ip": _ROUTE,
    b"x-request-id": "the backend gets another id when the client's is invalid, and on each further attempt",
}
"""Request headers, lower case, that are not sent on unchanged."""

NOT_FOR_BACKENDS_PREFIXES: Final[Mapping[bytes, str]] = {
    b"x-forwarded-": _ROUTE,
    b"x-nexus-": "is for Nexus and its stages",
}

_COMMAND: Final = "instructs the browser, which would apply it to the web origin of the dashboard"
_CORS: Final = "``server.allowed_origins`` decides which pages may read a reply"
_SERVER: Final = "describes the backend's server"
_LOGIN: Final = "asks for a login that the client cannot give to this backend"
_FRONT: Final = "instructs the web server in front of Nexus"

NOT_FOR_CLIENTS: Final[Mapping[bytes, str]] = {
    b"connection": _HOP,
    b"keep-alive": _HOP,
    b"proxy-connection": _HOP,
    b"te": _HOP,
    b"trailer": _HOP,
    b"transfer-encoding": _HOP,
    b"upgrade": _HOP,
    b"content-length": _FRAMING,
    b"authentication-info": _LOGIN,
    b"proxy-authenticate": _LOGIN,
    b"proxy-authentication-info": _LOGIN,
    b"www-authenticate": _LOGIN,
    b"server": _SERVER,
    b"x-powered-by": _SERVER,
    b"accept-ch": _COMMAND,
    b"activate-storage-access": _COMMAND,
    b"alt-svc": _COMMAND,
    b"clear-site-data": _COMMAND,
    b"critical-ch": _COMMAND,
    b"delegate-ch": _COMMAND,
    b"expect-ct": _COMMAND,
    b"feature-policy": _COMMAND,
    b"integrity-policy": _COMMAND,
    b"integrity-policy-report-only": _COMMAND,
    b"link": _COMMAND,
    b"nel": _COMMAND,
    b"observe-browsing-topics": _COMMAND,
    b"origin-agent-cluster": _COMMAND,
    b"permissions-policy": _COMMAND,
    b"permissions-policy-report-only": _COMMAND,
    b"public-key-pins": _COMMAND,
    b"public-key-pins-report-only": _COMMAND,
    b"referrer-policy": _COMMAND,
    b"refresh": _COMMAND,
    b"report-to": _COMMAND,
    b"reporting-endpoints": _COMMAND,
    b"require-document-policy": _COMMAND,
    b"service-worker-allowed": _COMMAND,
    b"set-cookie": _COMMAND,
    b"set-cookie2": _COMMAND,
    b"set-login": _COMMAND,
    b"sourcemap": _COMMAND,
    b"speculation-rules": _COMMAND,
    b"strict-transport-security": _COMMAND,
    b"supports-loading-mode": _COMMAND,
    b"timing-allow-origin": _CORS,
    b"use-as-dictionary": _COMMAND,
    b"x-dns-prefetch-control": _COMMAND,
    b"x-frame-options": _COMMAND,
    b"x-permitted-cross-domain-policies": _COMMAND,
    b"x-sourcemap": _COMMAND,
    b"x-xss-protection": _COMMAND,
    b"location": "names a path of the backend, which clients cannot reach through Nexus",
    b"x-litespeed-location": _FRONT,
    b"x-lighttpd-send-file": _FRONT,
    b"x-reproxy-url": _FRONT,
    b"x-sendfile": _FRONT,
    b"x-sendfile2": _FRONT,
}
"""Response headers, lower case, that are not passed on to the client."""

NOT_FOR_CLIENTS_PREFIXES: Final[Mapping[bytes, str]] = {
    b"access-control-": _CORS,
    b"attribution-reporting-": _COMMAND,
    b"content-security-policy": _COMMAND,
    b"cross-origin-": _COMMAND,
    b"document-policy": _COMMAND,
    b"sec-": _COMMAND,
    b"x-accel-": _FRONT,
    b"x-content-security-policy": _COMMAND,
    b"x-nexus-": "only Nexus says how it routed",
    b"x-webkit-csp": _COMMAND,
}
