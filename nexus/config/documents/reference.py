"""Generates the example file and the reference page from the types and docstrings of the schema."""

import ast
import inspect
import textwrap
import types
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Final, Literal, Union, get_args, get_origin

import msgspec

from nexus.config import schema
from nexus.config.sources.decoding import bare, is_section

EXAMPLES: Final[Mapping[str, str]] = {
    "server.api_keys": '["env:NEXUS_API_KEY"]',
    "server.admin_keys": '["env:NEXUS_ADMIN_KEY"]',
    "server.allowed_hosts": '["nexus.internal"]',
    "server.allowed_origins": '["http://localhost:3000"]',
    "server.lame_duck_seconds": "5.0",
    "timeouts.first_byte_seconds": "600.0",
    "timeouts.whole_answer_seconds": "300.0",
    "routing.default_model": '"llama3"',
    "routing.aliases": '{ gpt-4 = "llama3:8b", any = ["llama3:8b", "qwen3"] }',
    "routing.fallbacks": '{ "llama3:70b" = ["llama3:8b"] }',
    "routing.policies": '[{ model_pattern = "llama*", fallback_allowed = false }]',
    "routing.priorities": "{ }",
    "backends.name": '"gpu-1"',
    "backends.url": '"http://gpu-1:8000"',
    "backends.api_key_env": '"GPU_1_KEY"',
    "backends.api_key": '"env:GPU_1_KEY"',
    "backends.path_is_complete": "true",
    "backends.basic_auth": '"env:GPU_1_LOGIN"',
    "backends.headers": '{ "api-key" = "env:AZURE_KEY" }',
    "backends.query": '{ "api-version" = "2024-10-21" }',
    "backends.zone": '"restricted"',
    "backends.max_in_flight": "8",
    "backends.max_loaded_models": "2",
    "backends.retry_unsafe": "true",
    "backends.accepts_any_model": "true",
    "backends.protocols": '["openai"]',
    "backends.tls_ca_file": '"ca.pem"',
    "backends.tls_cert_file": '"client.pem"',
    "backends.tls_key_file": '"client.key"',
    "backends.https_proxy": '"http://proxy:3128"',
    "backends.models.context_length": "8192",
    "backends.models.max_output_tokens": "4096",
    "backends.models.vision": "false",
    "backends.models.tools": "true",
    "backends.models.json_mode": "true",
    "backends.models.embeddings": "false",
    "backends.models.first_byte_seconds": "300.0",
    "backends.models.max_in_flight": "2",
    "backends.models.zone": '"open"',
    "backends.models.tier": "4",
    "discovery.enabled": "true",
    "discovery.dns.name": '"vllm.default.svc.cluster.local"',
    "discovery.dns.port": "8000",
    "discovery.file.path": '"/etc/nexus/fleet.toml"',
    "discovery.file.references": '["env:GPU_*"]',
    "discovery.hosts.hosts": '["mac-studio.local", "10.0.0.7:8000-8003", "192.168.1.0/28"]',
    "translation.disabled_pairs": '["anthropic->ollama"]',
    "queue.max_size": "1000",
    "queue.max_wait_seconds": "30.0",
    "otel.endpoint": '"http://127.0.0.1:4318"',
    "otel.service_name": '"nexus-proxy"',
    "otel.headers": '{ authorization = "env:OTEL_KEY" }',
    "logging.component_levels": '{ routing = "debug" }',
}
"""Example values for keys that are unset or empty by default."""

INSTEAD: Final = frozenset({"backends.api_key_env"})
"""Keys that exclude the key before them."""

UNSET: Final = "unset"

WIDTH: Final = 110


class Key(msgspec.Struct, frozen=True):
    """One key, as it is documented."""

    name: str
    path: str
    """From the top of the file, without names and indexes."""
    type: str
    default: str | None
    """As TOML; :data:`UNSET` where omitting the key has a meaning of its own, None for a required key."""
    sentence: str


class Table(msgspec.Struct, frozen=True):
    """One table, as it is documented."""

    header: str
    sentence: str
    keys: tuple[Key, ...]


def tables() -> tuple[Table, ...]:
    """Return all tables of the file, in the order of the schema."""
    return tuple(_tables(schema.Config, "", ""))


def example() -> str:
    """Return a ``nexus.toml`` with every key and its meaning as comments."""
    lines = [
        "# The configuration of Nexus: every key with its meaning and its default, or an example where leaving it out",
        "# has a meaning of its own. To set one, remove the # before it and before the [table] that it stands in.",
        "# Each can also be set by a variable, NEXUS_SERVER__PORT=8000, or by an option, --set server.port=8000.",
    ]
    for table in tables():
        header = table.header.replace('"NAME"', '"llama3"')
        lines += ["", "", *_comment(table.sentence), f"#{header}"]
        for key in table.keys:
            lines += ["", *_comment(key.sentence)]
            if key.path in EXAMPLES and key.default is not None:
                lines.append(f"# Default: {key.default}. For example:")
            mark = "# or: " if key.path in INSTEAD else "#"
            lines.append(f"{mark}{key.name} = {EXAMPLES.get(key.path, key.default)}")
    return "\n".join(lines) + "\n"


def as_rst() -> str:
    """Return the reference of all keys, for the documentation."""
    lines: list[str] = []
    for table in tables():
        lines += [f"``{table.header}``", "~" * (len(table.header) + 4), "", table.sentence, ""]
        for key in table.keys:
            default = "required" if key.default is None else f"default ``{key.default}``"
            lines += [f"``{key.name}``", f"    {key.type}, {default}", "", f"    {key.sentence}", ""]
    return "\n".join(lines)


def _tables(section: type[msgspec.Struct], path: str, header: str) -> Iterator[Table]:
    """Yield the table of *section*, unless it is the top of the file, and then the tables in it."""
    texts = sentences(section)
    fields = msgspec.structs.fields(section)
    nested = {field.name: inner for field in fields if (inner := _section_of(field.type))}
    if header:
        keys = tuple(_key(field, path, texts[field.name]) for field in fields if field.name not in nested)
        yield Table(header, _one_line(inspect.getdoc(section) or ""), keys)
    for field in fields:
        if field.name in nested:
            whole = f"{path}.{field.name}".removeprefix(".")
            yield from _tables(nested[field.name], whole, _HEADERS[get_origin(bare(field.type))].format(whole))
        elif not header:
            yield Table(f"[{field.name}.NAME]", texts[field.name], ())


_HEADERS: Final[Mapping[Any, str]] = {None: "[{}]", tuple: "[[{}]]", dict: '[{}."NAME"]'}
"""The header of a single table, of an array of tables, and of a table by names."""


def _section_of(type_: Any) -> type[msgspec.Struct] | None:
    """Return the section that *type_* is, or is a tuple or dict of; None for a plain value."""
    wanted = bare(type_)
    if get_origin(wanted) in _HEADERS:
        wanted = next((arg for arg in get_args(wanted) if is_section(arg)), wanted)
    return wanted if is_section(wanted) else None


def _key(field: Any, path: str, sentence: str) -> Key:
    return Key(field.encode_name, f"{path}.{field.name}", _type_text(field.type), _default(field), sentence)


def sentences(section: type[msgspec.Struct]) -> dict[str, str]:
    tree = ast.parse(inspect.getsource(section))
    body = next(node.body for node in tree.body if isinstance(node, ast.ClassDef))
    found = {}
    for statement, following in zip(body, [*body[1:], None], strict=True):
        if isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name):
            found[statement.target.id] = _text_of(following)
    return found


def _text_of(statement: ast.stmt | None) -> str:
    """Return the text of *statement*; empty when it is no string."""
    value = statement.value if isinstance(statement, ast.Expr) else None
    return _one_line(value.value) if isinstance(value, ast.Constant) and isinstance(value.value, str) else ""


def _default(field: Any) -> str | None:
    if field.required:
        return None
    value = field.default_factory() if field.default is msgspec.NODEFAULT else field.default
    return UNSET if value is None else _toml(value)


def _toml(value: Any) -> str:
    if isinstance(value, tuple):
        return f"[{', '.join(map(_toml, value))}]"
    return "{ }" if value == {} else msgspec.json.encode(value).decode()


def _type_text(type_: Any) -> str:
    wanted = bare(type_)
    origin, arguments = get_origin(wanted), get_args(wanted)
    if origin is Literal:
        return "one of " + ", ".join(f"``{choice}``" for choice in arguments)
    if origin is tuple:
        return f"list of {_type_text(arguments[0])}"
    if origin is dict:
        return f"table of {_type_text(arguments[1])}"
    if origin in {Union, types.UnionType}:
        return " or ".join(map(_type_text, arguments))
    return ("table" if is_section(wanted) else _WORDS.get(wanted, "value")) + _range_text(type_)


_WORDS: Final[Mapping[Any, str]] = {bool: "true or false", int: "integer", float: "number", str: "text"}


def _range_text(type_: Any) -> str:
    """Return the range that the constraints on *type_* allow; empty without constraints."""
    for part in (type_, *get_args(type_)):
        for meta in get_args(part)[1:] if get_origin(part) is Annotated else ():
            least = f" above {meta.gt}" if meta.gt is not None else f" from {meta.ge}"
            return least + (f" to {meta.le}" if meta.le is not None else "")
    return ""


def _comment(sentence: str) -> list[str]:
    return [f"# {line}" for line in textwrap.wrap(sentence.replace("``", ""), WIDTH)]


def _one_line(text: str) -> str:
    return " ".join(text.split())
