"""What is published speaks of the project alone: no machine's paths, no registry, no leftovers."""

import re

# Written in pieces, so that this file does not find itself.
MACHINE_PATH = re.compile(r"/(?:wor" + r"k|roo" + r"t|hom" + r"e/[a-z]+|Users/[A-Za-z]+)/|/tm" + r"p/[a-z0-9_]")
REGISTRY = re.compile(r"pyp" + r"i\.org|files\.pythonhosted" + r"\.org|index-ur" + r"l|npmj" + r"s\.org")
UNFINISHED = re.compile(r"\b(?:TO" + r"DO|FIX" + r"ME|XX" + r"X|HA" + r"CK)\b|NotImplemented" + r"Error")

BINARY = {".png", ".ico", ".woff2", ".gz"}


def found(pattern, files, root):
    return [
        f"{path.relative_to(root)}:{number}: {line.strip()[:100]}"
        for path in files
        if path.suffix not in BINARY
        for number, line in enumerate(path.read_text(errors="replace").splitlines(), 1)
        if pattern.search(line)
    ]


def test_no_file_names_a_path_of_somebodys_machine(tracked_files, root):
    assert found(MACHINE_PATH, tracked_files, root) == []


def test_no_file_names_a_registry(tracked_files, root):
    assert found(REGISTRY, tracked_files, root) == []


def test_nothing_is_left_for_later(tracked_files, root):
    assert found(UNFINISHED, [path for path in tracked_files if path.suffix == ".py"], root) == []


def test_no_file_is_empty_but_markers(tracked_files, root):
    empty = {str(path.relative_to(root)) for path in tracked_files if path.stat().st_size == 0}

    assert [name for name in empty if not name.endswith("py.typed")] == []
