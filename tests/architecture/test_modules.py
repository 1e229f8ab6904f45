"""Modules are small, say in one sentence what they are for, and start no task that nobody watches."""

import ast
import statistics

# A module that needs more than 400 lines is listed here, with the reason why it cannot be two.
LONG_MODULES = {}

# nexus.tasks is where a task is started; simulator and testing must not import it.
STANDS_ASIDE = ("nexus/tasks.py", "nexus/simulator/", "nexus/testing/")

MEDIAN_LINES = 110
MOST_LINES = 400


def lines_of(module):
    return len(module.text.splitlines())


def test_the_median_module_is_read_in_one_sitting(modules):
    sizes = [size for module in modules if (size := lines_of(module)) > 1]

    assert statistics.median(sizes) <= MEDIAN_LINES


def test_no_module_grows_past_its_limit_without_a_reason(modules):
    long = {module.name for module in modules if lines_of(module) > MOST_LINES}

    assert long == LONG_MODULES.keys()


def test_every_module_says_what_it_is_for(modules):
    silent = [module.name for module in modules if not is_sentence(ast.get_docstring(module.tree))]

    assert silent == []


def is_sentence(docstring):
    first_paragraph = (docstring or "").partition("\n\n")[0]
    return first_paragraph.endswith((".", ":", "?"))


def test_tasks_are_started_where_their_failures_are_seen(modules):
    bare = [
        f"{module.name}:{node.lineno}"
        for module in modules
        if not module.name.startswith(STANDS_ASIDE)
        for node in ast.walk(module.tree)
        if isinstance(node, ast.Call) and called_name(node) in {"create_task", "ensure_future"}
    ]

    assert bare == []


def called_name(call):
    match call.func:
        case ast.Attribute(attr=name) | ast.Name(id=name):
            return name
    return None


def test_every_exception_that_is_swallowed_is_swallowed_on_purpose(modules):
    bare = [
        f"{module.name}:{node.lineno}"
        for module in modules
        for node in ast.walk(module.tree)
        if isinstance(node, ast.ExceptHandler) and node.type is None
    ]

    assert bare == []
