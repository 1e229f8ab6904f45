"""Dials backends in tests, and resolves given names."""

import socket

import pytest

from nexus.dialing.dial import Address, dial
from nexus.dialing.lookups import Resolution
from nexus.errors import UpstreamError
from nexus.proxy.upstream.connection import UpstreamConnection


async def dial_and_close(address: Address, timeout_s: float = 2.0) -> UpstreamConnection:
    connection = await dial(address, UpstreamConnection, timeout_s=timeout_s)
    connection.abandon()
    return connection


async def fault_of(address: Address, timeout_s: float = 2.0) -> str:
    with pytest.raises(UpstreamError) as failed:
        await dial_and_close(address, timeout_s)
    return failed.value.fault.value


class Resolver:
    """Resolves the names that it is given, and records each lookup."""

    def __init__(self, **known: str) -> None:
        self.known = known
        self.lookups: list[str] = []
        self.failure = OSError(None, "not known")
        self.ttl_s = 30.0

    async def __call__(self, host: str, port: int) -> Resolution:
        self.lookups.append(host)
        if (answer := self.known.get(host.partition(".")[0])) is None:
            raise self.failure
        infos = [
            (socket.AF_INET6 if ":" in one else socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", (one, port))
            for one in answer.split()
        ]
        return Resolution(tuple(infos), self.ttl_s)
