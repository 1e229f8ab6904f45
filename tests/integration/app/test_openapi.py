"""/openapi.json describes each path with its methods and the key it needs, and nothing else."""

import json
import re

import pytest

from nexus.admin.openapi.document import OPENAPI_PATH
from nexus.testing.proxy import nexus_in_loop
from nexus.wire.protocols import EVERY
from tests.support.raw_client import RawClient

ADMIN_PAGE = """
from nexus.api import AdminRoute, hookimpl

@hookimpl
def nexus_routes():
    return [AdminRoute("/", lambda query: (200, "text/plain", b"hello"))]
"""


@pytest.fixture
def described(tmp_path):
    """Start a proxy that asks for those keys, and return its routes and what it says of them."""
    plugin = tmp_path / "greeter.py"
    plugin.write_text(ADMIN_PAGE)

    async def describe(*keys):
        secret = tmp_path / "key"
        secret.write_text("sesame")
        config = "[server]\n" + "".join(f'{name} = ["file:{secret}"]\n' for name in keys)
        async with nexus_in_loop(config, (plugin,)) as nexus:
            client = await RawClient.connect(nexus.port)
            head = f"GET {OPENAPI_PATH} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer sesame\r\n\r\n"
            client.writer.write(head.encode())
            reply = await client.reply()
            client.leave()
            return nexus._pages(nexus.blueprint), json.loads(reply.body)

    return describe


async def test_every_path_is_described_with_its_methods(described):
    routes, document = await described()

    paths = {path: {method.upper() for method in methods} for path, methods in document["paths"].items()}
    carried = {}
    for endpoint in EVERY:
        carried.setdefault(endpoint.path.replace("/{id}", "/{}"), set()).update(endpoint.methods)
    answered = {route.path: set(route.methods) for route in routes}
    plugins_and_ours = {route.path for route in routes}
    shown = {}
    for path, methods in paths.items():
        if (ours := re.sub(r"\{.*", "", path)) in plugins_and_ours:
            # What follows a path may depend on the method.
            shown.setdefault(ours, set()).update(methods)
    shown |= {
        re.sub(r"\{\w+\}", "{}", path): m
        for path, m in paths.items()
        if re.sub(r"\{.*", "", path) not in plugins_and_ours
    }
    assert shown == {
        **carried,
        **answered,
        "/ws": {"GET"},
    }


async def test_a_route_describes_no_method_that_it_refuses(described):
    routes, _ = await described()

    assert [route.path for route in routes if route.other_operations.keys() - route.methods] == []


async def test_a_page_of_a_plugin_is_described_by_its_name(described):
    _, document = await described()

    assert document["paths"]["/admin/greeter"]["get"]["summary"] == "A page of the plugin greeter"


async def test_every_reference_has_its_target(described):
    _, document = await described()

    schemas = document["components"]["schemas"]
    references = set(re.findall(r'"#/components/schemas/([^"]+)"', json.dumps(document)))
    operations = [operation for methods in document["paths"].values() for operation in methods.values()]
    tags = {tag["name"] for tag in document["tags"]}
    assert references <= schemas.keys()
    assert document["openapi"] == "3.1.0"
    assert len({operation["operationId"] for operation in operations}) == len(operations)
    assert {tag for operation in operations for tag in operation["tags"]} == tags
    assert [operation for operation in operations if not operation["summary"]] == []


@pytest.mark.parametrize(
    ("keys", "client", "admin"),
    [((), False, False), (("api_keys",), True, True), (("admin_keys",), False, True)],
)
async def test_each_path_states_which_key_it_needs(described, keys, client, admin):
    _, document = await described(*keys)

    def wants_key(path):
        operation = document["paths"][path]["get"]
        return bool(operation["security"]), "401" in operation["responses"]

    assert wants_key("/v1/stats") == (client, client)
    assert wants_key("/admin/backends") == (admin, admin)
    assert wants_key("/")[0] is False


async def test_all_files_of_the_dashboard_are_described_alike(described):
    routes, _ = await described()

    assets = [route.operation for route in routes if route.path.startswith("/assets/")]
    assert len(assets) > 1
    assert [operation for operation in assets if operation is not assets[0]] == []
