"""Notifies systemd of starts, reloads and the stop, and that the proxy is alive, by the protocol of sd_notify(3)."""

import asyncio
import faulthandler
import os
import socket
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Final

import structlog

log = structlog.get_logger("nexus.app")

READY = "READY=1"
STOPPING = "STOPPING=1"
ALIVE = "WATCHDOG=1"

MAX_STATUS: Final = 200
"""Characters of a text that ``systemctl status`` shows."""


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


def reloading() -> str:
    """Return the state of a reload that begins now, for ``Type=notify-reload``; it ends with :func:`reloaded`."""
    return f"RELOADING=1\nMONOTONIC_USEC={time.monotonic_ns() // 1000}"


def reloaded(refused: str = "") -> str:
    """Return the state after a reload.

    :param refused: why the old configuration stays in force; empty: it does not.
    """
    # A line ends the value; systemd has no other way to say that a reload failed.
    text = f"the last reload was refused: {' '.join(refused.split())}"[:MAX_STATUS] if refused else ""
    return f"{READY}\nSTATUS={text}"


def watchdog_s(environ: Mapping[str, str] = os.environ, pid: int | None = None) -> float | None:
    """Return after how many seconds without :data:`ALIVE` systemd restarts this process; None: it does not watch it."""
    digits = environ.get("WATCHDOG_USEC", "")
    is_for_another = environ.get("WATCHDOG_PID", "") not in {"", str(pid or os.getpid())}
    if is_for_another or not digits.isdecimal() or not int(digits):
        return None
    return int(digits) / 1e6


async def feed_watchdog(limit_s: float, is_alive: Callable[[], bool]) -> None:
    """Notify systemd twice within *limit_s*, as sd_watchdog_enabled(3) advises, as long as *is_alive* returns True."""
    if not faulthandler.is_enabled():
        # It sends SIGABRT after the limit: then each thread says where it is, unless there is no stderr.
        with suppress(OSError, ValueError, RuntimeError):
            faulthandler.enable()
    while True:
        if is_alive():
            notify(ALIVE)
            await asyncio.sleep(limit_s / 2)
        else:
            # It may be alive again before the limit.
            await asyncio.sleep(min(limit_s / 20, 1.0))
