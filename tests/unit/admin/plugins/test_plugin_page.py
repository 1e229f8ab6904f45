"""A page of a plugin is answered, or its failure is reported as the plugin's."""

import msgspec
import pytest
from structlog.testing import capture_logs

from nexus.admin.plugins.plugin_page import plugin_page
from nexus.domain.routes import AdminRoute, PageRequest
from nexus.plugin_manager import Plugin

NIGHT = Plugin("night", "nexus-proxy-night", "0.2", {})


async def asked(respond, query=""):
    page = plugin_page(NIGHT, AdminRoute("/admin/night", respond))
    return await page(PageRequest(method="GET", path="/admin/night", query=query))


async def test_a_page_gets_the_parameters_of_the_query():
    page = await asked(lambda asked: (200, "text/plain", asked["hour"].encode()), "hour=3&x=")

    assert (page.status, page.content_type, page.body) == (200, "text/plain", b"3")


async def test_a_page_may_be_a_coroutine():
    async def later(_):
        return 204, "text/plain", b""

    assert (await asked(later)).status == 204


def exits(_):
    raise SystemExit


@pytest.mark.parametrize(
    "respond",
    [
        lambda _: 1 / 0,
        exits,
        lambda _: None,
        lambda _: (200, "text/plain", "text"),
        lambda _: ("200", "text/plain", b""),
        lambda _: (20, "text/plain", b""),
        lambda _: (200, "text/plain\r\nSet-Cookie: a=b", b""),
        lambda: (200, "text/plain", b""),
    ],
)
async def test_any_failure_is_reported_as_the_plugins(respond):
    with capture_logs() as logs:
        page = await asked(respond)

    assert page.status == 500
    assert "'night'" in msgspec.json.decode(page.body)["error"]
    assert [(line["event"], line["plugin"], line["path"]) for line in logs] == [
        ("page_failed", "night", "/admin/night")
    ]
