"""Checks whether the certificates in a file have expired, which would otherwise show at the first connection."""

import _ssl
import ssl
from collections.abc import Iterable
from datetime import UTC, datetime


def expired_certificate(file: str, now: datetime) -> str | None:
    """Return why the first certificate in *file* is not valid at *now*, None if it is."""
    # The only function of the standard library that reads the validity of a certificate that is not an authority.
    found = _ssl._test_decode_cert(file)  # type: ignore[attr-defined]  # noqa: SLF001
    return _invalid([(str(found["notBefore"]), str(found["notAfter"]))], now)


def expired_authorities(file: str, now: datetime) -> str | None:
    """Return why no authority in *file* is valid at *now*, None if at least one is."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(file)
    return _invalid([(str(each["notBefore"]), str(each["notAfter"])) for each in context.get_ca_certs()], now)


def _invalid(periods: Iterable[tuple[str, str]], now: datetime) -> str | None:
    """Return why none of *periods*, pairs of begin and end, includes *now*; None if one does."""
    reasons = []
    for period in periods:
        begin, end = (datetime.fromtimestamp(ssl.cert_time_to_seconds(instant), UTC) for instant in period)
        if begin <= now <= end:
            return None
        reasons.append(f"expired on {end:%Y-%m-%d}" if end < now else f"is not valid before {begin:%Y-%m-%d}")
    return reasons[0] if reasons else None
