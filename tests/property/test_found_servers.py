"""Whatever several discoverers see, under whatever names, in whatever order: no decision holds for another server."""

import asyncio

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from nexus.config.discovery_schema import DiscoveryConfig
from nexus.config.schema import BackendConfig
from nexus.fleet.discovery.admission import FoundServers
from nexus.fleet.discovery.approval import applicants as module
from nexus.fleet.discovery.approval.applicants import Applicants
from nexus.fleet.discovery.approval.approvals import Approvals
from nexus.fleet.discovery.approval.trust import Trust
from nexus.fleet.discovery.discoverer import Discovered
from nexus.fleet.discovery.sightings import Sightings
from nexus.fleet.membership.locations import place_of
from nexus.fleet.plan import plan_fleet
from nexus.fleet.probing.detection import Detection

NAMES = ("desk", "desk-8000")
URLS = tuple(f"http://10.0.0.{number}:{port}" for number in (1, 2) for port in (8000,))
KINDS = ("vllm", "ollama")
NEED_APPROVAL = ("mdns", "lan")
SOURCES = (*NEED_APPROVAL, "dns")

servers = st.builds(Discovered, st.sampled_from(NAMES), st.sampled_from(URLS))
looks = st.tuples(
    st.just("look"), st.sampled_from(SOURCES), st.lists(servers, max_size=3, unique_by=lambda found: found.name)
)
decisions = st.tuples(st.just("decide"), st.sampled_from([Trust.APPROVED, Trust.REJECTED]), st.integers(0, 3))
restarts = st.tuples(st.just("serve"), st.sampled_from(URLS), st.sampled_from(KINDS))
reloads = st.tuples(
    st.just("reload"), st.dictionaries(st.sampled_from(NAMES), st.sampled_from(URLS), max_size=1), st.none()
)
steps = st.lists(looks | looks | decisions | decisions | restarts | reloads, min_size=4, max_size=12)


class House:
    """Discoverers, servers and an administrator."""

    def __init__(self):
        self.kinds = dict.fromkeys(URLS, "vllm")
        self.sightings = Sightings()
        self.applicants = Applicants(None, Approvals(), self.settle)
        self.found = FoundServers(self.applicants)
        self.plan = plan_fleet([])
        self.members = {}
        self.decided = {}
        self.now = 0.0

    async def detect(self, _, target):
        return Detection(self.kinds[target.url], 200)

    def settle(self):
        before = self.members
        fixed = self.plan.members.values()
        seen = self.sightings.listed(now=self.now, grace_s=self.plan.discovery.grace_period_seconds)
        self.members = {**self.plan.members, **self.found.members(seen, fixed, self.plan, NEED_APPROVAL)}
        self.check(before)

    def check(self, before):
        members = [*self.members.values()]
        names = [member.config.name for member in members]
        waiting = [applicant.name for applicant in self.found.waiting()]
        assert len({*names, *waiting}) == len([*names, *waiting])
        assert len({place_of(member.config.url) for member in members}) == len(members)
        assert self.plan.members.items() <= self.members.items()
        keys = {(member.source, member.found_as): member for member in before.values() if member.found_as}
        for member in members:
            if member.source in NEED_APPROVAL:
                trust, url = self.decided[member.source, member.found_as]
                assert (trust, url) == (Trust.APPROVED, member.config.url)
            known = keys.get((member.source, member.found_as))
            taken = {each.config.name for each in self.plan.members.values()}
            if known is not None and known.config.name not in taken:
                assert member.config.name == known.config.name

    async def take(self, action, one, other):
        self.now += 1.0
        if action == "look":
            self.sightings.update(one, other, now=self.now, is_certain=one == "dns")
        elif action == "serve":
            self.kinds[one] = other
        elif action == "reload":
            configs = [BackendConfig(name=name, url=url) for name, url in one.items()]
            self.plan = plan_fleet(configs, discovery=DiscoveryConfig(grace_period_seconds=2))
        else:
            await self.decide(one, other)
        self.settle()
        # What the applicants are is found out in the background.
        for _ in range(12):
            await asyncio.sleep(0)

    async def decide(self, trust, number):
        listed = [*self.applicants.listed()][number:]
        if not listed:
            return
        meant = listed[0]
        before = self.decided.get(meant.sighting.key)
        self.decided[meant.sighting.key] = trust, meant.found.url
        decided = await self.applicants.decide(meant.name, trust)
        assert decided is meant, (before, decided)


DESK, MOVED = (Discovered("desk", url) for url in URLS)
APPROVED = ("decide", Trust.APPROVED, 0)


@settings(deadline=None)
@given(steps)
@example([("look", "mdns", [DESK]), APPROVED, ("look", "mdns", [MOVED])])
@example([("look", "mdns", [DESK]), APPROVED, ("serve", DESK.url, "ollama"), ("look", "mdns", [DESK])])
@example([("look", "mdns", [DESK]), APPROVED, ("look", "lan", [MOVED]), APPROVED, ("look", "mdns", [DESK])])
@example([("look", "mdns", [DESK]), APPROVED, ("look", "lan", [DESK]), ("look", "mdns", [])])
@example([("look", "mdns", [DESK]), APPROVED, ("look", "dns", [MOVED]), ("look", "dns", [DESK])])
def test_a_decision_holds_for_the_server_that_it_was_made_about_alone(steps):
    async def live():
        house = House()
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(module, "detect", house.detect)
            for step in steps:
                await house.take(*step)
            await house.applicants.stop()
            house.settle()

    asyncio.run(live())
