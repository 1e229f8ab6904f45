"""Configures structlog: levels per component, lines encoded at the call and written by a thread."""

import atexit
import logging
import os
import sys
import time
from collections.abc import Callable, Mapping
from traceback import TracebackException, walk_tb
from typing import Any, Final, Literal, TextIO

import msgspec
import structlog

from nexus.config.schema import LoggingConfig
from nexus.observability.logging.rendering import (
    OF_EVERY_LINE,
    Entry,
    Head,
    Redactor,
    json_line,
    json_line_of,
    pretty_line,
    timestamp,
    wants_colour,
)
from nexus.observability.logging.writing import LogWriter, Loss, Turn, writer_to

Level = Literal["debug", "info", "warning", "error", "critical"]

LEVELS: Final[Mapping[str, int]] = {
    "debug": logging.DEBUG,
    "info": logging.INFO,
    "warning": logging.WARNING,
    "error": logging.ERROR,
    "critical": logging.CRITICAL,
}
URGENT: Final = frozenset({"warning", "error", "critical"})
"""Lines of these levels are written soon, not those of :func:`write_line`: each request of a failing fleet has one."""
STOP_TIMEOUT_S: Final = 2.0
MAX_FRAMES: Final = 20

_redactor = Redactor()


def configure(config: LoggingConfig, *, stream: TextIO | None = None) -> None:
    """Write logs to *stream*, standard error by default, as *config* says; called again at each reload."""
    stream = stream or sys.stderr
    shows_content_from_now_on = config.enable_content_logging and not _thresholds.config.enable_content_logging
    _thresholds.use(config)
    _sink.open(stream, as_json=config.format == "json" or (config.format == "auto" and not stream.isatty()))
    structlog.configure(
        processors=_processors,
        wrapper_class=_bound_logger,  # type: ignore[arg-type]  # structlog only calls it
        logger_factory=_thresholds.channel,
        # Levels change at a reload. What every request logs goes through `write_line`, which needs no bound logger.
        cache_logger_on_first_use=False,
    )
    _from_libraries.install()
    if shows_content_from_now_on:
        # Whatever the level: readers of this log should know that it may hold prompts.
        fields = {"event": "content_logging_enabled", "key": "logging.enable_content_logging"}
        _sink.put((time.time_ns(), "warning", "nexus.observability", fields))


def share(lock: int, *, worker: int | None = None) -> None:
    """Write to the same place as other processes from now on.

    :param lock: the descriptor of :func:`~nexus.observability.logging.writing.make_lock`, the same for all.
    :param worker: the number of this process, for every line of it; None: the parent.
    """
    _sink.turn.lock = lock
    if worker is not None:
        OF_EVERY_LINE["worker"] = worker


def shutdown() -> None:
    """Write the queued lines, within two seconds, and stop logging."""
    _from_libraries.uninstall()
    _sink.close()


def dropped() -> int:
    """Return how many entries were dropped, because the log could not keep up or could not be written."""
    return _sink.dropped


def hide(secret: str) -> None:
    """Replace *secret* by ``***`` in every log line."""
    _redactor.add(secret)


def without_secrets(text: str) -> str:
    """Return *text* with each hidden secret replaced."""
    return _redactor.redact(text)


class Channel:
    """Name and level of a logger; all loggers of one name share it."""

    __slots__ = ("component", "name", "threshold")

    def __init__(self, name: str, threshold: int) -> None:
        self.name = name
        self.component = component_of(name)
        self.threshold = threshold

    def write(self, level: str, fields: dict[str, Any]) -> None:
        _sink.put((time.time_ns(), level, self.name, fields))

    # structlog calls the method that is named like the level.
    debug = info = warning = error = critical = write


def channel(name: str) -> Channel:
    return _thresholds.channel(name)


def component_of(logger: str) -> str:
    """Return the name of *logger* in ``component_levels``: ``routing`` for ``nexus.routing.pipeline``, ``night`` for
    ``nexus_night.reconciler``, ``aiohttp`` for ``aiohttp.server``.
    """
    first, _, rest = logger.partition(".")
    return rest.partition(".")[0] if first == "nexus" and rest else first.removeprefix("nexus_")


def write_line(logger: str, level: Level, event: str, members: msgspec.Struct) -> None:
    """Log *members* in a few microseconds; for the lines that every request writes.

    The caller has checked the level and cut long texts.
    """
    if _sink.writer is None or _processors[0] is not _to_channel:
        getattr(structlog.get_logger(logger), level)(event, **msgspec.to_builtins(members))
    else:
        _sink.put_members((time.time_ns(), level, logger), event, members)


_LOGGERS: Final[Mapping[int, Callable[..., structlog.typing.FilteringBoundLogger]]] = {
    level: structlog.make_filtering_bound_logger(level) for level in LEVELS.values()
}


def _bound_logger(channel: Channel, **parts: Any) -> structlog.typing.FilteringBoundLogger:
    return _LOGGERS[channel.threshold](channel, **parts)


def _to_channel(_: Channel, level: str, fields: Any) -> Any:
    """Expand the exception among *fields* and return the arguments of :meth:`Channel.write`."""
    if "exc_info" in fields:
        fields.update(_exception_fields(fields.pop("exc_info")))
    return (level, fields), {}


def _exception_fields(exc_info: Any) -> dict[str, Any]:
    """Return type, message, traceback and cause of an exception; never the values of local variables."""
    exc = sys.exc_info()[1] if exc_info is True else exc_info[1] if isinstance(exc_info, tuple) else exc_info
    if not isinstance(exc, BaseException):
        return {}
    fields: dict[str, Any] = {"error_type": type(exc).__qualname__, "error": _message(exc), "traceback": _frames(exc)}
    if cause := exc.__cause__ or exc.__context__:
        fields["caused_by"] = f"{type(cause).__qualname__}: {_message(cause)}"
    return fields


def _message(exc: BaseException) -> str:
    # Unlike str(), this survives an exception whose own __str__ fails.
    return str(TracebackException(type(exc), exc, None, lookup_lines=False, compact=True))


def _frames(exc: BaseException) -> list[str]:
    frames = [(frame.f_code.co_filename, line, frame.f_code.co_name) for frame, line in walk_tb(exc.__traceback__)]
    return [f"{'/'.join(file.split('/')[-3:])}:{line} {name}" for file, line, name in frames[-MAX_FRAMES:]]


class _Thresholds:
    """The level of each logger in use."""

    def __init__(self) -> None:
        self.config = LoggingConfig()
        self._channels: dict[str, Channel] = {}

    def channel(self, name: str = "nexus", *_: Any) -> Channel:
        if name not in self._channels:
            self._channels[name] = Channel(name, self._level_of(component_of(name)))
        return self._channels[name]

    def use(self, config: LoggingConfig) -> None:
        self.config = config
        for channel in self._channels.values():
            channel.threshold = self._level_of(channel.component)

    def _level_of(self, component: str) -> int:
        return LEVELS[self.config.component_levels.get(component, self.config.level)]


class _Sink:
    """Encodes entries for the writer when they are logged, because their values may change later.

    Without a writer, entries are dropped and counted.
    """

    def __init__(self) -> None:
        self.writer: LogWriter | None = None
        self.turn = Turn()
        self._stream: TextIO | None = None
        self._as_json = True
        self._in_colour = False
        self._dropped_before = 0

    @property
    def dropped(self) -> int:
        return self._dropped_before + (self.writer.dropped if self.writer else 0)

    def open(self, stream: TextIO, *, as_json: bool) -> None:
        self._as_json = as_json
        self._in_colour = wants_colour(os.environ, is_terminal=stream.isatty())
        if self.writer is None or self._stream is not stream:
            self.close()
            self._stream, self.writer = stream, LogWriter(writer_to(stream), self._report, self.turn)

    def put(self, entry: Entry, *, may_wait: bool = False) -> None:
        """:param may_wait: at any level; otherwise, only debug and info lines wait for others to be written with."""
        if self.writer is not None:
            self.writer.put(self._line(entry), is_urgent=not may_wait and entry[1] in URGENT)
        else:
            self._dropped_before += 1

    def put_members(self, head: Head, event: str, members: msgspec.Struct) -> None:
        if self.writer is not None and self._as_json:
            try:
                line = json_line_of(members, event, head, _redactor)
            except UnicodeEncodeError:
                pass
            else:
                self.writer.put(line)
                return
        # A lone surrogate, from a header or a model's name, cannot be encoded in UTF-8: `put` escapes it.
        self.put((*head, {"event": event, **msgspec.to_builtins(members)}), may_wait=True)

    def _line(self, entry: Entry) -> bytes:
        try:
            return self._rendered(entry)
        except Exception as exc:  # noqa: BLE001 - a value of any class may be logged, and must not fail the request
            time_ns, level, logger, fields = entry
            shown = {"event": fields.get("event"), "fields_not_shown": type(exc).__qualname__}
            return self._rendered((time_ns, level, logger, shown))

    def _rendered(self, entry: Entry) -> bytes:
        if self._as_json:
            return json_line(entry, _redactor)
        return pretty_line(entry, _redactor, in_colour=self._in_colour)

    def _report(self, loss: Loss) -> bytes:
        fields = {
            "event": "log_lines_dropped",
            "count": loss.queue_full + loss.write_failed,
            "since": timestamp(loss.since_ns),
            "queue_full": loss.queue_full,
            "write_failed": loss.write_failed,
            "error": loss.error,
        }
        return self._line((time.time_ns(), "warning", "nexus.observability", fields))

    def close(self) -> None:
        if self.writer is not None:
            self.writer.stop(STOP_TIMEOUT_S)
            self._dropped_before += self.writer.dropped
            self.writer = self._stream = None


class _FromLibraries(logging.Handler):
    """Passes what libraries log through the standard library, from warnings on, to the same writer."""

    def install(self) -> None:
        root = logging.getLogger()
        if self not in root.handlers:
            root.addHandler(self)
        root.setLevel(logging.WARNING)
        logging.captureWarnings(capture=True)

    def uninstall(self) -> None:
        logging.captureWarnings(capture=False)
        logging.getLogger().removeHandler(self)

    def emit(self, record: logging.LogRecord) -> None:
        channel = _thresholds.channel(record.name)
        if record.levelno < channel.threshold:
            return
        fields = {"event": "library_message", "message": record.getMessage()}
        if record.exc_info:
            fields |= _exception_fields(record.exc_info)
        level = record.levelname.lower()
        _sink.put((time.time_ns(), level if level in LEVELS else "warning", record.name, fields))


_thresholds = _Thresholds()
_processors = [_to_channel]
"""Always the same list, because structlog's testing tools change it in place."""
_sink = _Sink()
_from_libraries = _FromLibraries()
atexit.register(shutdown)
