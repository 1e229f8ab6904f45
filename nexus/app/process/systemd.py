"""Notifies systemd of the start and the stop by the protocol of sd_notify(3), for ``Type=notify``."""

import os
import socket
from collections.abc import Mapping

import structlog

log = structlog.get_logger("nexus.app")

READY = "READY=1"
STOPPING = "STOPPING=1"


def notify(state: str, environ: Mapping[str, str] = os.environ) -> None:
    """Send *state* to the service manager, if it asked for notifications."""
    address = environ.get("NOTIFY_SOCKET", "")
    if not address:
        return
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sock:
            # Non-blocking: a manager that reads nothing must not block the proxy.
            sock.setblocking(False)  # noqa: FBT003 - its only parameter
            # A name that begins with @ is in Linux's abstract namespace.
            sock.sendto(state.encode(), f"\0{address[1:]}" if address.startswith("@") else address)
    except OSError as exc:
        log.warning("service_manager_not_told", state=state, reason=exc.strerror or str(exc))
