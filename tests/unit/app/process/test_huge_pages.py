"""Whether the program is started again for its memory, and with which settings."""

import os

import pytest

from nexus.app.process import huge_pages
from nexus.app.process.huge_pages import (
    environ_with_huge_pages,
    has_huge_pages,
    has_name_of,
    is_program,
    start_again,
)

SET = {"PYTHONMALLOC": "malloc", "GLIBC_TUNABLES": "glibc.malloc.hugetlb=1"}


@pytest.fixture
def modes(tmp_path, monkeypatch):
    """Return a function that writes the kernel's modes; glibc is new enough."""
    monkeypatch.setattr(os, "confstr", lambda _: "glibc 2.36")

    def write(text):
        path = tmp_path / "enabled"
        path.write_text(text)
        return path

    return write


def test_both_allocators_are_set_and_the_rest_stays():
    assert environ_with_huge_pages({"HOME": "/root"}) == {"HOME": "/root", **SET}


def test_other_tunables_stay():
    environ = environ_with_huge_pages({"GLIBC_TUNABLES": "glibc.malloc.check=3"})

    assert environ["GLIBC_TUNABLES"] == "glibc.malloc.check=3:glibc.malloc.hugetlb=1"


@pytest.mark.parametrize("chosen", [SET, {"PYTHONMALLOC": "pymalloc"}, {"GLIBC_TUNABLES": "glibc.malloc.hugetlb=0"}])
def test_who_has_chosen_an_allocator_keeps_it(chosen):
    assert environ_with_huge_pages(chosen) is None


@pytest.mark.parametrize(
    ("text", "expected"),
    [("always [madvise] never\n", True), ("[always] madvise never\n", True), ("always madvise [never]\n", False)],
)
def test_the_kernel_must_give_them_on_request(modes, text, expected):
    assert has_huge_pages(modes(text)) is expected


def test_a_kernel_without_them_has_none(modes, tmp_path):
    assert not has_huge_pages(tmp_path / "gone")


@pytest.mark.parametrize("version", [None, "glibc 2.34", "musl 1.2", "glibc"])
def test_another_c_library_does_not_ask_for_them(modes, monkeypatch, version):
    monkeypatch.setattr(os, "confstr", lambda _: version)

    assert not has_huge_pages(modes("[always] madvise never"))


def test_a_system_without_names_of_libraries_has_none(modes, monkeypatch):
    def confstr(_):
        raise ValueError("unrecognized configuration name")

    monkeypatch.setattr(os, "confstr", confstr)

    assert not has_huge_pages(modes("[always] madvise never"))


@pytest.mark.parametrize(
    ("argv", "orig_argv", "expected"),
    [
        (["/bin/nexus-proxy"], ["python3", "/bin/nexus-proxy"], True),
        (["/bin/nexus-proxy", "--port", "1"], ["python3", "-X", "dev", "/bin/nexus-proxy", "--port", "1"], True),
        (["/lib/nexus/__main__.py"], ["python3", "-m", "nexus"], True),
        (["/lib/nexus/__main__.py", "serve"], ["python3", "-m", "nexus", "serve"], True),
        (["/lib/nexus/__main__.py"], ["python3", "-W", "error", "-u", "-m", "nexus"], True),
        (["/lib/nexus/__main__.py"], ["python3", "-m", "debugpy", "--listen", "5678", "-m", "nexus"], False),
        (["/lib/nexus/__main__.py"], ["python3", "-m", "pdb", "-m", "nexus"], False),
        (["/bin/nexus-proxy"], ["python3", "/bin/coverage", "run", "/bin/nexus-proxy"], False),
        (["/bin/pytest", "serve"], ["python3", "/bin/pytest", "serve"], False),
        (["/lib/nexus/__main__.py", "serve"], ["python3", "run.py", "7"], False),
        (["/lib/nexus/__main__.py"], ["python3", "run.py"], False),
        (["nexus-proxy", "serve"], ["python3", "-c", "..."], False),
        (["/bin/nexus-proxy", "serve"], ["python3", "/bin/nexus-proxy", "check"], False),
    ],
)
def test_only_the_program_itself_is_started_again(argv, orig_argv, expected):
    assert is_program(argv, orig_argv) is expected


@pytest.mark.parametrize(
    ("script", "name", "expected"),
    [
        ("/opt/bin/nexus-proxy", "nexus-proxy\n", True),
        ("./nexus-proxy", "nexus-proxy\n", True),
        ("/opt/bin/nexus-proxy", "python3\n", False),
        ("/lib/nexus/__main__.py", "__main__.py\n", False),
    ],
)
def test_a_process_that_is_named_after_the_script_keeps_its_name(tmp_path, script, name, expected):
    (tmp_path / "comm").write_text(name)

    assert has_name_of(script, tmp_path / "comm") is expected


def test_a_proxy_that_cannot_be_started_again_goes_on(monkeypatch):
    def execve(*_):
        raise PermissionError

    monkeypatch.setattr(huge_pages, "is_program", lambda *_: True)
    monkeypatch.setattr(huge_pages, "has_huge_pages", lambda: True)
    monkeypatch.setattr(huge_pages, "has_name_of", lambda _: False)
    monkeypatch.setattr(os, "environ", {})
    monkeypatch.setattr(os, "execve", execve)

    start_again()
