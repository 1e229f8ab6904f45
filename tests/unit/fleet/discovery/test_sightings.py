import msgspec
from structlog.testing import capture_logs

from nexus.fleet.discovery.discoverer import Discovered
from nexus.fleet.discovery.sightings import MAX_SIGHTINGS, Sightings

DESK = Discovered("desk", "http://127.0.0.1:11434", "ollama")


def names(sightings, now):
    return [sighting.found.name for sighting in sightings.listed(now=now, grace_s=60)]


def test_a_missing_server_stays_for_the_grace_period():
    sightings = Sightings()

    sightings.update("local", [DESK], now=0)
    sightings.update("local", [], now=10)

    assert names(sightings, 70) == ["desk"]
    assert names(sightings, 70.1) == []


def test_a_server_that_comes_back_in_time_was_never_missing():
    sightings = Sightings()

    sightings.update("local", [DESK], now=0)
    sightings.update("local", [], now=10)
    sightings.update("local", [DESK], now=20)

    assert names(sightings, 500) == ["desk"]


def test_a_discoverer_removes_only_its_own_servers():
    sightings = Sightings()

    sightings.update("local", [DESK], now=0)
    sightings.update("mdns", [], now=10)

    assert names(sightings, 500) == ["desk"]


def test_seen_servers_come_before_missing_ones():
    sightings = Sightings()

    sightings.update("local", [DESK], now=0)
    sightings.update("local", [Discovered("new", DESK.url)], now=1)

    assert names(sightings, 2) == ["new", "desk"]


def test_sightings_are_limited():
    sightings = Sightings()

    sightings.update("mdns", [Discovered(f"n{n}", "http://h") for n in range(MAX_SIGHTINGS + 5)], now=0)

    assert len(names(sightings, 0)) == MAX_SIGHTINGS


def test_a_server_that_a_certain_source_no_longer_sees_is_gone_at_once():
    sightings = Sightings()

    sightings.update("dns", [DESK], now=0, is_certain=True)
    sightings.update("dns", [], now=1, is_certain=True)

    assert names(sightings, 1) == []


def seen_at(sightings, now):
    (sighting,) = sightings.listed(now=now, grace_s=60)
    return sighting.last_seen(now=now), sighting.is_stale


def test_a_missing_server_was_last_seen_at_its_last_look():
    sightings = Sightings()

    sightings.update("mdns", [DESK], now=10)
    sightings.update("mdns", [], now=20)

    assert seen_at(sightings, 30) == (10, False)


def test_a_followed_server_counts_as_seen_until_its_discoverer_cannot_look():
    sightings = Sightings()
    stale = msgspec.structs.replace(DESK, is_stale=True)

    sightings.update("dns", [DESK], now=10, is_certain=True)
    followed = seen_at(sightings, 500)
    for now in (600, 700):
        sightings.update("dns", [stale], now=now, is_certain=True)
    lost = seen_at(sightings, 800)
    sightings.update("dns", [DESK], now=900, is_certain=True)

    assert (followed, lost, seen_at(sightings, 999)) == ((500, False), (600, True), (999, False))
    assert [sighting.found for sighting in sightings.listed(now=999, grace_s=60)] == [DESK]


def test_missing_servers_with_ever_new_names_are_limited():
    sightings = Sightings()
    sightings.update("mdns", [DESK], now=0)

    for now in range(1, 6):
        sightings.update("mdns", [Discovered(f"{now}-{n}", "http://10.0.0.1") for n in range(MAX_SIGHTINGS)], now=now)

    listed = names(sightings, 6)
    assert "desk" in listed
    assert len(listed) == 2 * MAX_SIGHTINGS


def test_a_known_server_is_not_left_out_for_a_new_one():
    sightings = Sightings()
    known = [Discovered(f"n{n}", "http://h") for n in range(MAX_SIGHTINGS)]
    sightings.update("kubernetes", known, now=0, is_certain=True)

    sightings.update("kubernetes", [Discovered("a", "http://h"), *known], now=1, is_certain=True)

    assert set(names(sightings, 1)) == {found.name for found in known}


def test_left_out_servers_are_logged_once():
    sightings = Sightings()
    many = [Discovered(f"n{n}", "http://h") for n in range(MAX_SIGHTINGS + 5)]

    with capture_logs() as events:
        for seen in (many, many, many[:3], many):
            sightings.update("kubernetes", seen, now=0)

    told = {"event": "servers_left_out", "source": "kubernetes", "seen": 1005, "most": 1000, "log_level": "warning"}
    assert events == [told, told]
