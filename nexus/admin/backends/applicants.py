"""Servers that announced themselves and wait for an administrator's approval, as ``/admin/backends`` shows them."""

from collections.abc import Iterable
from datetime import UTC, datetime

import msgspec

from nexus.fleet.discovery.approval.applicants import Applicant


class ApplicantView(msgspec.Struct, frozen=True, kw_only=True):
    """One server that is not in the fleet; all of it but the kind is what the server says of itself."""

    name: str
    url: str
    host: str
    """The name that it gives its machine; empty where it gives none."""
    backend_type: str | None
    """The kind that its answers show; null: it has not been recognised, and cannot be approved yet."""
    discovery_source: str
    trust: str
    """``pending``: it may be approved; ``rejected``: an administrator has rejected it."""
    first_seen: datetime
    last_error: str | None


def applicant_views(applicants: Iterable[Applicant]) -> tuple[ApplicantView, ...]:
    """Return what is shown of *applicants*."""
    return tuple(map(_view_of, applicants))


def _view_of(applicant: Applicant) -> ApplicantView:
    return ApplicantView(
        name=applicant.name,
        url=applicant.found.url,
        host=applicant.found.host,
        backend_type=applicant.kind,
        discovery_source=applicant.source,
        trust=applicant.trust,
        first_seen=datetime.fromtimestamp(int(applicant.first_seen_unix_s), UTC),
        last_error=applicant.last_error,
    )
