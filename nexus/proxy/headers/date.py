"""The ``Date`` of an answer (RFC 9110, 6.6.1), made once a second."""

import time
from email.utils import formatdate


class _Made:
    """The line of the second in which it was last asked for."""

    unix_s = 0
    line = b""


def date_line() -> bytes:
    """Return the header line that says what time it is."""
    unix_s = int(time.time())  # noqa: TID251 - the wall clock is what it tells
    if unix_s != _Made.unix_s:
        _Made.line = b"Date: %b\r\n" % formatdate(unix_s, usegmt=True).encode()
        _Made.unix_s = unix_s
    return _Made.line
