"""Checks that a plugin imports only ``nexus.api`` and ``nexus.testing``."""

import ast
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Final

ALLOWED: Final = ("nexus.api", "nexus.testing")


def assert_only_uses_api(where: ModuleType | Path) -> None:
    """Fail if a Python file in *where*, a module, package, file or folder, imports other parts of Nexus."""
    offences = [
        f"{path.name}:{line}: {name}"
        for path in _files(where)
        for line, name in _imports(path)
        if name.split(".")[0] == "nexus" and not any(name == a or name.startswith(f"{a}.") for a in ALLOWED)
    ]
    assert not offences, f"only {' and '.join(ALLOWED)} may be imported: {', '.join(offences)}"


def _files(where: ModuleType | Path) -> Iterator[Path]:
    if isinstance(where, ModuleType):
        is_package = hasattr(where, "__path__")
        where = Path(str(where.__file__))
        where = where.parent if is_package else where
    return iter([where]) if where.is_file() else where.rglob("*.py")


def _imports(path: Path) -> Iterator[tuple[int, str]]:
    for node in ast.walk(ast.parse(path.read_text(), str(path))):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and not node.level and node.module:
            # In ``from nexus import api`` the module is among the imported names.
            names = [f"nexus.{alias.name}" for alias in node.names] if node.module == "nexus" else [node.module]
            yield from ((node.lineno, name) for name in names)
