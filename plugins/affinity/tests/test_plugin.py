"""The hooks, the size of what is remembered, and a reload."""

import pytest

from nexus.api import EngineReport
from nexus.testing.builders import make_backend
from nexus_affinity import plugin
from nexus_affinity.config import AffinityConfig
from nexus_affinity.fleet_caches import MAX_CONVERSATIONS, size_of


def test_a_reload_keeps_what_is_remembered(scene, prompt):
    state = {}
    (before,) = plugin.nexus_reconcilers(AffinityConfig(), state)
    scene = scene()
    scene.stage = before
    scene.send("gpu-1", prompt("talk"))

    (scene.stage,) = plugin.nexus_reconcilers(AffinityConfig(), state)

    assert scene.preferred(prompt("talk")) == {"gpu-1"}


@pytest.mark.parametrize(
    ("told", "keys", "size"),
    [
        ({}, {}, 4096),
        ({"cache_tokens": 50_000}, {}, 195),
        ({"cache_tokens": 10**9}, {}, 52_428),
        ({}, {"assumed_cache_tokens": 1}, 1),
        ({"cache_tokens": 10**9}, {"max_index_bytes": 65_536}, 204),
    ],
)
def test_as_much_is_remembered_as_the_engine_caches(told, keys, size):
    backend = make_backend(kind="vllm")
    backend.load.tell(EngineReport(at=0.0, due_at=1.0, **told))

    assert size_of(backend, AffinityConfig(**keys)) == size


@pytest.mark.parametrize(("slots", "told", "size"), [(4, None, 4), (4, 2, 2), (None, None, 1)])
def test_kinds_that_cache_by_slot_have_as_many_prompts_as_slots(slots, told, size):
    backend = make_backend(kind="llamacpp", slots=slots)
    backend.load.tell(EngineReport(at=0.0, due_at=1.0, slots=told))

    assert size_of(backend, AffinityConfig()) == size


def test_a_cache_follows_what_the_engine_reports(scene, prompt):
    scene = scene()
    scene.send("gpu-1", prompt("talk", 40))

    scene["gpu-1"].load.tell(EngineReport(at=0.0, due_at=1.0, cache_tokens=2560))
    scene.send("gpu-1", prompt("talk", 40))

    assert scene.cached("gpu-1", prompt("talk", 40)) == 10


def test_a_server_of_another_kind_begins_anew(scene, prompt):
    scene = scene()
    scene.send("gpu-1", prompt("talk", 40))

    scene.replace("gpu-1", kind="llamacpp", slots=1)
    scene.send("gpu-1", prompt("other"))

    assert scene.cached("gpu-1", prompt("talk", 40)) == 0


def test_a_bounded_number_of_conversations_is_remembered(scene):
    scene = scene()

    for conversation in range(1, MAX_CONVERSATIONS + 10):
        scene.send("gpu-1", conversation=conversation)

    assert len(scene.caches.conversations) == MAX_CONVERSATIONS
