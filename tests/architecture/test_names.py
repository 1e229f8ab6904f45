"""Names say what a thing is: words that fit everything are refused."""

import ast
import re

BANNED = {"manager", "helper", "helpers", "util", "utils", "data", "info", "process", "handle", "res", "tmp"}

GIVEN = {
    "PluginManager": "pluggy's",
    "plugin_manager": "pluggy's",
    "data_received": "asyncio's",
    "info": "a level of logging",
    "process": "the operating system's",
}
"""Words of others, which we must use as they are, and whose they are."""

WORDS = re.compile(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])")


def test_no_module_class_or_function_has_a_name_that_says_nothing(modules):
    names = [(module.name, name) for module in modules for name in names_of(module)]

    vague = [f"{where}: {name}" for where, name in names if is_vague(name)]

    assert vague == []


def names_of(module):
    yield from module.path.relative_to(module.path.parents[-2]).with_suffix("").parts[-1:]
    for node in ast.walk(module.tree):
        if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            yield node.name


def is_vague(name):
    if name in GIVEN:
        return False
    words = [word.lower() for word in WORDS.findall(name)]
    # "handle" and "process" with an object say what they do: handle_signal, process_id.
    return any(word in BANNED and not (word in {"handle", "process", "data"} and len(words) > 1) for word in words)
