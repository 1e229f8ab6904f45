"""Failures of kinds, discoverers and stores name their plugin."""

import asyncio

import pytest

from nexus.app.composition.guards import guarded_discoverers, guarded_factory, guarded_kind
from nexus.domain.kinds import BackendKind, FactsLookup, ModelListing, ServerLookup
from nexus.errors import PluginError, StoreError
from nexus.fleet.discovery.discoverer import Discoverer
from nexus.plugin_manager import Plugin

NIGHT = Plugin("night", "nexus-proxy-night", "0.2", {})


def exits(*_):
    raise SystemExit(4)


def kind_that(read):
    return BackendKind(
        name="owl",
        endpoints=frozenset(),
        health_path="/",
        listing=ModelListing("/models", read),
        lookups=(FactsLookup("/more", read, body=read),),
        server_lookups=(ServerLookup("/server", read),),
    )


def test_any_exception_of_a_kind_becomes_a_value_error():
    kind = guarded_kind(NIGHT, kind_that(exits))
    reads = kind.listing.decode, kind.lookups[0].decode, kind.lookups[0].body, kind.server_lookups[0].decode

    for read in reads:
        with pytest.raises(ValueError, match=r"the kind 'owl' of plugin 'night' .* failed: SystemExit: 4"):
            read(b"")


@pytest.mark.parametrize("listed", [None, [None], "model"])
def test_a_listing_with_other_types_is_an_error(listed):
    with pytest.raises(ValueError, match="'night'"):
        guarded_kind(NIGHT, kind_that(lambda _: listed)).listing.decode(b"")


class Contributed:
    def __init__(self, discoverer):
        self._discoverer = discoverer

    def discoverers(self):
        return ((NIGHT, self._discoverer),)


class Finder:
    name = "owls"

    def __init__(self, *seen):
        self._seen = seen

    async def watch(self):
        for seen in self._seen:
            yield seen
        raise asyncio.CancelledError


@pytest.mark.parametrize("seen", [(), (5,), (("http://gpu",),)])
async def test_a_failing_discoverer_is_named_with_its_plugin(seen):
    (finder,) = guarded_discoverers(Contributed(Finder(*seen)))

    with pytest.raises(PluginError, match=r"plugin 'night' .* discoverer 'owls' failed"):
        [_ async for _ in finder.watch()]


@pytest.mark.parametrize("is_so", [True, False])
def test_the_attributes_of_a_discoverer_are_kept(is_so):
    declared = Finder()
    declared.needs_approval = declared.is_certain = is_so

    (finder,) = guarded_discoverers(Contributed(declared))

    assert (finder.needs_approval, finder.is_certain) == (is_so, is_so)


def test_a_discoverer_without_attributes_has_the_defaults():
    (finder,) = guarded_discoverers(Contributed(Finder()))

    assert (finder.needs_approval, finder.is_certain) == (Discoverer.needs_approval, Discoverer.is_certain)


def test_a_discoverer_without_a_name_is_refused():
    with pytest.raises(PluginError, match="'night'"):
        guarded_discoverers(Contributed(object()))


def test_a_store_that_cannot_be_made_is_named_with_its_plugin():
    with pytest.raises(PluginError, match=r"'night' .* store 'owl' cannot be made: SystemExit: 4"):
        guarded_factory(NIGHT, "owl", exits)(None)


def test_an_error_of_nexus_from_a_store_is_not_wrapped():
    def refuses(_):
        raise StoreError("no such folder")

    with pytest.raises(StoreError, match="no such folder"):
        guarded_factory(NIGHT, "owl", refuses)(None)
