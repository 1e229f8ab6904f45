"""TLS contexts that are shared, because making one takes milliseconds."""

import ssl
from functools import cache


@cache
def verifying_context() -> ssl.SSLContext:
    """Return the context that trusts the system's authorities."""
    return ssl.create_default_context()


@cache
def trusting_context() -> ssl.SSLContext:
    """Return the shared context that verifies no certificates."""
    return unchecked_context()


def unchecked_context() -> ssl.SSLContext:
    """Return a new context that verifies no certificates, to which a client certificate can be added."""
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context
