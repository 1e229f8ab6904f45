"""Discovered servers that wait for an administrator's approval, as ``/admin/backends`` shows them."""

from collections.abc import Iterable
from datetime import UTC, datetime

import msgspec

from nexus.fleet.discovery.approval.applicants import Applicant


class ApplicantView(msgspec.Struct, frozen=True, kw_only=True):
    """One server that is not in the fleet. Except for the kind, all of it is what the server announces."""

    name: str
    url: str
    host: str
    """The name of its machine; empty if it announces none."""
    backend_type: str | None
    """The kind that was recognised; null: none yet, and it cannot be approved."""
    discovery_source: str
    trust: str
    """``pending`` or ``rejected``."""
    first_seen: datetime
    last_error: str | None


def applicant_views(applicants: Iterable[Applicant]) -> tuple[ApplicantView, ...]:
    """Return one view for each of *applicants*."""
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
