"""The rows of the fleet as bytes, for processes of the same release."""

from collections.abc import Mapping
from typing import Any, Final

import msgspec

from nexus.dialing.tunnel import Proxy
from nexus.dialing.upstream_settings import DEFAULT_SETTINGS, UpstreamSettings
from nexus.domain.backend import Backend
from nexus.domain.kinds import BackendKind
from nexus.fleet.kinds import UNDETECTED
from nexus.fleet.membership.member import Member
from nexus.fleet.membership.settings import tls_of

_OWN: Final = frozenset({"kind", "load", "spellings"})
"""Fields that each process has of its own: the kind has functions, the load counters, and spellings follow."""
_FIELDS: Final = tuple(field for field in msgspec.structs.fields(Backend) if field.name not in _OWN)
_Row: Final[Any] = msgspec.defstruct(
    "_Row",
    [("kind", str), *((field.name, field.type) for field in _FIELDS)],
    frozen=True,
    array_like=True,
)
_encode: Final = msgspec.msgpack.Encoder().encode
_decode: Final = msgspec.msgpack.Decoder(_Row).decode


class UnknownKind(LookupError):
    """A row is of a kind that this process does not know."""


def encode_row(row: Backend) -> bytes:
    """Return *row* without its load."""
    return _encode([row.kind.name, *(getattr(row, field.name) for field in _FIELDS)])


def decode_row(row: bytes, kinds: Mapping[str, BackendKind]) -> dict[str, Any]:
    """Return the fields of a row, without its load and its spellings.

    :raises UnknownKind: its kind is not in *kinds*.
    """
    decoded = _decode(row)
    kind = UNDETECTED if decoded.kind == UNDETECTED.name else kinds.get(decoded.kind)
    if kind is None:
        raise UnknownKind(decoded.kind)
    return {"kind": kind, **{field.name: getattr(decoded, field.name) for field in _FIELDS}}


class SentSettings(msgspec.Struct, frozen=True, array_like=True):
    """How one backend is reached; most of it is secret, so it is sent over a socketpair only."""

    key: str | None
    headers: Mapping[str, str]
    query: Mapping[str, str]
    secrets: tuple[str, ...]
    path_is_complete: bool | None
    proxy: Proxy | None
    is_from_file: bool
    tls_verify: bool
    tls_ca_file: str | None
    tls_cert_file: str | None
    tls_key_file: str | None

    def __repr__(self) -> str:
        return "SentSettings(***)"


def settings_to_send(member: Member) -> SentSettings | None:
    """Return the settings of *member*; None: it has none of its own."""
    settings, config = member.settings, member.config
    if settings == DEFAULT_SETTINGS:
        return None
    return SentSettings(
        settings.key,
        settings.headers,
        settings.query,
        settings.secrets,
        settings.path_is_complete,
        settings.proxy,
        settings.is_from_file,
        config.tls_verify,
        config.tls_ca_file,
        config.tls_cert_file,
        config.tls_key_file,
    )


def settings_received(sent: SentSettings) -> UpstreamSettings:
    """Return the settings that were sent. :raises Fault: a file of TLS cannot be used here."""
    return UpstreamSettings(
        key=sent.key,
        headers=sent.headers,
        query=sent.query,
        secrets=sent.secrets,
        path_is_complete=sent.path_is_complete,
        tls=tls_of(
            verify=sent.tls_verify, ca_file=sent.tls_ca_file, cert_file=sent.tls_cert_file, key_file=sent.tls_key_file
        ),
        proxy=sent.proxy,
        is_from_file=sent.is_from_file,
    )
