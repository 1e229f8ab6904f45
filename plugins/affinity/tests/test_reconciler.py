"""The stage prefers the backend that has the prompt in its cache, unless that is busy, and refuses none."""

from time import perf_counter

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nexus.api import Breaker, EngineReport
from nexus.testing.builders import make_attempt, make_backend
from nexus_affinity import costs
from nexus_affinity.caches import ENTRY_BYTES


def busy(backend, requests):
    for _ in range(requests):
        backend.load.acquire()


def test_a_conversation_stays_where_its_prompt_is_cached(scene, prompt):
    scene = scene()
    first = prompt("talk")
    scene.send("gpu-2", first)

    weighed = scene.weigh(prompt("talk", 14, begins=first))

    assert {name for name, factor in weighed.factors.items() if factor == 1.0} == {"gpu-2"}
    assert weighed.factors["gpu-0"] < 0.6
    assert weighed.reasons["gpu-0"] == "about 0 of 14 KiB of the prompt are in its cache; 0 requests in flight"


def test_a_new_prompt_goes_where_least_is_to_do(scene, prompt):
    scene = scene()
    busy(scene["gpu-0"], 1)
    scene.begin("gpu-1", prompt("long", 40))

    weighed = scene.weigh(prompt("new"))

    assert {name for name, factor in weighed.factors.items() if factor == 1.0} == {"gpu-2", "gpu-3"}
    assert weighed.reasons["gpu-1"].endswith("0 requests in flight, 40 KiB of prompts to read")


def test_of_idle_backends_the_one_with_fewer_requests_lately_comes_first(scene, prompt):
    scene = scene(3)
    for name, requests in (("gpu-0", 3), ("gpu-1", 1), ("gpu-2", 2)):
        for number in range(requests):
            scene.send(name, prompt((name, number)))

    factors = scene.weigh(prompt("new")).factors

    assert factors["gpu-1"] == 1.0 > factors["gpu-2"] > factors["gpu-0"] > 0.8


def test_what_is_read_counts_no_more(scene, prompt):
    scene = scene()
    hold = scene.begin("gpu-1", prompt("long", 40))

    hold.begin_answer(None)
    scene.forget_counts()

    assert scene.preferred(prompt("new")) == set(scene.backends)


def test_a_busy_backend_loses_a_conversation(scene, prompt):
    scene = scene()
    scene.send("gpu-2", prompt("talk"))
    busy(scene["gpu-2"], 3)
    assert scene.preferred(prompt("talk")) == {"gpu-2"}

    busy(scene["gpu-2"], 3)

    assert scene.preferred(prompt("talk")) == {"gpu-0", "gpu-1", "gpu-3"}


def test_the_load_of_other_clients_counts(scene, prompt):
    scene = scene()
    scene.send("gpu-2", prompt("talk"))

    scene["gpu-2"].load.tell(EngineReport(at=0.0, due_at=1.0, running=7))

    assert scene.preferred(prompt("talk")) == {"gpu-0", "gpu-1", "gpu-3"}


def test_load_is_relative_to_the_share(scene, prompt):
    scene = scene([make_backend("one"), make_backend("double", share=2.0)])
    busy(scene["one"], 2)
    busy(scene["double"], 4)

    assert scene.preferred(prompt("new")) == {"one", "double"}


def test_what_half_of_the_fleet_has_carries_no_preference(scene, prompt):
    scene = scene()
    shared = prompt("instructions")
    scene.send("gpu-0", shared)
    scene.forget_counts()
    assert scene.preferred(prompt("a", 24, begins=shared)) == {"gpu-0"}

    scene.send("gpu-1", shared)
    scene.forget_counts()

    assert scene.preferred(prompt("b", 24, begins=shared)) == set(scene.backends)


def test_what_begins_many_prompts_carries_no_preference(scene, prompt):
    scene = scene(4)
    shared = prompt("instructions", 20)
    for number in range(7):
        scene.send("gpu-0", prompt(number, 24, begins=shared))
    scene.forget_counts()
    assert scene.preferred(prompt("new", 24, begins=shared)) == {"gpu-0"}

    scene.send("gpu-0", prompt(7, 24, begins=shared))
    scene.forget_counts()

    assert scene.preferred(prompt("new", 24, begins=shared)) == set(scene.backends)
    assert scene.preferred(prompt(3, 26, begins=prompt(3, 24, begins=shared))) == {"gpu-0"}


def test_instructions_do_not_draw_all_conversations_to_one_idle_backend(scene, prompt):
    scene = scene(3)
    shared = prompt("instructions", 3)

    for number in range(30):
        talk = prompt(number, 12, begins=shared)
        scene.send(min(scene.preferred(talk)), talk)

    assert all(8 <= cache.recent <= 12 for cache in scene.caches.caches.values())


def test_the_operators_priority_comes_first(scene, prompt):
    scene = scene([make_backend("preferred", priority=1), make_backend("other"), make_backend("third")])
    scene.send("other", prompt("talk"))
    busy(scene["preferred"], 9)

    assert scene.weigh(prompt("talk")).factors == {
        "preferred": 1.0,
        "other": 1.0,
        "third": pytest.approx(costs.factor(1 + 2 * (0.25 + 0.1 * 12), 1 + 12)),
    }


def test_models_share_no_cache(scene, prompt):
    models = ("llama3", "qwen3")
    scene = scene([make_backend("gpu-0", models=models), make_backend("gpu-1", models=models)])

    scene.send("gpu-0", prompt("talk"))

    assert scene.preferred(prompt("talk")) == {"gpu-0"}
    assert scene.cached("gpu-0", prompt("talk"), model="qwen3") == 0


def test_the_name_of_the_conversation_only_breaks_ties(scene):
    scene = scene()
    scene.send("gpu-3", conversation=7)
    assert scene.preferred(conversation=8) == {"gpu-0", "gpu-1", "gpu-2"}
    scene.forget_counts()
    assert scene.preferred(conversation=7) == {"gpu-3"}
    assert scene.preferred(conversation=8) == set(scene.backends)

    busy(scene["gpu-3"], 1)

    assert scene.preferred(conversation=7) == {"gpu-0", "gpu-1", "gpu-2"}


def test_without_a_prompt_it_has_no_opinion(scene):
    scene = scene()
    busy(scene["gpu-0"], 3)

    assert scene.weigh().reasons == {}
    assert scene.begin("gpu-0") is None


def test_a_sole_candidate_is_not_weighed(scene, prompt):
    scene = scene(1)
    busy(scene["gpu-0"], 3)

    assert scene.weigh(prompt("talk")).reasons == {}


def test_a_prompt_that_was_not_read_is_taken_back(scene, prompt):
    scene = scene()
    scene.send("gpu-1", prompt("before"))

    scene.fail("gpu-1", prompt("before", 20, begins=prompt("before")))
    scene.send("gpu-2", prompt("refused"), status=503)

    assert scene.cached("gpu-1", prompt("before", 20, begins=prompt("before"))) == 12
    assert scene.cached("gpu-2", prompt("refused")) == 0


def test_a_failure_takes_no_prompt_from_another_request(scene, prompt):
    scene = scene()
    failing = scene.begin("gpu-1", prompt("talk"))
    good = scene.begin("gpu-1", prompt("talk"))

    failing.settle(make_attempt("gpu-1", status=None, first_byte_s=None))
    good.settle(make_attempt("gpu-1"))

    assert scene.cached("gpu-1", prompt("talk")) == 12


def test_a_restarted_server_has_nothing(scene, prompt):
    scene = scene()
    scene.send("gpu-1", prompt("talk"))

    scene["gpu-1"].load.restarted()

    assert scene.cached("gpu-1", prompt("talk")) == 0
    assert "gpu-1" not in scene.preferred(prompt("talk"))
    scene.send("gpu-1", prompt("talk"))
    assert scene.preferred(prompt("talk")) == {"gpu-1"}


def test_a_model_that_is_not_in_memory_has_nothing_cached(scene, prompt):
    scene = scene()
    scene.send("gpu-1", prompt("talk"))

    scene["gpu-1"].load.tell(EngineReport(at=0.0, due_at=1.0, loaded=frozenset({"qwen3"})))

    assert scene.cached("gpu-1", prompt("talk")) == 0
    scene["gpu-1"].load.tell(EngineReport(at=0.0, due_at=1.0, loaded=frozenset({"llama3"})))
    assert scene.cached("gpu-1", prompt("talk")) == 12


def test_an_open_breaker_empties_the_cache(scene, prompt):
    scene = scene()
    scene.send("gpu-1", prompt("talk"))

    scene.replace("gpu-1", breaker=Breaker.OPEN)
    scene.weigh(prompt("talk"))
    scene.replace("gpu-1")

    assert scene.cached("gpu-1", prompt("talk")) == 0


def test_a_backend_that_left_is_forgotten(scene, prompt):
    scene = scene()
    scene.send("gpu-1", prompt("talk"))
    scene.send("gpu-2", prompt("other"))
    del scene.backends["gpu-1"]

    scene.weigh(prompt("talk"))

    assert list(scene.caches.caches) == ["gpu-2"]
    assert len(scene.caches.index.holders) == 12
    assert {name for measure in scene.stage.measures() for s in measure.samples for name in s.labels.values()} == {
        "gpu-2"
    }


@pytest.mark.parametrize("kind", ["llamacpp", "ollama", "lmstudio"])
def test_kinds_that_cache_by_slot_have_one_prompt_for_each(scene, prompt, kind):
    scene = scene([make_backend("one", kind=kind, slots=2), make_backend("other", kind=kind, slots=2)])

    for name in ("a", "b", "c"):
        scene.send("one", prompt(name))

    assert [scene.cached("one", prompt(name)) for name in ("a", "b", "c")] == [0, 12, 12]


def test_a_slot_that_is_in_use_has_nothing_to_offer(scene, prompt):
    scene = scene([make_backend(name, kind="llamacpp", slots=2) for name in ("one", "other")])
    scene.send("one", prompt("talk", 100))
    busy(scene["one"], 1)
    assert scene.preferred(prompt("talk", 100)) == {"one"}

    busy(scene["one"], 1)

    assert scene.preferred(prompt("talk", 100)) == {"other"}


def test_it_shows_what_it_counts(scene, prompt):
    scene = scene()
    scene.send("gpu-1", prompt("talk"))
    scene.send("gpu-1", prompt("talk", 16, begins=prompt("talk")))
    scene.send("gpu-2", prompt("new", 4))

    shown = {measure.name: [sample.value for sample in measure.samples] for measure in scene.stage.measures()}

    assert shown == {
        "nexus_affinity_requests": [3],
        "nexus_affinity_hits": [1],
        "nexus_affinity_prompt_blocks": [32],
        "nexus_affinity_cached_blocks": [12],
        "nexus_affinity_entries": [16, 4],
        "nexus_affinity_bytes": [16 * ENTRY_BYTES, 4 * ENTRY_BYTES],
        "nexus_affinity_evictions": [0, 0],
    }
    assert scene.stage.report() == {"requests": 3, "cached_share": 0.375}


def test_it_explains_what_is_cached_where(scene, prompt):
    scene = scene(2)
    scene.send("gpu-1", prompt("talk"), conversation=5)
    intent = scene.intent(prompt("talk"), conversation=5)

    facts, sentences = scene.stage.explain(intent), scene.stage.describe(intent)

    assert (facts["prompt_kib"], facts["is_conversation_known"]) == (12, True)
    assert [(row["backend"], row["cached_share"]) for row in facts["candidates"]] == [("gpu-1", 1.0), ("gpu-0", 0.0)]
    assert sentences == {
        "gpu-0": "about 0 of 12 KiB of the prompt are in its cache",
        "gpu-1": "about 12 of 12 KiB of the prompt are in its cache",
    }


def test_a_decision_takes_microseconds(scene, prompt):
    scene = scene(8)
    intents = [scene.intent(prompt(number, 47)) for number in range(100)]
    for number in range(100):
        scene.send(f"gpu-{number % 8}", prompt(number, 47))

    def seconds():
        began = perf_counter()
        for intent in intents:
            scene.stage.reconcile(intent)
        return perf_counter() - began

    # 20 us when the machine is idle.
    assert min(seconds() for _ in range(10)) / len(intents) < 300e-6


@given(sent=st.lists(st.tuples(st.integers(0, 3), st.integers(0, 5), st.integers(0, 30), st.booleans()), max_size=40))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_whatever_was_sent_one_candidate_is_not_weighed_down_and_none_is_lost(scene, prompt, sent):
    scene = scene(max_index_bytes=65_536)
    for backend, talk, blocks, is_good in sent:
        (scene.send if is_good else scene.fail)(f"gpu-{backend}", prompt(talk, blocks))

    factors = scene.weigh(prompt(0, 30), conversation=1).factors

    assert all(0.0 < factor <= 1.0 for factor in factors.values())
    assert max(factors.values()) == 1.0
    assert all(cache.unread == 0 for cache in scene.caches.caches.values())
