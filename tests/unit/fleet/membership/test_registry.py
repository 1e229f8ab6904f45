import threading
import time

import pytest

from nexus.domain.backend import Status
from nexus.domain.model import ModelFacts
from nexus.fleet.membership.identity import backend_id
from nexus.fleet.membership.registry import BackendNotFound, DuplicateBackend, Registry

GPU = backend_id("gpu")


@pytest.fixture
def registry(make_backend):
    registry = Registry()
    registry.add(make_backend("gpu", "llama3", "qwen3"))
    return registry


def test_a_backend_is_found_by_each_of_its_models(registry):
    assert [b.name for b in registry.snapshot.having("llama3")] == ["gpu"]
    assert [b.name for b in registry.snapshot.having("qwen3")] == ["gpu"]
    assert registry.snapshot.having("nope") == ()


def test_an_id_can_be_taken_once(registry, make_backend):
    with pytest.raises(DuplicateBackend, match=rf"^backend already exists: {GPU}$"):
        registry.add(make_backend("gpu"))


@pytest.mark.parametrize(
    "change",
    [
        lambda registry: registry.remove("gone"),
        lambda registry: registry.update("gone", tier=2),
    ],
)
def test_an_unknown_backend_cannot_be_changed(registry, change):
    with pytest.raises(BackendNotFound, match=r"^backend not found: gone$"):
        change(registry)


def test_a_removed_backend_leaves_nothing_behind(registry):
    removed = registry.remove(GPU)

    assert removed.name == "gpu"
    assert registry.snapshot.backends == ()
    assert registry.snapshot.by_id == {}
    assert registry.snapshot.by_model == {}
    assert registry.snapshot.models == ()


def test_new_models_replace_the_old_ones(registry):
    registry.update(GPU, models={"phi4": ModelFacts(name="phi4")})

    assert registry.snapshot.models == ("phi4",)
    assert registry.snapshot.having("llama3") == ()


def test_an_unhealthy_backend_keeps_its_models(registry):
    registry.update(GPU, status=Status.UNHEALTHY)

    assert [b.status for b in registry.snapshot.having("llama3")] == [Status.UNHEALTHY]


def test_one_change_is_one_publication_and_no_change_is_none(registry):
    versions = []
    registry.on_change(lambda snapshot: versions.append(snapshot.version))

    registry.update(GPU, tier=3)
    registry.update(GPU, tier=3)

    assert versions == [2]


def test_a_batch_is_one_publication(registry, make_backend):
    versions = []
    registry.on_change(lambda snapshot: versions.append(snapshot.version))

    with registry.batch():
        registry.add(make_backend("cpu", "llama3"))
        registry.update(GPU, tier=3)
        seen_inside = registry.snapshot

    assert versions == [2]
    assert len(seen_inside.backends) == 1
    assert [b.name for b in registry.snapshot.having("llama3")] == ["cpu", "gpu"]


def test_a_batch_that_fails_changes_nothing(registry, make_backend):
    before = registry.snapshot

    def fail_half_way():
        with registry.batch():
            registry.add(make_backend("cpu"))
            registry.remove("gone")

    with pytest.raises(BackendNotFound):
        fail_half_way()
    registry.update(GPU, tier=2)

    assert before.version == 1
    assert [b.name for b in registry.snapshot.backends] == ["gpu"]


def test_the_load_is_the_same_in_every_snapshot(registry):
    before = registry.snapshot.by_id[GPU]

    registry.update(GPU, tier=4)
    registry.snapshot.by_id[GPU].load.acquire()

    assert before.load.in_flight == 1


def test_other_spellings_find_a_model_and_stay_out_of_listings(make_backend):
    registry = Registry()
    registry.add(make_backend("desk", "Llama3:latest", kind="ollama"))

    assert registry.snapshot.models == ("Llama3:latest",)
    for spelling in ("Llama3:latest", "llama3:latest", "llama3", "LLAMA3"):
        (found,) = registry.snapshot.having(spelling)
        assert found.own_name(spelling) == "Llama3:latest"
        assert found.facts(spelling) is not None


def test_a_model_in_lower_case_is_found_by_its_name_in_capitals(make_backend):
    registry = Registry()
    registry.add(make_backend("desk", "llama3:latest", kind="ollama"))

    (found,) = registry.snapshot.having("LLAMA3:latest")

    assert found.own_name("LLAMA3:latest") == "llama3:latest"


def test_letter_case_counts_where_the_kind_says_so(make_backend):
    registry = Registry()
    registry.add(make_backend("gpu", "Qwen3"))
    registry.add(make_backend("desk", "qwen3:latest", kind="ollama"))

    assert [b.name for b in registry.snapshot.having("Qwen3")] == ["gpu", "desk"]
    assert [b.name for b in registry.snapshot.having("qwen3")] == ["desk"]
    assert [b.name for b in registry.snapshot.having("QWEN3")] == ["desk"]


def test_a_model_that_exists_is_never_missing_while_another_thread_writes(make_backend):
    registry = Registry()
    registry.add(make_backend("gpu", "llama3"))
    stop = threading.Event()

    def write():
        n = 0
        while not stop.is_set():
            n += 1
            registry.update(GPU, models={name: ModelFacts(name=name) for name in ("llama3", f"other-{n}")})
            registry.update(GPU, status=Status.HEALTHY if n % 2 else Status.UNHEALTHY)

    writer = threading.Thread(target=write)
    writer.start()
    missing = sum(not registry.snapshot.having("llama3") for _ in range(20_000))
    stop.set()
    writer.join()

    assert missing == 0
    assert registry.snapshot.version > 10


def test_a_thousand_backends_are_asked_and_changed_quickly(make_backend):
    registry = Registry()
    with registry.batch():
        for n in range(1000):
            registry.add(make_backend(f"gpu-{n:04}", *(f"model-{m}" for m in range(10))))

    began = time.perf_counter()
    found = [registry.snapshot.having(f"model-{m}") for m in range(10)]
    asked_s = (time.perf_counter() - began) / 10
    began = time.perf_counter()
    for n in range(20):
        registry.update(backend_id(f"gpu-{n:04}"), status=Status.UNHEALTHY)
    published_s = (time.perf_counter() - began) / 20

    assert {len(backends) for backends in found} == {1000}
    assert asked_s < 0.001
    # A machine under load is slow; ten times faster is usual.
    assert published_s < 0.05
