"""A server that fails, hangs, restarts or forgets: calls fail in time, and no change is made twice."""

import asyncio
import re
import time
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import pytest

from nexus.api import Add, Delete, Put, SlotClaim, StoreError, StoreOutcomeUnknown
from nexus.testing.ports import free_port
from nexus.testing.readme_contract import Readme
from nexus.testing.waiting import eventually
from nexus_redis import hints
from nexus_redis import link as link_module
from nexus_redis.config import RedisConfig
from nexus_redis.server import client_of
from nexus_redis.store import RedisStore

QUICK_S = 0.1


@pytest.fixture
def opened(new_store):
    """Open a store whose calls may take a tenth of a second: ``async with opened(server) as store:``."""

    @asynccontextmanager
    async def open_(server, **keys):
        store = new_store(server, **{"timeout_seconds": QUICK_S, **keys})
        await store.open()
        try:
            yield store
        finally:
            await store.close()

    return open_


async def recovered(store):
    """Wait until calls succeed again."""
    async with asyncio.timeout(10):
        while True:
            with suppress(StoreError):
                return await store.get("any")
            await asyncio.sleep(0.01)


async def test_a_hanging_server_fails_calls_in_time_and_then_at_once(own_server, opened):
    server = own_server()
    async with opened(server) as store:
        server.hang()
        began = time.monotonic()
        with pytest.raises(StoreOutcomeUnknown, match="did not answer within"):
            await store.add("n", 1)
        first_s = time.monotonic() - began
        began = time.monotonic()
        for _ in range(100):
            with pytest.raises(StoreError, match="did not answer"):
                await store.get("n")
        hundred_s = time.monotonic() - began
        server.go_on()
        await recovered(store)

        assert QUICK_S <= first_s < 5 * QUICK_S
        assert hundred_s < QUICK_S
        assert await store.add("m", 1) == 1


@pytest.mark.parametrize("attempt", range(3))
async def test_a_change_that_hung_is_decided_before_the_next_call(own_server, opened, attempt):
    server = own_server()
    async with opened(server) as store:
        await store.get("n")
        server.hang()
        with pytest.raises(StoreOutcomeUnknown):
            await store.add("n", 1)
        server.go_on()
        await recovered(store)

        decided = await store.get("n")
        for _ in range(20):
            await asyncio.sleep(0)
            assert await store.get("n") == decided


async def test_what_was_voided_is_never_made(server, opened):
    async with opened(server) as store:
        link = store._link
        made = f"{store._operation}late"
        await link._client.set(made, "void")

        answer = await link.call("apply", 3, store._entries, store._order, made, 1000, "A", "n", "1", key=made)

        assert (answer, await store.get("n")) == (b"void", None)


async def test_claims_that_were_voided_are_never_made(server, opened):
    async with opened(server) as store:
        link = store._link
        await link._client.set("late", "void")

        answer = await link.call("renew", 3, store._replicas, store._claims, "late", "one", 5000, key="late")

        assert (answer, (await store.renew("two", {}, ttl_s=5)).replicas) == ([], 1)


async def test_hints_come_again_after_the_server_was_away(own_server, new_store, monkeypatch):
    monkeypatch.setattr(hints, "RETRY_S", 0.02)
    server = own_server()
    received = asyncio.Event()
    sender, receiver = (new_store(server, prefix="hints", timeout_seconds=QUICK_S) for _ in range(2))
    receiver.listen(lambda _topic, _message: received.set())
    for store in (sender, receiver):
        await store.open()
    for _ in range(2):
        async with asyncio.timeout(10):
            while not received.is_set():
                with suppress(StoreError):
                    await sender.publish("slots", b"gpu")
                await asyncio.sleep(0.01)
        server.kill()
        server.start()
        received.clear()

    for store in (sender, receiver):
        await store.close()


async def test_a_change_that_is_sent_twice_is_made_once(server, opened, monkeypatch):
    async with opened(server) as store:
        pipelined = link_module.Link._pipelined
        lost = []

        async def lose_the_first_answer(link, calls):
            answers = await pipelined(link, calls)
            if not lost:
                lost.extend(answers)
                raise link_module.NoConnectionError("closed")
            return answers

        monkeypatch.setattr(link_module.Link, "_pipelined", lose_the_first_answer)

        assert await store.add("n", 5) == 5
        assert lost
        assert await store.get("n") == b"5"


async def test_a_connection_that_the_server_closed_is_replaced_unnoticed(server, opened):
    async with opened(server) as store:
        await store.add("n", 1)
        with server.client() as other:
            other.client_kill_filter(_type="normal", skipme=True)

        assert await store.add("n", 1) == 2


async def test_a_server_without_the_scripts_gets_them_again(server, opened):
    async with opened(server) as store:
        await store.add("n", 1)
        with server.client() as other:
            other.script_flush()

        assert await asyncio.gather(*(store.add("n", 1) for _ in range(5))) == [2, 3, 4, 5, 6]


async def test_a_caller_that_is_cancelled_in_mid_call_leaves_the_connection_as_it_was(server, opened):
    async with opened(server, timeout_seconds=2) as store:
        for turns in range(12):
            call = asyncio.ensure_future(store.apply((Put("a", b"%d" % turns), Add("n", 1))))
            for _ in range(turns):
                await asyncio.sleep(0)
            call.cancel()
            await asyncio.gather(call, return_exceptions=True)
            await store.put("b", b"%d" % turns)

            assert await store.get("b") == b"%d" % turns

        with server.client() as other:
            assert other.info("clients")["connected_clients"] <= 4


async def test_a_server_that_restarts_with_its_data_is_found_again(own_server, opened):
    server = own_server(durable=True)
    async with opened(server) as store:
        await store.apply((Put("a", b"1"), Add("n", 2)))
        server.kill()
        with pytest.raises(StoreError):
            await store.get("a")
        server.start()
        await recovered(store)

        assert await store.scan("") == (("a", b"1"), ("n", b"2"))


async def test_a_thousand_calls_share_round_trips(server, opened):
    async with opened(server, timeout_seconds=5) as store:
        assert sorted(await asyncio.gather(*(store.add("n", 1) for _ in range(1000)))) == list(range(1, 1001))


async def test_calls_that_wait_for_a_server_that_hangs_do_not_say_that_it_is_overloaded(own_server, opened):
    server = own_server()
    async with opened(server) as store:
        server.hang()
        results = await asyncio.gather(*(store.get("n") for _ in range(300)), return_exceptions=True)
        server.go_on()

        assert {str(result).partition(": ")[2] for result in results} == {"it did not answer within 0.1 s"}
        await recovered(store)


def test_the_error_of_the_system_is_found_below_those_of_the_library():
    link, refused = link_module.Link(client_of(RedisConfig()), "a:1", 0.25), ConnectionRefusedError(111, "address")
    first, second = link_module.NoConnectionError("Error 111"), link_module.NoConnectionError("Error 111")
    second.__context__, first.__context__ = first, refused

    assert link._said(second) == "store a:1: no connection: Connection refused"


async def test_more_calls_than_may_wait_are_refused_at_once(own_server, opened):
    server = own_server()
    async with opened(server) as store:
        server.hang()
        results = await asyncio.gather(*(store.add("n", 1) for _ in range(1200)), return_exceptions=True)
        server.go_on()

        unknown = sum(isinstance(result, StoreOutcomeUnknown) for result in results)
        assert all(isinstance(result, StoreError) for result in results)
        assert unknown <= link_module.MAX_SENT
        assert sum("overloaded" in str(result) for result in results) >= 200
        await recovered(store)
        assert int(await store.get("n") or 0) <= unknown


async def test_a_full_server_says_so_and_changes_nothing(own_server, opened):
    server = own_server("--maxmemory", "3mb", "--maxmemory-policy", "noeviction")
    async with opened(server, timeout_seconds=5) as store:
        written = 0

        async def fill():
            nonlocal written
            while True:
                await store.apply([Add("n", 1), *(Put(f"{written:03}/{n}", b"x" * 60_000) for n in range(5))])
                written += 1

        with pytest.raises(StoreError, match="maxmemory") as refused:
            await fill()

        assert not isinstance(refused.value, StoreOutcomeUnknown)
        assert int(await store.get("n")) == written
        assert await store.scan(f"{written:03}/") == ()


@pytest.mark.parametrize("policy", ["allkeys-lru", "allkeys-random"])
async def test_a_server_that_drops_keys_is_refused(own_server, new_store, policy):
    server = own_server("--maxmemory-policy", policy)

    with pytest.raises(StoreError, match=f"its maxmemory-policy is {policy}.*set it to noeviction"):
        await new_store(server).open()


async def test_a_node_of_a_cluster_without_the_keys_is_refused(own_server, new_store):
    server = own_server("--cluster-enabled", "yes", "--port", str(free_port()))

    with pytest.raises(StoreError, match=r"a node of a cluster without these keys .*give the address of the one"):
        await new_store(server).open()


async def test_a_server_that_becomes_a_replica_is_left_until_it_is_a_primary_again(own_server, opened):
    server = own_server()
    async with opened(server) as store:
        with server.client() as other:
            other.replicaof("127.0.0.1", "1")
            with pytest.raises(StoreOutcomeUnknown, match="read only replica"):
                await store.add("n", 1)
            await eventually(lambda: "it is a replica" in (store._link.failure or ""))
            other.replicaof("NO", "ONE")
        await recovered(store)

        assert await store.add("n", 1) == 1


async def test_a_server_that_is_not_there_is_named(tmp_path):
    store = RedisStore(RedisConfig(url=f"unix://{tmp_path}/none"))

    with pytest.raises(StoreError, match=r"store .*/none: .*No such file"):
        await store.open()


async def test_a_port_where_nothing_listens_is_said_in_plain_words():
    store = RedisStore(RedisConfig(url=f"redis://127.0.0.1:{free_port()}"))

    with pytest.raises(StoreError, match=r"^store 127.0.0.1:\d+: no connection: Connection refused$"):
        await store.open()


async def test_a_file_without_certificates_is_named(tmp_path):
    empty = tmp_path / "ca.pem"
    empty.touch()

    for path, why in ((empty, "it has no certificates"), (tmp_path / "none", "No such file or directory")):
        with pytest.raises(StoreError, match=f"ca_file {path} cannot be used: {why}"):
            await RedisStore(RedisConfig(url="rediss://127.0.0.1", ca_file=str(path))).open()


async def test_a_password_comes_from_its_variable_and_is_never_shown(own_server, new_store, monkeypatch):
    server = own_server("--requirepass", "open sesame")
    monkeypatch.setenv("STORE_PASSWORD", "open sesame")
    store = new_store(server, password_env="STORE_PASSWORD")
    await store.open()
    await store.close()

    with pytest.raises(StoreError, match="it requires a password; name its variable"):
        await new_store(server).open()
    with pytest.raises(StoreError, match=r"variable NO_SUCH, named by \[plugins.redis\] password_env, is not set"):
        await new_store(server, password_env="NO_SUCH").open()
    monkeypatch.setenv("STORE_PASSWORD", "wrong horse")
    with pytest.raises(StoreError, match="it refuses the user and password") as refused:
        await store.open()
    assert "horse" not in str(refused.value)


async def test_additions_over_connections_that_break_count_once(server, opened):
    async with opened(server, timeout_seconds=2) as store:
        is_over = asyncio.Event()

        async def break_connections():
            while not is_over.is_set():
                if store._link.failure is None:
                    with server.client() as other:
                        await asyncio.to_thread(other.client_kill_filter, _type="normal", skipme=True)
                await asyncio.sleep(0.01)

        breaking = asyncio.ensure_future(break_connections())
        results = []
        for _ in range(40):
            results += await asyncio.gather(*(store.add("n", 1) for _ in range(20)), return_exceptions=True)
            if store._link.failure is not None:
                await recovered(store)
        is_over.set()
        await breaking
        await recovered(store)

        sure = sum(not isinstance(result, Exception) for result in results)
        unknown = sum(isinstance(result, StoreOutcomeUnknown) for result in results)
        assert all(isinstance(result, StoreError) for result in results if isinstance(result, Exception))
        assert sure <= int(await store.get("n")) <= sure + unknown
        assert len({result for result in results if not isinstance(result, Exception)}) == sure


async def test_what_a_hanging_server_did_after_all_is_seen_by_the_next_call(own_server, opened):
    server = own_server()
    async with opened(server, timeout_seconds=0.05) as store:
        sure = unknown = 0
        for _ in range(8):
            server.hang()
            calls = [asyncio.ensure_future(store.add("n", 1)) for _ in range(5)]
            results = await asyncio.gather(*calls, return_exceptions=True)
            server.go_on()
            await recovered(store)
            sure += sum(not isinstance(result, Exception) for result in results)
            unknown += sum(isinstance(result, StoreOutcomeUnknown) for result in results)
            first = await store.get("n")

            assert await store.get("n") == first

        assert sure <= int(first or 0) <= sure + unknown


async def test_an_access_list_needs_no_more_than_the_readme_says(own_server, new_store, monkeypatch):
    allowed = Readme(Path(__file__).parents[1] / "README.rst").text.partition("access list needs")[2]
    commands = set(re.findall(r"``([a-z|]+)``", allowed))
    server = own_server()
    with server.client() as admin:
        admin.acl_setuser(
            "nexus",
            enabled=True,
            nopass=True,
            keys=["{acl}:*"],
            channels=["{acl}:*"],
            reset=True,
            commands=[f"+{command}" for command in sorted(commands)],
        )
    monkeypatch.setenv("ANY", "any")
    store = new_store(server, prefix="acl", url=server.url.replace("unix://", "unix://nexus@"), password_env="ANY")
    store.listen(lambda _topic, _message: None)
    await store.open()

    await store.apply([Put("a", b"1"), Add("n", 1), Delete("b")])
    assert await store.scan("") == (("a", b"1"), ("n", b"1"))
    assert await store.get("n") == b"1"
    assert (await store.renew("one", {"gpu": SlotClaim(limit=2, in_use=0, wanted=1)}, ttl_s=5)).replicas == 1
    await store.leave("one")
    with server.client() as admin:
        await eventually(lambda: admin.pubsub_numsub("{acl}:hints")[0][1] == 1)
    await store.publish("slots", b"gpu")
    await store.close()
