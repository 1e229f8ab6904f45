"""The example of each hook is a plugin that works; each hook's test has the hook's name in its own."""

import asyncio
import re
from contextlib import asynccontextmanager, nullcontext
from datetime import UTC, date, datetime
from decimal import Decimal

import pytest
from click.testing import CliRunner
from structlog.testing import capture_logs

from nexus import hookspecs
from nexus.config.schema import PluginLoadingConfig, RoutingConfig, StoreConfig
from nexus.domain.request import Requirements
from nexus.errors import ConfigError, StoreError
from nexus.plugin_manager import PluginManager
from nexus.routing.assembly import build_router
from nexus.routing.decision_record import Request
from nexus.routing.router import Routing
from nexus.simulator import Settings, Simulator, in_thread
from nexus.store.memory import MemoryStore
from nexus.store.sqlite import SqliteStore
from nexus.testing.builders import CHAT, make_backend, make_fleet, make_intent, make_outcome
from nexus.testing.client import ask, chat
from nexus.testing.fleets import table_of
from nexus.testing.imports import assert_only_uses_api
from nexus.testing.proxy import nexus_in_loop
from nexus.testing.store_contract import StoreContract
from nexus.testing.waiting import until

NIGHT, DAY = datetime(2026, 5, 1, 3, tzinfo=UTC), datetime(2026, 5, 1, 12, tzinfo=UTC)

HOOKS = [name for name in vars(hookspecs) if name.startswith("nexus_")]


@pytest.fixture
def contributions(root):
    """Load one example as ``--plugin`` does, beside nothing else."""

    def load(name, **table):
        file = root / f"docs/examples/{name}.py"
        manager = PluginManager.load(PluginLoadingConfig(autoload=False), {name}, files=[file])
        return manager.configure({name: table})

    return load


def test_every_hook_has_a_section_an_example_and_a_test(page):
    sections = dict(re.findall(r"^(nexus_\w+)\n-+\n((?:.|\n)*?)(?=^nexus_|\Z)", page("reference/hooks"), re.MULTILINE))
    tests = " ".join(name for name in globals() if name.startswith("test_"))

    assert list(sections) == HOOKS
    assert [name for name, text in sections.items() if "literalinclude:: ../examples/" not in text] == []
    assert [name for name in HOOKS if f"test_{name}" not in tests] == []


def test_every_example_imports_the_api_and_nothing_else(root):
    assert_only_uses_api(root / "docs/examples")


def chosen(contributions, at, **routing):
    fleet = make_fleet(make_backend("gpu-1", priority=90), make_backend("openai", zone="cloud", priority=0))
    router, wanted = build_router(RoutingConfig(**routing), contributions), Requirements(model="llama3")
    asked = Request(id="r", endpoint=CHAT, requirements=wanted, headers={}, received_unix_s=at.timestamp())
    return Routing(router, asked).next(fleet).backend.name


def test_nexus_config_gives_a_table_that_is_checked(contributions):
    assert contributions("office_hours", first_hour=7).config_of("office_hours").first_hour == 7
    with pytest.raises(ConfigError, match=r"first_hour"):
        contributions("office_hours", first_hour=25)


def test_nexus_config_gives_a_key_of_policies(contributions):
    policies = ({"model_pattern": "llama*", "at_night": True},)

    assert chosen(contributions("office_hours"), NIGHT, policies=policies) == "openai"


def test_nexus_reconcilers_gives_a_stage_that_decides(contributions):
    office_hours = contributions("office_hours")

    assert [chosen(office_hours, at) for at in (NIGHT, DAY)] == ["gpu-1", "openai"]


async def test_nexus_discoverers_gives_a_finder(contributions, tmp_path):
    hosts = tmp_path / "hosts.txt"
    hosts.write_text("http://gpu-1:8000\n")
    ((_, finder),) = contributions("hosts_file", path=str(hosts), every_seconds=0.01).discoverers()

    seen = finder.watch()
    before = await anext(seen)
    hosts.write_text("http://gpu-2:8000\nhttp://gpu-3:8000\n")
    after = await anext(seen)
    await seen.aclose()

    assert [[found.name for found in yielded] for yielded in (before, after)] == [
        ["gpu-1:8000"],
        ["gpu-2:8000", "gpu-3:8000"],
    ]


def test_nexus_backend_kinds_gives_a_kind_whose_answers_are_read(contributions):
    ((_, kind),) = contributions("tgi").backend_kinds()

    (facts,) = kind.listing.decode(b'{"model_id": "llama3", "max_total_tokens": 8192, "sha": "0"}')

    assert (kind.name, facts.name, facts.context_length) == ("tgi", "llama3", 8192)
    with pytest.raises(ValueError, match="model_id"):
        kind.listing.decode(b"{}")


def test_nexus_stores_gives_a_store_by_its_name(contributions):
    ((_, name, make),) = contributions("dict_store").stores()

    assert name == "dict"
    assert make(StoreConfig()).survives_restart is False


class TestNexusStores(StoreContract):
    """The example keeps every promise of a store."""

    @pytest.fixture(autouse=True)
    def _load(self, contributions):
        ((_, _, self._make),) = contributions("dict_store").stores()

    def make(self, folder):
        return self._make(StoreConfig())


@pytest.fixture
async def store():
    store = MemoryStore()
    await store.open()
    yield store
    await store.close()


def quota(contributions):
    return contributions("daily_quota", requests={"openai": 3}, every_seconds=0.01)


def left(quota, at):
    ((_, stage),) = quota.reconcilers()
    intent = make_intent(backends={"gpu-1": "local", "openai": "cloud"}, received_at=at)
    stage.reconcile(intent)
    return intent.candidates


@pytest.mark.parametrize(
    ("must_last", "survives", "is_refused"), [(True, False, True), (True, True, False), (False, False, False)]
)
def test_nexus_configured_refuses_a_store_that_forgets(contributions, tmp_path, must_last, survives, is_refused):
    quotas = contributions("daily_quota", must_last=must_last)
    store = SqliteStore(tmp_path / "nexus.sqlite3") if survives else MemoryStore()
    refusal = r"\[plugins.daily_quota\]: the store forgets .* - at `must_last`; set kind = \"sqlite\""

    with pytest.raises(ConfigError, match=refusal) if is_refused else nullcontext():
        quotas.check(store)


async def test_nexus_services_brings_back_what_was_counted_before(contributions, store):
    today = datetime.now(UTC)
    await store.add(f"daily_quota/{today.date()}/openai", 3)
    quotas = quota(contributions)
    ((_, service),) = quotas.services(store, lambda: None)

    before = left(quotas, today)
    async with service:
        after = left(quotas, today)

    assert (before, after) == ({"gpu-1", "openai"}, {"gpu-1"})


async def test_nexus_services_writes_down_each_request_once(contributions, store):
    quotas = quota(contributions)
    counts = counts_of(quotas)
    key = f"daily_quota/{date.min}/openai"
    ((_, old),) = quotas.services(store, lambda: None)
    ((_, new),) = quotas.services(store, lambda: None)

    # As at a reload: for a moment there are two.
    async with new:
        async with old:
            for _ in range(5):
                counts.unsaved[date.min, "openai"] += 1
                await asyncio.sleep(0.01)
        written = await store.get(key)

    assert (written, await store.get(key)) == (b"5", b"5")


async def test_nexus_services_keeps_what_a_failing_store_did_not_take(contributions, store, monkeypatch):
    quotas = quota(contributions)
    counts = counts_of(quotas)
    ((_, service),) = quotas.services(store, lambda: None)

    async def refuse(_changes):
        raise StoreError("the disk is full")

    async with service:
        counts.unsaved[date.min, "openai"] += 2
        with monkeypatch.context() as patched:
            patched.setattr(store, "apply", refuse)
            await asyncio.sleep(0.03)
            used = counts.used(date.min, "openai")

    assert used == 2
    assert await store.add(f"daily_quota/{date.min}/openai", 0) == Decimal(2)


def counts_of(contributions):
    ((plugin, _),) = contributions.reconcilers()
    return plugin.state["counts"]


@asynccontextmanager
async def running(root, name, config=""):
    """Run a proxy with one example; give its URL, and what it answered to one request."""
    with in_thread(simulator := Simulator(Settings(name="gpu-1"))):
        async with nexus_in_loop(table_of(simulator) + config, (root / f"docs/examples/{name}.py",)) as nexus:
            url = f"http://127.0.0.1:{nexus.port}"
            yield url, await asyncio.to_thread(ask, url, "/v1/chat/completions", chat())


async def test_nexus_routes_gives_a_page(root):
    async with running(root, "endings") as (url, _):
        page = await asyncio.to_thread(until, lambda: ask(url, "/admin/endings").json())

        assert page == {"finished": 1}


def test_nexus_observers_are_called_when_there_is_something_to_observe(contributions):
    assert contributions("slow_requests").exchange_observers() == ()
    (observe,) = contributions("slow_requests", longer_than_seconds=60).exchange_observers()

    with capture_logs() as lines:
        for duration_s in (59.0, 61.0):
            observe(make_outcome(duration_s=duration_s))

    assert [(line["event"], line["took_s"]) for line in lines] == [("slow_request", 61.0)]


async def test_nexus_exchange_finished_sees_how_a_request_ended(root):
    async with running(root, "daily_quota", "[plugins.daily_quota]\nrequests = {gpu-1 = 1}\n") as (url, reply):
        again = await asyncio.to_thread(ask, url, "/v1/chat/completions", chat())

        assert (reply.status, again.status) == (200, 503)
        assert again.json()["context"]["rejection_reasons"][0]["reconciler"] == "daily-quota"


def test_nexus_commands_gives_a_command(contributions):
    ((_, command),) = contributions("office_hours", first_hour=0, last_hour=24).commands()

    assert CliRunner().invoke(command).output == "open\n"
