"""Renders log entries as JSON or text, with long values cut, secrets redacted and control characters escaped."""

import re
import threading
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from functools import lru_cache, partial
from typing import Any, Final

import msgspec

Entry = tuple[int, str, str, dict[str, Any]]
"""Unix nanoseconds, level, logger, and the fields, including ``event``."""

Head = tuple[int, str, str]
"""An entry without its fields."""

MAX_TEXT: Final = 256
MAX_ITEMS: Final = 32
MAX_DEPTH: Final = 3
MIN_SECRET: Final = 4
FEW_SECRETS: Final = 4
"""Up to this number, searching the whole line is as fast as searching its long texts only."""
MAX_SAFE_INT: Final = 2**53
"""The largest integer that every JSON parser reads exactly."""

# Characters that hide or reorder text on a terminal: DEL and C1, zero width and bidi marks, line separators, tags.
_HARMFUL: Final = re.compile(
    "[\x7f-\x9f\u061c\u180e\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb\U000e0000-\U000e007f]"
)
_PLAIN_WORD: Final = re.compile(r"[\w.:/@+%~-]+", re.ASCII)
_COLOURS: Final[Mapping[str, str]] = {"debug": "36", "info": "32", "warning": "33", "error": "31", "critical": "35"}
_DEL: Final = 0x7F
"""A number: looking for one byte as bytes raises and catches a TypeError first, which takes eight times as long."""
_RESERVED: Final = frozenset({"timestamp", "level", "logger"})
OF_EVERY_LINE: Final[dict[str, Any]] = {}
"""Fields of every line of this process; set before the first line."""
_encode: Final = msgspec.json.Encoder().encode
_UNCHANGED: Final = frozenset({bool, float, type(None)})


class Redactor:
    """Replaces secrets in every line."""

    def __init__(self) -> None:
        self._secrets: set[str] = set()
        self._adding = threading.Lock()
        """Several threads may add secrets at once."""
        self._pattern: re.Pattern[str] | None = None
        self._in_bytes: re.Pattern[bytes] | None = None
        self._parts: re.Pattern[bytes] | None = None
        """Matches the parts of a JSON line that are long enough for a secret; None to search the whole line."""
        self.name = self._names()
        """Returns the name of a field with secrets replaced; cached, because names repeat."""

    def add(self, secret: str) -> None:
        """Hide *secret* from now on, unless it has fewer than four characters, which would match in every line."""
        if len(secret) < MIN_SECRET:
            return
        with self._adding:
            if secret in self._secrets:
                return
            escaped = msgspec.json.encode(secret).decode()[1:-1]
            self._secrets |= {secret, escaped}
            # Longest first, because one key may be the beginning of another.
            longest_first = sorted(self._secrets, key=len, reverse=True)
            pattern = "|".join(map(re.escape, longest_first))
            self._pattern, self._in_bytes = re.compile(pattern), re.compile(pattern.encode())
            self._parts = self._long_parts()
            self.name = self._names()

    def is_in(self, line: bytes) -> bool:
        """Whether *line* holds a secret, plain or escaped as in JSON."""
        if self._in_bytes is None:
            return False
        if self._parts is None:
            return self._in_bytes.search(line) is not None
        return any(map(self._in_bytes.search, self._parts.findall(line)))

    def redact(self, text: str) -> str:
        """Return *text* with each secret replaced."""
        return self._pattern.sub("***", text) if self._pattern else text

    def _long_parts(self) -> re.Pattern[bytes] | None:
        # Searching a whole line for a hundred secrets takes over 100 us, and few of its texts are as long as a key.
        if len(self._secrets) <= FEW_SECRETS or any('"' in secret for secret in self._secrets):
            return None
        return re.compile(rb'"([^"]{%d,})' % min(len(secret.encode()) for secret in self._secrets))

    def _names(self) -> Callable[[str], str]:
        return lru_cache(maxsize=1024)(partial(_text, redactor=self))


def json_line(entry: Entry, redactor: Redactor) -> bytes:
    """Return *entry* as a JSON object on one line."""
    time_ns, level, logger, fields = entry
    line: dict[str, Any] = {
        "timestamp": timestamp(time_ns),
        "level": level,
        "logger": logger,
        **OF_EVERY_LINE,
        "event": "",
    }
    for name, value in fields.items():
        if name not in _RESERVED:
            kind = type(value)
            is_plain = kind in _UNCHANGED or (kind is int and -MAX_SAFE_INT <= value <= MAX_SAFE_INT)
            line[redactor.name(name)] = value if is_plain else _plain(value, redactor)
    return _safe(msgspec.json.encode(line, enc_hook=str).decode())


def json_line_of(members: msgspec.Struct, event: str, head: Head, redactor: Redactor) -> bytes:
    """Return the line with *members* as fields, ten times as fast as :func:`json_line`; long texts are not cut."""
    time_ns, level, logger = head
    seconds, rest_ns = divmod(time_ns, 1_000_000_000)
    milliseconds = b"%03dZ" % (rest_ns // 1_000_000)
    line = b"".join((_start(seconds), milliseconds, _words(level, logger, event), _encode(members)[1:], b"\n"))
    if redactor.is_in(line):
        return json_line((time_ns, level, logger, {"event": event, **msgspec.to_builtins(members)}), redactor)
    return line if line.isascii() and _DEL not in line else _safe(line[:-1].decode())


@lru_cache(maxsize=2)
def _start(seconds: int) -> bytes:
    return b'{"timestamp":"%b.' % _to_the_second(seconds).encode()


@lru_cache(maxsize=256)
def _words(level: str, logger: str, event: str) -> bytes:
    return b'",%b,' % msgspec.json.encode({"level": level, "logger": logger, **OF_EVERY_LINE, "event": event})[1:-1]


def pretty_line(entry: Entry, redactor: Redactor, *, in_colour: bool = False) -> bytes:
    """Return *entry* for a person to read."""
    time_ns, level, logger, fields = entry
    padded = f"{level:<8}"
    shown_level = f"\x1b[{_COLOURS.get(level, '0')}m{padded}\x1b[0m" if in_colour else padded
    words = [logger, _word(_plain(fields.get("event", ""), redactor))]
    words += [
        f"{name}={_word(_plain(value, redactor))}"
        for name, value in (OF_EVERY_LINE | fields).items()
        if name not in _RESERVED and name != "event"
    ]
    # The escape sequence of the colour must not be escaped itself.
    return f"{timestamp(time_ns)} {shown_level} ".encode() + _safe(" ".join(words))


def wants_colour(environ: Mapping[str, str], *, is_terminal: bool) -> bool:
    """Whether to colour what a stream shows: only on a terminal that can, and without NO_COLOR (https://no-color.org)."""
    return is_terminal and not environ.get("NO_COLOR") and environ.get("TERM") != "dumb"


def timestamp(time_ns: int) -> str:
    """Return *time_ns* as RFC 3339 in UTC, to the millisecond."""
    seconds, rest_ns = divmod(time_ns, 1_000_000_000)
    return f"{_to_the_second(seconds)}.{rest_ns // 1_000_000:03d}Z"


@lru_cache(maxsize=2)
def _to_the_second(seconds: int) -> str:
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%S}"


def _safe(line: str) -> bytes:
    if not line.isascii() or "\x7f" in line:
        line = _HARMFUL.sub(_escaped, line)
    return line.encode() + b"\n"


def _escaped(match: re.Match[str]) -> str:
    """Return a character as a JSON escape, or as two beyond U+FFFF."""
    units = match[0].encode("utf-16-be")
    return "".join(f"\\u{units[i : i + 2].hex()}" for i in range(0, len(units), 2))


def _plain(value: Any, redactor: Redactor, depth: int = 0) -> Any:
    """Return *value* as a type of JSON, with long, large and deep values cut."""
    if isinstance(value, str):
        return _text(value, redactor)
    if isinstance(value, int):
        return value if -MAX_SAFE_INT <= value <= MAX_SAFE_INT else hex(value)[:MAX_TEXT]
    if type(value) in _UNCHANGED:
        return value
    if isinstance(value, Mapping) and depth < MAX_DEPTH:
        some = list(value.items())[:MAX_ITEMS]
        return {_text(str(key), redactor): _plain(item, redactor, depth + 1) for key, item in some}
    if isinstance(value, list | tuple | set | frozenset) and depth < MAX_DEPTH:
        return [_plain(item, redactor, depth + 1) for item in list(value)[:MAX_ITEMS]]
    if isinstance(value, bytes | bytearray):
        return _text(bytes(value[: 4 * MAX_TEXT]).decode("utf-8", "backslashreplace"), redactor)
    return _text(str(value), redactor)


def _text(text: str, redactor: Redactor) -> str:
    # Before escaping and cutting, after either of which a secret would not match any more.
    text = redactor.redact(text)
    if len(text) > MAX_TEXT:
        text = text[:MAX_TEXT] + "…"
    # A lone surrogate, from a header or a file name, cannot be encoded in UTF-8.
    return text if text.isascii() else text.encode("utf-8", "backslashreplace").decode()


def _word(value: Any) -> str:
    """Return *value* as a bare word, or as JSON where a word would be ambiguous."""
    if isinstance(value, str) and _PLAIN_WORD.fullmatch(value):
        return value
    return msgspec.json.encode(value, enc_hook=str).decode()
