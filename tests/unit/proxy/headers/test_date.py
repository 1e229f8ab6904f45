"""Every second has one line, and it is the right one."""

from nexus.proxy.headers import date as dates


def test_the_time_is_told_as_http_wants_it(monkeypatch):
    monkeypatch.setattr(dates.time, "time", lambda: 784_111_777.9)

    assert dates.date_line() == b"Date: Sun, 06 Nov 1994 08:49:37 GMT\r\n"


def test_a_line_is_made_once_a_second(monkeypatch):
    now = 1_000_000_000.0
    monkeypatch.setattr(dates.time, "time", lambda: now)
    first = dates.date_line()
    now += 0.9

    assert dates.date_line() is first
    now += 0.2
    assert dates.date_line() != first
