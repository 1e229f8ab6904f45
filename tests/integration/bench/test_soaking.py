"""The soak judges memory and access lines by what they say."""

from enduring.judging import defects, wrongly_logged
from enduring.traffic import Sent
from enduring.watching import MIB, Reading, growth


def line(name, event="exchange_finished", level="info"):
    return {"event": event, "level": level, "client_request_id": name}


def test_a_steady_rise_is_measured_in_the_second_half_only():
    settling = [Reading(at, (50 + at) * MIB) for at in range(0, 150, 2)]
    rising = [Reading(at, int((200 + (at - 150) / 60) * MIB)) for at in range(150, 301, 2)]

    found = growth(settling + rising, 0.0, 300.0)

    assert found is not None
    assert abs(found.mib_per_minute - 1.0) < 0.01
    assert 200 <= found.first_mib < 200.2
    assert 202.3 < found.last_mib <= 202.5


def test_a_process_that_was_killed_in_the_first_half_is_not_judged():
    assert growth([Reading(at, MIB) for at in range(0, 60, 2)], 0.0, 300.0) is None


def test_each_request_needs_exactly_one_access_line():
    sent = {name: Sent(10.0, 11.0, 200) for name in ("once", "twice", "never")}
    sent["left before"] = Sent(10.0, 11.0, is_sent=False)

    wrong, lost = wrongly_logged(
        sent, [line("once"), line("twice"), line("twice"), line("a stranger")], killed_at=100.0
    )

    assert {each.split(":")[0] for each in wrong} == {"twice", "never", "a stranger"}
    assert lost == 0


def test_a_killed_worker_may_lose_the_lines_of_what_it_had():
    sent = {"in flight": Sent(95.0, 100.1), "long before": Sent(10.0, 11.0, 200)}

    wrong, lost = wrongly_logged(sent, [], killed_at=100.0)

    assert [each.split(":")[0] for each in wrong] == ["long before"]
    assert lost == 1


def test_errors_and_text_that_is_no_log_are_defects():
    lines = [
        line("a"),
        line("a", level="error"),
        line("b", event="store_failed", level="error"),
        line("c", "task_failed"),
    ]

    found = defects('{"event": "..."}\nTraceback (most recent call last):\n', lines)

    assert [each.split(":")[0] for each in found] == [
        "task_failed", "store_failed", "Traceback (most recent call last)", "a traceback",
    ]  # fmt: skip
