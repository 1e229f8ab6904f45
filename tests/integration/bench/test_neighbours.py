"""Neighbours that this machine does not have."""

import pytest
import run
from comparing import installing, neighbours
from comparing.installing import Apt, Npm
from comparing.neighbours import NAMES_IN_PROMISES, NEIGHBOURS
from comparing.thresholds import THRESHOLDS


@pytest.fixture
def bare_machine(monkeypatch, tmp_path):
    """A machine with no programs at all."""
    monkeypatch.setattr(neighbours, "find", lambda *_: None)
    monkeypatch.setattr(installing.shutil, "which", lambda *_, **__: None)


@pytest.mark.usefixtures("bare_machine")
def test_a_neighbour_that_is_absent_is_skipped_with_one_line_that_says_how_to_get_it():
    said = []

    assert neighbours.chosen(NEIGHBOURS, said.append) == []

    assert [line.partition(":")[0] for line in said] == list(NEIGHBOURS)
    assert said[0] == "nginx: skipped, because it is not installed; --install gets the Debian package nginx-light"


@pytest.mark.usefixtures("bare_machine")
def test_what_cannot_be_installed_is_told_and_stops_nothing():
    said = []

    neighbours.install(["nginx", "portkey"], said.append)

    assert said == [
        "nginx: not installed, because this machine has no apt-get for the Debian package nginx-light",
        f"portkey: not installed, because this machine has no npm for {NEIGHBOURS['portkey'].package.text}",
    ]


def test_debian_packages_are_left_to_root(monkeypatch):
    monkeypatch.setattr(installing.shutil, "which", lambda _: "/usr/bin/apt-get")
    monkeypatch.setattr(installing.os, "geteuid", lambda: 1000)

    assert Apt("haproxy").install() == "not installed, because only root may; run: apt-get install haproxy"


def test_packages_go_into_folders_of_their_own():
    folders = [it.package.folder for it in NEIGHBOURS.values() if not isinstance(it.package, Apt)]

    assert len(set(folders)) == len(folders)
    assert all(folder.is_relative_to(installing.CACHE) for folder in folders)
    assert Npm("@a/b").folder == installing.CACHE / "b/node_modules/.bin"


def test_promises_name_neighbours_that_are_measured_by_default():
    limits = [limit for it in THRESHOLDS for limit in (it.limit, it.goal) if limit is not None]

    assert {limit.against for limit in limits if limit.against} == set(NAMES_IN_PROMISES)


@pytest.mark.parametrize(
    ("words", "names"),
    [
        ([], tuple(NEIGHBOURS)),
        (["--quick"], NAMES_IN_PROMISES),
        (["--lane", "paced"], NAMES_IN_PROMISES),
        (["--quick", "--neighbours", "all"], tuple(NEIGHBOURS)),
        (["--neighbours", "none"], ()),
        (["--neighbours", "haproxy,litellm"], ("haproxy", "litellm")),
    ],
)
def test_neighbours_are_chosen_by_options(words, names):
    assert run.options_of(words).neighbours == names


def test_an_unknown_neighbour_is_refused(capsys):
    with pytest.raises(SystemExit):
        run.options_of(["--neighbours", "ngnix"])

    assert "'ngnix' is none of nginx, haproxy" in capsys.readouterr().err
