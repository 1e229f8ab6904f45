"""However a path is spelt, it is one path: to look for, to ask a backend at, and to want a key for."""

from types import SimpleNamespace

from hypothesis import given
from hypothesis import strategies as st

from nexus.domain.routes import Page, PageRoute
from nexus.proxy.dispatch.handler import RequestHandler
from nexus.wire.paths import find, methods_at, spellings
from nexus.wire.protocols import EVERY

SEGMENTS = st.sampled_from(
    ["v1", "v2", "api", "admin", "chat", "completions", "files", "x", "a-b", ".", "..", "%2e", ""]
)
PATHS = st.lists(SEGMENTS, max_size=7).map(lambda parts: "/" + "/".join(parts))
ENDPOINTS = st.sampled_from(EVERY)
SLASHES = st.integers(1, 3).map("/".__mul__)


@st.composite
def spelt(draw, path):
    """Draw *path* with slashes too many, and a ``/v1`` too many or too few."""
    bare = path.removeprefix("/v1")
    core = draw(st.sampled_from([path, f"/v1{path}", f"/v1/v1{path}", f"/v1{bare}"]))
    parts = core.strip("/").split("/")
    return "".join(draw(SLASHES) + part for part in parts) + draw(st.sampled_from(["", "/", "//"]))


def filled(path):
    return path.replace("{id}", "abc_1")


@given(PATHS)
def test_a_spelling_has_no_other_spelling_before_itself(path):
    for spelling in spellings(path):
        assert next(spellings(spelling)) == spelling


@given(PATHS)
def test_the_spellings_of_a_path_differ_by_v1_alone(path):
    def core(spelling):
        while spelling.startswith("/v1/"):
            spelling = spelling[len("/v1") :]
        return spelling

    plain, *others = spellings(path)

    assert {core(other) for other in others} <= {core(plain)}
    assert [segment for segment in plain.split("/") if segment] == [segment for segment in path.split("/") if segment]


@given(ENDPOINTS.flatmap(lambda endpoint: st.tuples(st.just(endpoint), spelt(filled(endpoint.path)))))
def test_an_endpoint_is_found_in_every_spelling_and_asked_for_in_its_own(drawn):
    endpoint, path = drawn
    method = endpoint.methods[0]

    found = next(
        found
        for spelling in spellings(path)
        if (found := find(method, spelling, is_anthropic=endpoint.protocol == "anthropic"))
    )

    assert found.endpoint is endpoint
    assert found.path == filled(endpoint.path)


@given(PATHS)
def test_no_id_leads_out_of_its_place(path):
    for method in methods_at(path):
        for is_anthropic in (True, False):
            found = find(method, path, is_anthropic=is_anthropic)
            assert found is None or not {".", "..", "%2e", ""} & set(found.path.strip("/").split("/"))


PAGES = tuple(
    PageRoute(path=path, respond=lambda _: Page(200, "text/plain", b""), access=access)
    for path, access in [
        ("/", "open"),
        ("/health", "client"),
        ("/v1/models", "client"),
        ("/v1/models/", "client"),
        ("/v1/history", "admin"),
        ("/admin/backends", "admin"),
        ("/admin/backends/", "admin"),
        ("/admin/night", "admin"),
    ]
)
HANDLER = RequestHandler(SimpleNamespace(), PAGES, on_refused=lambda code: None)


@given(
    st.sampled_from([page for page in PAGES if page.path != "/"]).flatmap(
        lambda page: st.tuples(st.just(page), spelt(page.path + "x" if page.path.endswith("/") else page.path))
    ),
    st.sampled_from(["GET", "POST", "DELETE", "OPTIONS"]),
)
def test_no_spelling_of_a_page_needs_another_key(drawn, method):
    page, path = drawn

    found, endpoint = HANDLER._find(SimpleNamespace(method=method, headers={}), path)

    assert endpoint is None
    assert HANDLER._pages.access_to(found) == page.access


@given(PATHS, st.sampled_from(["GET", "POST", "DELETE"]))
def test_what_is_found_is_found_again_at_the_same_place(path, method):
    message = SimpleNamespace(method=method, headers={})

    found, endpoint = HANDLER._find(message, path)

    assert HANDLER._find(message, found) == (found, endpoint)
