"""Hashes the prompt of a JSON body in blocks, by which requests with the same beginning are recognised."""

import re
from collections.abc import Callable, Iterable
from os import urandom
from typing import Final, NamedTuple

import msgspec

from nexus.domain.request import PROMPT_BLOCK_BYTES
from nexus.wire.documents import read
from nexus.wire.requests.limits import RoutedBody

MAX_BLOCKS: Final = 4096
"""Of one prompt: about a million tokens, whose hashes take two milliseconds. What follows is not hashed."""

SESSION_HEADERS: Final = (b"x-claude-code-session-id", b"x-session-id", b"session-id")
"""Headers by which clients name a conversation: Claude Code, several agents, Codex."""

_KEY: Final = int.from_bytes(urandom(8), "big")
"""Of this process only, so that a hash tells nothing of the text; nothing is compared with another process."""


MarkedBy = Iterable[tuple[bytes, bytes]]
"""Headers that may name the conversation, as in :attr:`nexus.proxy.headers.from_client.Head.forward`: lower-case name,
and the whole line."""


class Marking(NamedTuple):
    """Asks for the marks of a request's prompt."""

    headers: MarkedBy
    is_wanted_for: Callable[[str], bool]
    """Whether they are of any use if the request names this model; empty when it names none."""


class PromptMarks(NamedTuple):
    """What is known of a prompt without its text."""

    blocks: tuple[int, ...] = ()
    conversation: int = 0


UNMARKED: Final = PromptMarks()
"""Where no stage wants the hashes, or there is nothing to choose by them."""


def prompt_marks(fields: RoutedBody, marking: Marking, *, has_cache_control: bool = False) -> PromptMarks:
    """Return the hashes of the prompt in *fields*, and of the name of its conversation. Never raises.

    Each hash is chained on the one before: two prompts have the same hash at a position only if all their text up to
    there is the same. The last, incomplete block has none. A collision, by chance or made on purpose, leads to a wrong
    preference among backends, and no further.

    :param fields: of a body in which :func:`file_hash` stands for each file.
    :param has_cache_control: whether clients of the API say in a prompt what to cache, as Anthropic's do.
    """
    if not marking.is_wanted_for(fields.model or ""):
        return UNMARKED
    return PromptMarks(_blocks(fields, has_cache_control=has_cache_control), _conversation(fields, marking.headers))


def file_hash(file: bytes) -> bytes:
    """Return what stands for *file* in a prompt: a file is as long in tokens as another, however many bytes it has."""
    return b"%b%x" % (FILE_PREFIX, hash((_KEY, file)) & _UNSIGNED)


FILE_PREFIX: Final = b"file:"
_UNSIGNED: Final = 2**64 - 1
_NAME: Final = msgspec.json.Decoder(str)

_CACHE_CONTROL: Final = re.compile(
    rb',[ \t\n\r]*+"cache_control"[ \t\n\r]*+:[ \t\n\r]*+\{[^{}]*+\}'
    rb'|"cache_control"[ \t\n\r]*+:[ \t\n\r]*+\{[^{}]*+\}[ \t\n\r]*+,[ \t\n\r]*+'
)
_HAS_CACHE_CONTROL: Final = b'"cache_control"'


def _blocks(fields: RoutedBody, *, has_cache_control: bool) -> tuple[int, ...]:
    text = fields.text if fields.text and bytes(fields.text)[:1] == b'"' else b""
    prompt = b"".join(
        (
            *(fields.tools, fields.functions, fields.system, fields.instructions, fields.context),
            *(fields.messages, fields.prompt, fields.input, fields.input_ids, text),
        )
    )
    if has_cache_control and _HAS_CACHE_CONTROL in prompt:
        # Clients move this mark to the last message of each request, and no engine puts it into the prompt.
        prompt = _CACHE_CONTROL.sub(b"", prompt)
    size = min(len(prompt) // PROMPT_BLOCK_BYTES, MAX_BLOCKS) * PROMPT_BLOCK_BYTES
    chained = hash((_KEY, bytes(fields.cache_salt), bytes(fields.lora_path)))
    # CPython hashes bytes with SipHash, under a key of its own: as fast as a CRC, and twice as long. A part of a
    # memoryview would have it hash the whole prompt first.
    return tuple(
        [chained := hash((chained, prompt[at : at + PROMPT_BLOCK_BYTES])) for at in range(0, size, PROMPT_BLOCK_BYTES)]
    )


def _conversation(fields: RoutedBody, headers: MarkedBy) -> int:
    """Return a hash of the name of the conversation, 0 if it has none."""
    for name, line in headers:
        if name in SESSION_HEADERS:
            return hash((_KEY, line.partition(b":")[2].strip())) or 1
    for raw in (fields.prompt_cache_key, fields.session_id):
        if raw and (named := read(_NAME, bytes(raw))):
            return hash((_KEY, named.encode())) or 1
    return 0
