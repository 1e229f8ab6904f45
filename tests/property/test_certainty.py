"""Only certainty rejects: no estimate or claim rejects a request that a server could accept."""

import base64
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nexus.domain.model import ModelFacts
from nexus.domain.request import Requirements
from nexus.fleet.kinds import KINDS
from nexus.routing.core_stages.analyze import Analyze
from nexus.testing.builders import CHAT, make_backend, make_intent
from nexus.testing.strategies import fleets, requirements
from nexus.wire.errors.context import STATUSES, ContextExceeded, context_exceeded
from nexus.wire.message_text import without_files
from nexus.wire.protocols import ENDPOINTS, PROTOCOLS
from nexus.wire.token_estimates import measure

modestly = settings(max_examples=100, deadline=None)
TEXTS = st.text(st.characters(exclude_categories=["Cs"]))


@modestly
@given(fleets(), requirements())
def test_an_estimate_or_a_claim_of_a_server_excludes_no_backend(backends, wanted):
    able = [backend for backend in backends if CHAT.name in backend.endpoints and backend.kind is not KINDS["vllm"]]
    intent = make_intent(backends=able, requirements=wanted, model=wanted.model)
    before = intent.candidates

    Analyze().reconcile(intent)

    assert intent.candidates == before


@modestly
@given(st.integers(0, 10**6), st.integers(0, 10**6), st.none() | st.integers(1, 10**6), st.integers(1, 10**6))
def test_vllm_is_left_out_only_for_what_it_surely_refuses(estimate, token_ids, max_tokens, context):
    wanted = Requirements(model="m", prompt_tokens=estimate, prompt_token_ids=token_ids, max_tokens=max_tokens)
    backend = make_backend(kind="vllm", models=[ModelFacts(name="m", context_length=context)])
    intent = make_intent(backends=[backend], requirements=wanted, model="m")

    Analyze().reconcile(intent)

    if not intent.candidates:
        assert token_ids + (max_tokens or 0) > context


@given(st.sampled_from(sorted(STATUSES)), st.binary())
def test_any_error_is_read(status, body):
    assert isinstance(context_exceeded(status, body), ContextExceeded | None)


@given(TEXTS)
def test_escapes_change_the_size_of_a_text_little(text):
    plain = measure(json.dumps([text], ensure_ascii=False).encode())[0]
    escaped = measure(json.dumps([text]).encode())[0]

    # A character beyond the first plane has twelve bytes where it has four, and counts as six.
    assert plain - 4 * len(text) <= escaped <= plain + 2 * len(text)


@modestly
@given(
    st.randoms(use_true_random=True),
    st.integers(8000, 20_000),
    st.sampled_from(["result", "data", "encrypted_content", "whatever"]),
)
def test_a_file_in_base64_does_not_count_whatever_its_member_is_called(chance, size, member):
    item = {"type": "image_generation_call", member: base64.b64encode(chance.randbytes(size)).decode()}

    assert measure(without_files(json.dumps([item]).encode()))[0] < 200


@modestly
@given(st.sampled_from(["/v1/chat/completions", "/v1/messages", "/v1/responses", "/api/chat"]), st.lists(st.binary()))
def test_any_stream_has_an_estimate(path, pieces):
    endpoint = ENDPOINTS[path]
    scan = PROTOCOLS[endpoint.protocol].open_stream(endpoint)

    passed = sum(len(scan.feed(piece)) for piece in pieces)

    assert 0 <= scan.estimated_tokens() <= passed


@pytest.mark.parametrize("kind", sorted(set(KINDS) - {"vllm"}))
def test_no_other_engine_is_known_to_refuse_for_certain(kind):
    assert KINDS[kind].refuses_beyond_context == frozenset()
