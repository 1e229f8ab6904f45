"""The stage of the page on cheap stages decides as it says, and keeps to what it declares."""

import sys
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

from nexus.testing.builders import make_backend, make_intent
from nexus.testing.reconciler_contract import ReconcilerContract

EXAMPLE = Path(__file__).parents[2] / "docs/examples/known_servers.py"


def stage_of(*names):
    spec = spec_from_file_location("known_servers", EXAMPLE)
    module = sys.modules[spec.name] = module_from_spec(spec)
    spec.loader.exec_module(module)
    del sys.modules[spec.name]
    return module.KnownServers(module.KnownConfig(names=names or None))


class TestKnownServers(ReconcilerContract):
    def make(self):
        return stage_of("gpu-1")


def test_only_discovered_servers_that_are_not_listed_are_excluded():
    intent = make_intent(
        backends=[
            make_backend("gpu-1", discovery_source="local"),
            make_backend("gpu-2", discovery_source="local"),
            make_backend("gpu-3"),
        ]
    )

    stage_of("gpu-1").reconcile(intent)

    assert intent.candidates == {"gpu-1", "gpu-3"}


def test_without_a_list_it_is_idle():
    assert [stage_of().is_idle(()), stage_of("gpu-1").is_idle(())] == [True, False]
