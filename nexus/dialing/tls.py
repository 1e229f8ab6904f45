"""TLS contexts that many connections share, because making one takes milliseconds."""

import ssl
from functools import cache


@cache
def verifying_context() -> ssl.SSLContext:
    """Return the context that trusts the system's authorities."""
    return ssl.create_default_context()


@cache
def trusting_context() -> ssl.SSLContext:
    """Return the context that checks no certificate, for an operator who has asked for that."""
    return unchecked_context()


def unchecked_context() -> ssl.SSLContext:
    """Return a context of the same kind that is not shared, so that it can be given a certificate to show."""
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context
