"""Requests and tokens in flight are zero when nothing runs, and never negative, however attempts end."""

from random import Random

from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from nexus.domain.outcome import Ending
from nexus.domain.request import Requirements, TokenUsage
from nexus.routing.core_stages.schedule import Schedule
from nexus.testing.builders import CHAT, MODEL, make_attempt, make_backend, make_intent

TOKENS = st.integers(0, 200_000)
USAGES = st.none() | st.builds(TokenUsage, TOKENS, TOKENS)
REQUESTS = st.builds(
    lambda **fields: Requirements(model=MODEL, **fields),
    prompt_tokens=TOKENS,
    further_prompt_tokens=st.integers(0, 1000),
    max_tokens=st.none() | TOKENS,
    answers=st.integers(0, 4),
    needs_vision=st.booleans(),
)
ATTEMPTS = st.tuples(REQUESTS, st.none() | USAGES, st.sampled_from(Ending), USAGES, st.integers(0, 9))


def counted(load):
    return load.in_flight, load.prompt_tokens, load.answer_tokens, load.model(MODEL).in_flight


@given(st.lists(ATTEMPTS, max_size=20), st.sampled_from(["chat", "embeddings", "keep"]), st.randoms())
def test_all_that_an_attempt_holds_is_given_back(attempts, capability, order: Random):
    backend, schedule = make_backend(), Schedule()
    endpoint = replace(CHAT, capability=capability)
    steps = []
    for requirements, begun, ending, usage, _ in attempts:
        intent = make_intent(backends=[backend], requirements=requirements, endpoint=endpoint)
        slot = schedule.reserve(intent, backend)
        outcome = make_attempt(ending=ending, usage=usage)
        steps.extend([(slot, begun), (slot, outcome), (slot, outcome)])
    order.shuffle(steps)
    for slot, what in steps:
        assert min(counted(backend.load)) >= 0
        if isinstance(what, TokenUsage) or what is None:
            slot.begin_answer(what)
        else:
            slot.settle(what)

    assert counted(backend.load) == (0, 0, 0, 0)


@given(st.lists(st.tuples(REQUESTS, USAGES), max_size=40), REQUESTS)
def test_the_expected_size_is_never_negative_and_its_ratio_bounded(seen, wanted):
    size = make_backend().load.model(MODEL).size
    for requirements, usage in seen:
        if usage is not None:
            size.learn(requirements, usage, has_prompt=True, has_answer=requirements.answers > 0)

    prompt, answer = size.expected(wanted, is_chat=True)

    assert 0.25 <= size.ratio <= 8.0
    assert prompt >= 0
    assert 0 <= answer <= max(1, 200_000 if wanted.max_tokens is None else wanted.max_tokens) * wanted.answers
