"""The example of a stage that uses load does what its page says."""

import sys
from importlib.util import module_from_spec, spec_from_file_location
from time import monotonic

import pytest

from nexus.api import EngineReport, Hold, Refusal, Requirements
from nexus.testing.builders import MODEL, make_attempt, make_backend, make_intent


@pytest.fixture
def stage(root):
    spec = spec_from_file_location("long_prompts", root / "docs/examples/long_prompts.py")
    module = sys.modules[spec.name] = module_from_spec(spec)
    spec.loader.exec_module(module)
    yield module.LongPrompts()
    del sys.modules[spec.name]


def ask(backend, tokens):
    return make_intent(backends=[backend], requirements=Requirements(model=MODEL, prompt_tokens=tokens))


def test_a_long_prompt_waits_until_the_other_one_has_been_read(stage):
    gpu = make_backend("gpu")
    hold = stage.reserve(ask(gpu, 9000), gpu)

    meanwhile, short = stage.reserve(ask(gpu, 9000), gpu), stage.reserve(ask(gpu, 10), gpu)
    hold.begin_answer(None)
    afterwards = stage.reserve(ask(gpu, 9000), gpu)
    hold.settle(make_attempt("gpu"))

    assert isinstance(meanwhile, Refusal)
    assert meanwhile.retry_in_s == 0.5
    assert short is None
    assert isinstance(afterwards, Hold)
    assert stage.describe(ask(gpu, 10)) == {"gpu": "1 long prompts are being read"}


@pytest.mark.parametrize(("age_s", "factors"), [(0.0, [0.5]), (600.0, [1.0])])
def test_a_full_cache_weighs_as_long_as_the_report_is_fresh(stage, age_s, factors):
    gpu, now = make_backend("gpu"), monotonic()
    gpu.load.tell(EngineReport(at=now - age_s, due_at=now - age_s + 5, kv_usage=0.95))
    intent = ask(gpu, 10)

    stage.reconcile(intent)

    assert [verdict.factor for verdict in intent.weights] == factors
