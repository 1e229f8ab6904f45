"""Everything that a user can name is in the reference, and nothing that is not there is."""

import ast
import configparser
import re
from typing import get_args

import click
import msgspec
import pytest

import nexus.api
import nexus.hookspecs
from nexus.admin.routing import decisions
from nexus.cli.exit_codes import ExitCode
from nexus.cli.main import main
from nexus.config.documents.reference import sentences
from nexus.config.schema import Config
from nexus.config.sources import env
from nexus.domain.outcome import Ending, Phase
from nexus.error_codes import CODES, IN_STREAM_CODES, REPLY_CODES
from nexus.fleet.kinds import KINDS
from nexus.proxy.exchange import access_line, record
from nexus.proxy.headers import rules as header_rules
from nexus.routing.explain import model as explanation
from nexus.testing.proxy import nexus_in_loop
from nexus.wire.protocols import EVERY


def first_cells(text):
    """The names that the rows of a page's tables begin with."""
    cells = re.findall(r"^   \* - (.+)$", text, re.MULTILINE)
    return {name for cell in cells for name in re.findall(r"``([^`]+)``", cell)}


def sources(root):
    return [path for path in (root / "nexus").rglob("*.py") if "simulator" not in path.parts]


def config_keys(struct=Config, at=""):
    for field in msgspec.structs.fields(struct):
        nested = [
            t for t in (field.type, *get_args(field.type)) if isinstance(t, type) and issubclass(t, msgspec.Struct)
        ]
        yield f"{at}{field.name}"
        for inner in nested:
            yield from config_keys(inner, f"{at}{field.name}.")


def test_every_exit_code_is_documented(page):
    _, _, table = page("reference/command-line").partition("Exit codes\n")

    assert {int(code) for code in first_cells(table) if code.isdecimal()} == set(ExitCode)


def test_every_variable_that_is_no_key_is_documented(page):
    assert [name for name in env.NOT_KEYS if f"``{name}``" not in page("reference/command-line")] == []


def test_every_config_key_is_documented(page):
    text = page("reference/configuration")

    assert [key for key in config_keys() if key.rpartition(".")[2] not in text] == []


def test_every_error_code_is_documented_with_its_status(page):
    rows = re.findall(r"^   \* - ``(\w+)``\n     - (\d{3})\n", page("reference/errors"), re.MULTILINE)

    assert {code: int(status) for code, status in rows} == {code: CODES[code].status for code in REPLY_CODES}


def test_every_code_that_can_end_an_answer_is_documented(page):
    _, _, within = page("reference/errors").partition("Within an answer that has begun")

    assert first_cells(within) == IN_STREAM_CODES


def test_every_header_of_ours_is_documented(page, root):
    # In the source a name may follow the end of the line before: "\\r\\nX-Nexus-…".
    ours = re.compile(r"(?:\\n|\b)(x-(?:nexus|upstream)-[a-z]+(?:-[a-z]+)*)\b", re.IGNORECASE)

    named = {name.lower() for path in sources(root) for name in ours.findall(path.read_text())}

    assert named == {name.lower() for name in ours.findall(page("reference/headers"))}


@pytest.mark.parametrize(
    ("part", "names", "prefixes"),
    [
        (0, header_rules.NOT_FOR_BACKENDS, header_rules.NOT_FOR_BACKENDS_PREFIXES),
        (2, header_rules.NOT_FOR_CLIENTS, header_rules.NOT_FOR_CLIENTS_PREFIXES),
    ],
    ids=["of a request", "of an answer"],
)
def test_every_header_that_does_not_pass_is_listed(page, part, names, prefixes):
    text = page("reference/headers").partition("Of an answer\n")[part]

    listed = {name.lower() for name in first_cells(text)}

    assert {name.decode() for name in names} | {f"{prefix.decode()}*" for prefix in prefixes} <= listed


def test_every_hook_is_documented():
    hooks = [hook for name, hook in vars(nexus.hookspecs).items() if name.startswith("nexus_")]

    # The page is autodoc: what a hook says of itself is what it shows.
    assert [h.__name__ for h in hooks if len((h.__doc__ or "").split()) < 10 or "versionadded" not in h.__doc__] == []


def test_every_name_that_a_plugin_may_import_is_documented(page):
    assert set(nexus.api.__all__) <= first_cells(page("reference/plugins"))


def log_events(root):
    """Each event that is logged, with where."""
    levels = {"debug", "info", "warning", "error", "exception", "critical"}
    for path in sources(root):
        for node in ast.walk(ast.parse(path.read_text())):
            if (
                isinstance(node, ast.Call)
                and isinstance(node.func, ast.Attribute)
                and node.func.attr in levels
                and ast.unparse(node.func.value).endswith("log")
                and isinstance(node.args[0], ast.Constant)
            ):
                yield node.args[0].value, f"{path.name}:{node.lineno}"


def test_every_log_event_is_documented(page, root):
    events = dict(log_events(root))

    assert events.keys() - first_cells(page("reference/logs")) == set()


def test_every_documented_log_event_is_logged(page, root):
    _, _, table = page("reference/logs").rpartition("Events\n------")
    said = "\n".join(path.read_text() for path in sources(root))

    assert [event for event in first_cells(table) if f'"{event}"' not in said] == []


def test_log_events_are_nouns_in_snake_case(root):
    assert [where for event, where in log_events(root) if not re.fullmatch(r"[a-z][a-z0-9_]*", event)] == []


def test_every_field_of_the_access_line_is_documented(page, root):
    written = set(access_line.AccessLine.__struct_fields__)

    assert written <= first_cells(page("reference/logs"))


def test_every_ending_is_documented(page):
    assert [ending for ending in Ending if f"``{ending}``" not in page("reference/logs")] == []


def test_every_termination_letter_is_documented(page):
    letters = first_cells(page("reference/logs"))

    assert {*record._CAUSE.values(), *record._PHASE.values()} - {"-"} <= letters


def test_every_phase_is_a_heading_in_the_life_of_a_request(page):
    headings = re.findall(r"^(\w+)\n-+$", page("explanation/life-of-a-request"), re.MULTILINE)

    assert tuple(headings) == get_args(Phase)


def test_every_metric_is_documented(page, root):
    documented = {name for name in first_cells(page("reference/metrics")) if name.startswith("nexus_")}

    assert {name.removesuffix("_total") for name in documented} == {n.removesuffix("_total") for n in metrics(root)}


def metrics(root):
    """The names of all metrics: what modules that make metrics give to a call as its first argument."""
    modules = [
        text
        for path in sources(root)
        if re.search("MetricFamily|observability.metrics.families", text := path.read_text())
    ]
    calls = [node for text in modules for node in ast.walk(ast.parse(text)) if isinstance(node, ast.Call) and node.args]
    names = {arg.value for arg in (call.args[0] for call in calls) if isinstance(arg, ast.Constant)}
    return {name for name in names if isinstance(name, str) and re.fullmatch(r"nexus_[a-z_]+", name)}


def commands(command=main, name="nexus-proxy"):
    yield name, command
    if isinstance(command, click.Group):
        for child in command.list_commands(click.Context(command)):
            yield from commands(command.get_command(click.Context(command), child), f"{name} {child}")


@pytest.mark.parametrize(("name", "command"), list(commands()))
def test_every_command_and_option_is_documented(page, name, command):
    text = page("reference/command-line")
    options = [option for param in command.params if not getattr(param, "hidden", False) for option in param.opts]

    assert f"``{name}``" in text
    assert (command.help or "").strip() != ""
    assert [option for option in options if option.startswith("-") and option not in text] == []


def test_every_option_says_what_it_does():
    silent = [
        f"{name} {option.name}"
        for name, command in commands()
        for option in command.params
        if isinstance(option, click.Option) and not option.help
    ]

    assert silent == []


def test_every_endpoint_is_documented(page):
    text = page("reference/endpoints")

    assert [e.name for e in EVERY if f"``{e.name}``" not in text or e.path not in text] == []


async def test_every_path_that_is_answered_is_documented(page):
    _, _, answered = page("reference/endpoints").partition("Answered by Nexus")
    documented = {re.split(r"[{<?…]", path)[0] for path in re.findall(r"``(?:GET|POST) (/[^`]*)``", answered)}

    # The READMEs of plugins document their pages.
    async with nexus_in_loop("[plugin_loading]\nautoload = false\n") as nexus:
        paths = {route.path for route in (*nexus._pages(nexus.blueprint), *nexus._dashboard.sockets())}

    assert documented == {re.sub("^/assets/.+", "/assets/", path) for path in paths} | {"/admin/"}


def test_every_key_of_an_explained_decision_has_its_sentence():
    structs = [decisions.Listing, decisions.Row, *vars(explanation).values()]
    told = {
        f"{struct.__name__}.{name}": sentence
        for struct in structs
        if isinstance(struct, type) and issubclass(struct, msgspec.Struct)
        for name, sentence in sentences(struct).items()
    }

    assert [name for name, sentence in told.items() if not sentence] == []
    assert len(told) > 80


def test_every_filter_of_decisions_is_documented(page):
    assert {*decisions.FILTERS, "limit"} <= first_cells(page("reference/explain"))


def test_every_kind_is_documented(page):
    assert KINDS.keys() <= first_cells(page("reference/kinds"))


def test_every_dependency_has_a_reason(page, root):
    setup = configparser.ConfigParser()
    setup.read(root / "setup.cfg")
    required = re.findall(r"^[A-Za-z0-9.-]+", setup["options"]["install_requires"], re.MULTILINE)

    assert set(required) == first_cells(page("reference/dependencies"))


def test_every_dependency_is_used(page, root):
    said = "\n".join(path.read_text() for path in (root / "nexus").rglob("*.py"))
    unused = [
        name
        for name in first_cells(page("reference/dependencies"))
        if not re.search(rf"^\s*(?:import|from) {name.replace('-', '_')}\b", said, re.MULTILINE)
    ]

    # aiodns works by being there: aiohttp's resolver takes it.
    assert set(unused) <= {"aiodns"}


def test_every_tox_env_of_the_readme_is_there(root):
    tox = (root / "tox.ini").read_text()
    named = re.findall(
        r"tox -e ([\w,-]+)", " ".join(p.read_text() for p in [*root.glob("*.rst"), *root.rglob("docs/**/*.rst")])
    )

    assert [env for envs in named for env in envs.split(",") if f"[testenv:{env}]" not in tox] == []
