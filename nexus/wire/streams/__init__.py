"""Streamed answers: bytes in, whole events out, watched on their way.

``event``          one event
``event_buffer``   an incomplete event, and the memory that all of them may take
``sse``, ``ndjson``  the two framings: server-sent events and JSON lines
``scan``           watches a stream: content, errors, usage, end
``summary``        shortens a long event to what has to be remembered of it
``merging``        merges the deltas of a stream into one document
"""
