"""Whatever is sent to add a backend, it is added, or refused with an error that blames the request."""

import asyncio

import msgspec
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from nexus.admin.backends.changes import refusals, table_of
from nexus.config.one_backend import load_backend
from nexus.config.schema import BackendConfig
from nexus.errors import RequestError
from nexus.fleet import added as adding
from nexus.fleet.added import AddedBackends
from nexus.fleet.plan import plan_fleet

TEXTS = st.one_of(
    st.text(max_size=20),
    st.sampled_from(
        [
            "gpu-1",
            "http://10.0.0.9",
            "https://[::1]:9/v1",
            "http://a:b@c",
            "vllm",
            "env:KEY",
            "env:NOPE",
            "file:/",
            "open",
        ]
    ),
)
VALUES = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False), TEXTS),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(TEXTS, inner, max_size=3)),
    max_leaves=6,
)
KEYS = st.sampled_from([*BackendConfig.__struct_fields__, "persist", "nonsense"])
TABLES = st.builds(
    lambda base, more: {**base, **more},
    st.sampled_from([{}, {"name": "gpu-1", "url": "http://10.0.0.9"}]),
    st.dictionaries(KEYS, VALUES, max_size=4),
)
BODIES = st.one_of(st.binary(max_size=40), TABLES.map(msgspec.json.encode), VALUES.map(msgspec.json.encode))


@pytest.fixture(autouse=True, scope="module")
def no_names_are_looked_up():
    async def leads_nowhere(_):
        return False

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(adding, "leads_to_metadata", leads_nowhere)
        yield


async def outcome(body):
    """Return the backend that *body* has added, or why it was refused."""
    plan = plan_fleet([])
    added = AddedBackends(
        lambda: plan, lambda table: load_backend(table, environ={"KEY": "sesame"}), None, lambda: None
    )
    try:
        table, persist = table_of(body)
        with refusals():
            await added.add(table, persist=bool(persist))
    except RequestError as refusal:
        return None, refusal
    (member,) = added.members_beside(plan).values()
    return member, None


@settings(deadline=None)
@given(BODIES)
@example(b"[" * 50_000)
@example(b'{"name": "gpu-1", "url": "http://10.0.0.9", "tier": 1' + b"0" * 400 + b"}")
@example(b'{"name": "\\ud800", "url": "http://10.0.0.9"}')
@example(b'{"name": "gpu-1", "url": "http://10.0.0.9", "api_key": "file:\\u0000"}')
def test_every_body_adds_a_backend_or_is_refused_with_a_4xx(body):
    member, refusal = asyncio.run(outcome(body))

    if refusal is None:
        assert member.source == "api"
        assert member.config.url.startswith(("http://", "https://"))
    else:
        assert 400 <= refusal.status < 500
        assert "sesame" not in refusal.message
