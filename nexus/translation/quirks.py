"""What single providers do differently from the dialect that they speak, one row each."""

import re
from collections.abc import Mapping
from typing import Final, Literal

import msgspec
from msgspec import structs

_OWN_FIELDS: Final = frozenset({"prompt_cache_key", "verbosity"})
"""Fields of OpenAI's own API, of which strict servers refuse every one that they do not know."""


_COMMON_EFFORTS: Final = {"minimal": "low", "xhigh": "high", "max": "high"}


class Quirks(msgspec.Struct, frozen=True, kw_only=True):
    """How requests to one provider differ."""

    fields_left_out: frozenset[str] = _OWN_FIELDS | {"top_k"}
    """Fields of OpenAI's chat dialect that the provider does not take, or may refuse."""
    max_tokens_key: Literal["max_tokens", "max_completion_tokens"] = "max_tokens"
    """The name of the limit of an answer in OpenAI's chat dialect."""
    max_user_characters: int | None = None
    """The longest id of a user; None: any. A longer one is hashed."""
    max_call_id_characters: int | None = None
    """The longest id of a call; None: any. A longer one is hashed."""
    max_tool_name_characters: int | None = None
    """The longest name of a tool, which then has letters, digits, ``_`` and ``-`` only; None: any."""
    has_json_object: bool = True
    """Whether JSON can be asked for without a schema."""
    takes_late_system: bool = False
    """Whether a system message may stand anywhere; many chat templates want one, at the beginning."""
    history_thoughts: Literal["", "reasoning", "reasoning_content"] = ""
    """The member in which a message of the history has its thoughts; empty: it must not have them."""
    continues_on_request: bool = False
    """Whether the beginning of an answer, as the last message, is only continued if the request says so."""
    effort_models: str = ""
    """Matches the models that take a ``reasoning_effort``; others refuse the request."""
    efforts: Mapping[str, str] = msgspec.field(default_factory=lambda: _COMMON_EFFORTS)
    """Other words for efforts that some of these models refuse; an empty one is not sent. ``none``: no thoughts."""
    unsampled_models: str = ""
    """Matches the models that take no temperature and the like, as do all models here that are asked to think; empty:
    none, and thoughts change nothing."""
    default_effort: str = ""
    """The effort where a client only asks for thoughts; empty: the model's own."""
    switches_thinking_by_template: bool = False
    """Whether thoughts are switched on and off by an argument of the chat template."""
    schema_keys: frozenset[str] = frozenset()
    """The keys that a JSON schema may have; references must then be replaced. Empty: any."""
    tokenized_member: Literal["messages", "prompt", "content"] = "messages"
    """What the provider's ``/tokenize`` reads: the messages of a chat, or a text under one of the other names."""
    wants_thought_signature: bool = False
    """Whether the tool calls of a message need the provider's signature, or the mark that skips the check."""

    def takes_effort(self, model: str) -> bool:
        """Whether the backend's *model* takes a ``reasoning_effort``."""
        return bool(self.effort_models) and re.search(self.effort_models, model) is not None

    def takes_sampling(self, model: str, effort: str | None) -> bool:
        """Whether the backend's *model* takes a temperature and the like with this ``reasoning_effort``."""
        if not self.unsampled_models:
            return True
        return effort is None and re.search(self.unsampled_models, model) is None


_ANY: Final = r"^"
"""Matches every model."""

# These engines ignore what a model's chat template has no use for.
_ENGINE: Final = Quirks(fields_left_out=_OWN_FIELDS, effort_models=_ANY, switches_thinking_by_template=True)
_REASONS: Final = r"^(?:o[1-9]|gpt-(?:[5-9]|\d\d)|gpt-oss|codex)(?!.*-chat)"
"""OpenAI's models that think; all others refuse to be told how much."""

# Every model takes the highest of these efforts, and none of them can be told not to think in the same word.
_OPENAI: Final = Quirks(
    fields_left_out=frozenset({"top_k"}),
    max_tokens_key="max_completion_tokens",
    max_user_characters=64,
    max_call_id_characters=40,
    max_tool_name_characters=64,
    takes_late_system=True,
    effort_models=_REASONS,
    efforts={"none": "", "minimal": "low", "xhigh": "high", "max": "high"},
    # GPT-5.1 and later models take a temperature as long as they do not think.
    unsampled_models=r"^(?:o[1-9]|gpt-5(?!\.)(?!.*-chat))",
    default_effort="medium",
)
# https://ai.google.dev/gemini-api/docs/openai and its errors 'Unknown name "seed"'.
_GOOGLE: Final = Quirks(
    fields_left_out=_OWN_FIELDS | {"top_k", "seed", "presence_penalty", "frequency_penalty", "user"},
    max_tool_name_characters=64,
    effort_models=r"gemini-(?:2\.5|[3-9])",
    efforts={"none": "low", "minimal": "low", "xhigh": "high", "max": "high"},
    schema_keys=frozenset(
        {
            "type",
            "format",
            "title",
            "description",
            "nullable",
            "enum",
            "items",
            "minItems",
            "maxItems",
            "properties",
            "required",
            "minProperties",
            "maxProperties",
            "minLength",
            "maxLength",
            "pattern",
            "anyOf",
            "minimum",
            "maximum",
            "default",
        }
    ),
    wants_thought_signature=True,
)

QUIRKS: Final[Mapping[str, Quirks]] = {
    "vllm": structs.replace(_ENGINE, history_thoughts="reasoning", continues_on_request=True),
    "sglang": structs.replace(
        _ENGINE, history_thoughts="reasoning_content", continues_on_request=True, tokenized_member="prompt"
    ),
    "llamacpp": structs.replace(_ENGINE, history_thoughts="reasoning_content", tokenized_member="content"),
    "lmstudio": Quirks(fields_left_out=_OWN_FIELDS, effort_models=_ANY, has_json_object=False),
    "exo": Quirks(fields_left_out=_OWN_FIELDS, effort_models=_ANY),
    "openai": _OPENAI,
    "azure": _OPENAI,
    "google": _GOOGLE,
    "anthropic": Quirks(max_tool_name_characters=64),
}
"""By the kind of the backend; no row: none."""


def quirks_of(kind: str) -> Quirks:
    """Return the quirks of backends of *kind*."""
    return QUIRKS.get(kind, _NONE)


_NONE: Final = Quirks()
