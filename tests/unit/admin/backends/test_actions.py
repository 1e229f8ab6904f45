"""An operator drains, approves and rejects backends by name."""

import json

import pytest

from nexus.admin.backends.actions import act
from nexus.domain.backend import Status
from nexus.domain.routes import PageRequest
from nexus.errors import RequestError
from nexus.fleet.membership.registry import BackendNotFound


class FakeFleet:
    """Records the actions on the backends with *known* names."""

    def __init__(self, snapshot, *, known=("desk",), announced=(), are_kept=True):
        self.snapshot = snapshot
        self.are_decisions_kept = are_kept
        self.done = []
        self._announced = announced
        self._known = known

    def has_announced_itself(self, name):
        return name in self._announced

    async def drain(self, name):
        self._note(name)

    async def undrain(self, name):
        self._note(name)

    async def approve(self, name, url):
        self._note(name, url)

    async def reject(self, name, url):
        self._note(name, url)

    def _note(self, name, *args):
        if name not in self._known:
            raise BackendNotFound(name)
        self.done.append((name, *args))


@pytest.fixture
def ask(fleet, backend):
    """Return a function that posts to a path, of a fleet of one draining backend, ``a/b``, with a running request."""
    drained = backend("a/b", status=Status.DRAINING)
    drained.load.acquire()

    async def post(path):
        fake = FakeFleet(fleet(drained), known=("a/b",))
        page = await act(fake, PageRequest(method="POST", path=path))
        return json.loads(page.body), fake.done

    return post


async def test_the_backend_that_the_path_names_is_drained(ask):
    told, done = await ask("/admin/backends/a%2Fb/drain")

    assert done == [("a/b",)]
    assert told == {"name": "a/b", "status": "draining", "pending_requests": 1, "last_with": [], "until_restart": False}


@pytest.mark.parametrize(
    "path", ["/admin/backends/nobody/drain", "/admin/backends/a%2Fb/stop", "/admin/backends/drain"]
)
async def test_an_unknown_backend_or_action_is_not_found(ask, path):
    with pytest.raises(RequestError) as refusal:
        await ask(path)

    assert refusal.value.code == "not_found"


@pytest.mark.parametrize("word", ["drain", "undrain"])
async def test_a_server_that_waits_for_approval_cannot_be_drained(fleet, word):
    asked = PageRequest(method="POST", path=f"/admin/backends/desk/{word}")

    with pytest.raises(RequestError, match="'desk' is not in the fleet: approve it first, or reject it") as refusal:
        await act(FakeFleet(fleet(), known=(), announced=("desk",)), asked)

    assert refusal.value.code == "bad_request"


@pytest.mark.parametrize(("body", "url"), [(b"", None), (b"{}", None), (b'{"url": "http://a:1"}', "http://a:1")])
async def test_a_decision_may_contain_the_servers_url(fleet, body, url):
    fake = FakeFleet(fleet())

    await act(fake, PageRequest(method="POST", path="/admin/backends/desk/approve", body=body))

    assert fake.done == [("desk", url)]


@pytest.mark.parametrize(
    ("word", "are_kept", "is_forgotten"),
    [("approve", True, False), ("approve", False, True), ("reject", False, True), ("drain", False, False)],
)
async def test_a_decision_that_the_store_does_not_keep_says_so(fleet, word, are_kept, is_forgotten):
    asked = PageRequest(method="POST", path=f"/admin/backends/desk/{word}")

    page = await act(FakeFleet(fleet(), are_kept=are_kept), asked)

    assert json.loads(page.body)["until_restart"] is is_forgotten


@pytest.mark.parametrize("body", [b"{", b"[]", b'{"url": 1}', b"[" * 50_000, b"\xff"])
async def test_a_decision_with_another_body_is_refused(fleet, body):
    asked = PageRequest(method="POST", path="/admin/backends/desk/approve", body=body)

    with pytest.raises(RequestError) as refusal:
        await act(FakeFleet(fleet()), asked)

    assert refusal.value.code == "invalid_value"
