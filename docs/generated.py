"""The ``generated`` directive: tables of the reference that are generated from the code."""

import inspect
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import click
import msgspec
from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

import nexus.api
from nexus.admin.routing import decisions
from nexus.cli.main import main
from nexus.config.documents import reference
from nexus.domain.kinds import BackendKind
from nexus.domain.statuses import CERTAIN, StatusMeaning
from nexus.domain.translation import pair
from nexus.errors import RequestError
from nexus.fleet.kinds import KINDS
from nexus.proxy.headers import rules as header_rules
from nexus.routing.explain import model as explanation
from nexus.testing.reconciler_contract import ReconcilerContract
from nexus.translation.conversion import About
from nexus.translation.dialects import convert, translations
from nexus.wire.protocols import EVERY
from translated_fields import SAMPLES, TARGETS, Json, Sample

OWN_WORDS: Mapping[int, str] = {
    id(nexus.api.AdminReply): "An HTTP status, a content type and a body.",
    id(nexus.api.Zone): "``restricted``, where restricted data may go, or ``open``, where it may not.",
    id(nexus.api.hookimpl): "Marks a function as your implementation of the hook of its name.",
}
"""Descriptions of names without a docstring."""


class Generated(SphinxDirective):
    """``.. generated:: kinds`` inserts the table ``kinds`` of :data:`TABLES`."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        return self.parse_text_to_nodes(TABLES[self.arguments[0]](), allow_section_headings=True)


def api() -> str:
    """One row for each name that a plugin may import."""
    rows = [(code(name), summary(getattr(nexus.api, name))) for name in nexus.api.__all__]
    return table(("Name", "What it is"), rows)


def summary(thing: Any) -> str:
    """Return the first paragraph of the docstring of *thing*, without roles, which do not resolve here."""
    text = OWN_WORDS.get(id(thing), inspect.getdoc(thing) or "").partition("\n\n")[0]
    return re.sub(r":\w+:`[~]?([^`]+)`", r"``\1``", text)


def promises() -> str:
    """One line for each rule of the contract of stages."""
    names = [name for name in vars(ReconcilerContract) if name.startswith("test_")]
    return "\n".join(f"- {name.removeprefix('test_').replace('_', ' ')}" for name in names)


def statuses() -> str:
    """One row for each meaning of a backend's status."""
    rows = [
        (
            ", ".join(str(status) for status, own in CERTAIN.items() if own is meaning) or "any other from 400 on",
            consequence,
        )
        for meaning, consequence in CONSEQUENCES.items()
    ]
    return table(("Status of a backend", "Consequence"), rows)


CONSEQUENCES: Mapping[StatusMeaning, str] = {
    StatusMeaning.CLIENT_FAULT: "is sent to the client unchanged: the request is invalid everywhere. A 404, or"
    " the 400 of a llama.cpp in router mode, for an unknown *model* is tried elsewhere",
    StatusMeaning.CREDENTIALS: "another backend is asked, at no cost; if the key was the configured one, the backend"
    " is misconfigured (for 403, only after three in a row)",
    StatusMeaning.BUSY: "another backend is asked, at no cost; ``Retry-After`` is honoured",
    StatusMeaning.NOT_SUPPORTED: "another backend is asked, at no cost; this one is avoided for that endpoint and model"
    " until it restarts or lists other models",
    StatusMeaning.FAILED: "another backend is asked, within the retry budget, unless the request may not be sent"
    " twice (``retry_unsafe = false``); the failure counts against this one. A 500 is tried on only one other"
    " backend. A 503 with ``Retry-After`` is a refusal, like 429",
}


def kinds() -> str:
    """One row for each kind of backend."""
    rows = [
        (
            code(kind.name),
            "local" if kind.is_local else "cloud",
            code(kind.health_path),
            code(kind.listing.path),
            str(kind.default_max_in_flight),
            str(kind.default_slots or "\\-"),
            f"{kind.first_byte_s:g} s",
            code(*(lookup.path for lookup in kind.load_lookups)) or "\\-",
            code(*sorted({name.partition(".")[0] for name in kind.endpoints})),
        )
        for kind in KINDS.values()
    ]
    return table(("Kind", "Where", "Health", "Models", "At once", "Slots", "First content", "Load", "Protocols"), rows)


def endpoints() -> str:
    """One row for each path that is carried to a backend."""
    rows = [
        (
            code(*(f"{method} {path}" for method in endpoint.methods for path in (endpoint.path, *endpoint.also))),
            code(endpoint.name),
            endpoint.capability,
            _MODEL_STANDS[endpoint.model],
            endpoint.body if "POST" in endpoint.methods else "",
            code(*(kind.name for kind in KINDS.values() if endpoint.name in kind.endpoints)),
        )
        for endpoint in sorted(EVERY, key=lambda e: e.name)
    ]
    return table(("Path", "Name", "Needs a model for", "Model", "Body", "Kinds"), rows)


_MODEL_STANDS: Mapping[str, str] = {
    "body": "in the body",
    "maybe": "in the body, or none",
    "own": "in the body, or the backend's own",
    "none": "none",
}


def headers_not_for_backends() -> str:
    """One row for each request header that is not forwarded unchanged."""
    return _headers(header_rules.NOT_FOR_BACKENDS, header_rules.NOT_FOR_BACKENDS_PREFIXES)


def headers_not_for_clients() -> str:
    """One row for each response header that is not forwarded."""
    return _headers(header_rules.NOT_FOR_CLIENTS, header_rules.NOT_FOR_CLIENTS_PREFIXES)


def _headers(names: Mapping[bytes, str], prefixes: Mapping[bytes, str]) -> str:
    """One row for each reason."""
    shown = {
        **{name.decode(): why for name, why in names.items()},
        **{f"{p.decode()}*": w for p, w in prefixes.items()},
    }
    found: dict[str, list[str]] = {}
    for name, why in shown.items():
        found.setdefault(why, []).append("-".join(map(str.capitalize, name.split("-"))))
    return table(("Header", "Why"), [(code(*sorted(headers)), why) for why, headers in found.items()])


def native_endpoints() -> str:
    """For each kind, the names of the endpoints that it speaks."""
    return table(("Kind", "Endpoints"), [(code(kind.name), code(*sorted(kind.endpoints))) for kind in KINDS.values()])


def clients_and_kinds() -> str:
    """For each request that can be translated, what becomes of it at each kind of backend."""
    others = translations()
    rows = [
        (code(e.path), *(_at(kind, e.name, others[e.name]) for kind in KINDS.values()))
        for e in EVERY
        if e.name in others
    ]
    return table(("Client", *(code(name) for name in KINDS)), rows)


def _at(kind: BackendKind, endpoint: str, others: Iterable[str]) -> str:
    if endpoint in kind.endpoints:
        return "native"
    other = next((other for other in others if other in kind.endpoints), None)
    if other is not None:
        return code(pair(endpoint, other))
    return WITHOUT_BACKENDS.get(endpoint) or f"refused: it has none of {code(endpoint, *others)}"


WITHOUT_BACKENDS: Mapping[str, str] = {"anthropic.count_tokens": "estimated"}
"""What Nexus does by itself where no backend can."""


def carried_over() -> str:
    """For each protocol of clients, the fields that not every translation carries over."""
    return "\n".join(_carried_from(endpoint, sample) for endpoint, sample in SAMPLES.items())


def _carried_from(endpoint: str, sample: Sample) -> str:
    others = translations()[endpoint]
    fates = {
        name: tuple(_fate(endpoint, other, sample.base, field) for other in others)
        for name, field in sample.fields.items()
    }
    everywhere = [name for name, fate in fates.items() if set(fate) == {CARRIED}]
    rows = [(code(name), *fate) for name, fate in fates.items() if name not in everywhere]
    return "\n".join(
        (
            *(f"From {code(endpoint)}", "~" * len(f"From {code(endpoint)}"), ""),
            *(f"Carried over in each: {code(*everywhere)}.", ""),
            table(("Field", *(code(pair(endpoint, other)) for other in others)), rows),
        )
    )


CARRIED, LEFT_OUT, REFUSED = "yes", "left out", "refused"


def _fate(endpoint: str, other: str, base: Json, field: Json) -> str:
    """Return what becomes of *field* in a request that is translated."""
    try:
        return LEFT_OUT if _lost(endpoint, other, {**base, **field}) > _lost(endpoint, other, base) else CARRIED
    except RequestError as exc:
        if exc.code != "not_translatable":
            raise
        return REFUSED


def _lost(endpoint: str, other: str, request: Json) -> set[str]:
    about = About(model="m", id="0", created=0)
    return set(convert(endpoint, other, msgspec.json.encode(request), TARGETS[other], about).lost)


def command_line() -> str:
    """A section for each command, with its options."""
    return "\n".join(_command(main, "nexus-proxy"))


def _command(command: click.Command, name: str) -> Iterable[str]:
    context = click.Context(command, info_name=name)
    yield from (code(name), "~" * (len(name) + 4), "", command.help or "", "")
    options = [option for option in command.get_params(context) if not getattr(option, "hidden", False)]
    yield table(("Option", "Meaning"), [_option(option, context) for option in options])
    if isinstance(command, click.Group):
        for child in command.list_commands(context):
            found = command.get_command(context, child)
            if found is not None and not found.hidden:
                yield from _command(found, f"{name} {child}")


def _option(option: click.Parameter, context: click.Context) -> tuple[str, str]:
    if isinstance(option, click.Option):
        record = option.get_help_record(context)
        return (code(", ".join((*option.opts, *option.secondary_opts))), record[1] if record else "")
    return (code(option.make_metavar(context)), "an argument")


def explanations() -> str:
    """A section for each object of an explained decision."""
    return "\n".join(_members(struct) for struct in vars(explanation).values() if _is_struct(struct))


def decision_list() -> str:
    """The members of the list of decisions, and of its rows."""
    return "\n".join((_members(decisions.Listing), _members(decisions.Row)))


def _is_struct(thing: Any) -> bool:
    return isinstance(thing, type) and issubclass(thing, msgspec.Struct)


def _members(struct: type[msgspec.Struct]) -> str:
    title = code(struct.__name__)
    told = reference.sentences(struct)
    rows = [(code(field.encode_name), told[field.name]) for field in msgspec.structs.fields(struct)]
    return "\n".join((title, "~" * len(title), "", summary(struct), "", table(("Key", "Meaning"), rows)))


def code(*names: str) -> str:
    """Return *names* as literals."""
    return ", ".join(f"``{name}``" for name in names)


def table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    """Return a list-table."""
    lines = [".. list-table::", "   :header-rows: 1", ""]
    for row in (head, *rows):
        for number, cell in enumerate(row):
            text = " ".join(cell.split()) or "\\-"
            lines.append(f"   {'*' if number == 0 else ' '} - {text}")
    return "\n".join([*lines, ""])


TABLES: Mapping[str, Callable[[], str]] = {
    "api": api,
    "carried-over": carried_over,
    "clients-and-kinds": clients_and_kinds,
    "command-line": command_line,
    "configuration": reference.as_rst,
    "decision-list": decision_list,
    "endpoints": endpoints,
    "explanations": explanations,
    "headers-not-for-backends": headers_not_for_backends,
    "headers-not-for-clients": headers_not_for_clients,
    "kinds": kinds,
    "native-endpoints": native_endpoints,
    "promises": promises,
    "statuses": statuses,
}


def setup(app: Sphinx) -> dict[str, Any]:
    """Register the directive."""
    app.add_directive("generated", Generated)
    return {"parallel_read_safe": True}
