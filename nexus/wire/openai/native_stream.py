"""Watches the streams of an engine's own endpoints, which end in as many ways as there are engines."""

from nexus.wire.event import Event
from nexus.wire.openai.media_stream import MediaScan


class NativeScan(MediaScan):
    """Events whose last one looks like all others: a clean end of the body ends the answer."""

    __slots__ = ()

    second_usage_mark = b'"predicted_n"'
    """Of llama.cpp, in its last event."""

    def is_end(self, events: list[Event]) -> bool:
        return bool(events)
