"""The fields that Ollama's requests for a chat and for a completion have in common."""

from collections.abc import Collection, Mapping
from typing import Any, Final

import msgspec

from nexus.errors import RequestError
from nexus.translation.chat import JsonFormat, Reasoning
from nexus.translation.reading import other_members, stops_in
from nexus.wire.documents import read

Number = int | float


class Options(msgspec.Struct):
    """The options that other dialects have too; all others are about Ollama's own way to run a model."""

    num_predict: Number | None = None
    """Negative: no limit."""
    temperature: float | None = None
    top_p: float | None = None
    top_k: Number | None = None
    seed: Number | None = None
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    stop: list[str] | str | None = None


class Common(msgspec.Struct, kw_only=True):
    """What both requests have."""

    model: str | None = None
    stream: bool | None = None
    format: msgspec.Raw = msgspec.Raw()
    keep_alive: msgspec.Raw = msgspec.Raw()
    options: Options | None = None
    think: bool | str | None = None

    def fields(self) -> Mapping[str, Any]:
        """Return the fields of a chat request that follow from these."""
        options = self.options or Options()
        return {
            "model": self.model or "",
            "is_stream": self.stream is not False,
            # The last line of each stream has it.
            "wants_usage": True,
            "max_tokens": int(options.num_predict) if options.num_predict and options.num_predict > 0 else None,
            "temperature": options.temperature,
            "top_p": options.top_p,
            "top_k": _whole(options.top_k),
            "seed": _whole(options.seed),
            "presence_penalty": options.presence_penalty,
            "frequency_penalty": options.frequency_penalty,
            "stop": stops_in(options.stop),
            "format": _format(self.format),
            "reasoning": _reasoning(self.think),
            # 0 is a value: unload the model.
            "keep_alive": self.keep_alive if bytes(self.keep_alive) not in _NOT_GIVEN else None,
        }


def lost_fields(body: bytes, known: Collection[str]) -> tuple[str, ...]:
    """Return the names of fields and options in *body* that are not carried over, sorted, each once."""
    options = read(_OPTIONS, body)
    given = (options.options if options else None) or {}
    unknown = (name for name, raw in given.items() if name not in _KNOWN_OPTIONS and bytes(raw) not in _NOT_GIVEN)
    return tuple(sorted({*other_members(known, body), *(f"options.{name}" for name in unknown)}))


class _Options(msgspec.Struct):
    options: dict[str, msgspec.Raw] | None = None


COMMON: Final = frozenset(Common.__struct_fields__)

_OPTIONS: Final = msgspec.json.Decoder(_Options)
_KNOWN_OPTIONS: Final = frozenset(Options.__struct_fields__)
_NOT_GIVEN: Final = (b"", b"null")
_LEVELS: Final = frozenset({"low", "medium", "high", "max"})


def _whole(number: Number | None) -> int | None:
    # Ollama cuts fractions off.
    return None if number is None else int(number)


def _format(raw: msgspec.Raw) -> JsonFormat | None:
    content = bytes(raw)
    if content in (*_NOT_GIVEN, b'""'):
        return None
    if content == b'"json"':
        return JsonFormat()
    if content.startswith(b"{"):
        return JsonFormat(schema=raw)
    raise RequestError("invalid_value", "'format' must be \"json\" or a JSON schema", param="format")


def _reasoning(think: bool | str | None) -> Reasoning:
    if isinstance(think, str):
        if think not in _LEVELS:
            text = '\'think\' must be true, false, "low", "medium", "high" or "max"'
            raise RequestError("invalid_value", text, param="think")
        return Reasoning(is_on=True, effort=think)
    return Reasoning(is_on=think)
