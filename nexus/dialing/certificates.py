"""Until when the certificates in a file are valid: what is over by then fails at the first connection, not before."""

import _ssl
import ssl
from collections.abc import Iterable
from datetime import UTC, datetime


def expired_certificate(file: str, now: datetime) -> str | None:
    """Return what is wrong with the first certificate in *file* at *now*, None when it is valid."""
    # The one function of the standard library that reads when a certificate ends which is no authority's.
    found = _ssl._test_decode_cert(file)  # type: ignore[attr-defined]  # noqa: SLF001
    return _over([(str(found["notBefore"]), str(found["notAfter"]))], now)


def expired_authorities(file: str, now: datetime) -> str | None:
    """Return what is wrong with the authorities in *file* at *now*, None when one of them at least is valid."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(file)
    return _over([(str(each["notBefore"]), str(each["notAfter"])) for each in context.get_ca_certs()], now)


def _over(periods: Iterable[tuple[str, str]], now: datetime) -> str | None:
    """Return why none of *periods*, each from its begin to its end, includes *now*; None when one does."""
    reasons = []
    for period in periods:
        begin, end = (datetime.fromtimestamp(ssl.cert_time_to_seconds(instant), UTC) for instant in period)
        if begin <= now <= end:
            return None
        reasons.append(f"expired on {end:%Y-%m-%d}" if end < now else f"is not valid before {begin:%Y-%m-%d}")
    return reasons[0] if reasons else None
