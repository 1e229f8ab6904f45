"""An attempt whose backend has answered, the record of its exchange, and a rig for whole exchanges."""

import asyncio

import pytest

from nexus.config.schema import Config
from nexus.dialing.upstream_settings import UpstreamSettings
from nexus.proxy.exchange.attempt import Attempt
from nexus.proxy.exchange.record import begin_record
from nexus.proxy.exchange.response import Response
from nexus.proxy.upstream.response_parser import ResponseHead
from nexus.testing.builders import CHAT, make_backend
from tests.support.rig import Rig, reconfigured

JSON = (b"Content-Type", b"application/json")
GPU = make_backend("gpu-1")


@pytest.fixture
async def answered(connection, ask, make_reserved, make_upstream):
    """An attempt whose backend has answered to the end."""

    def make(
        status=200,
        headers=(JSON,),
        body=b"{}",
        *,
        is_framed=True,
        wants_stream=False,
        model="llama3",
        key=None,
        backend=GPU,
    ):
        attempt = Attempt(
            make_reserved(backend, model=model), make_upstream(backend, UpstreamSettings(key=key)), started_at=0.0
        )
        response = Response(loop := asyncio.get_running_loop(), loop.create_future(), connection, ask(wants_stream))
        attempt.wants_stream = wants_stream
        attempt.begin(connection, response)
        response.on_head(ResponseHead(status, list(headers)))
        response.on_body(body)
        response.on_end(is_framed=is_framed)
        return attempt

    return make


@pytest.fixture
def record(make_reserved):
    record = begin_record("req-1", CHAT)
    record.reserved = make_reserved()
    return record


@pytest.fixture
async def make_rig(make_message):
    """Give a function that makes a rig: ``make_rig(stage, queue={"enabled": False})``."""

    def make(*stages, **sections):
        return Rig(make_message, reconfigured(Config(), **sections), *stages)

    return make


@pytest.fixture
async def rig(make_rig):
    return make_rig()
