"""Streamed answers: bytes are split into whole events, which are watched.

================  ==================================================================
``event``         one event, and its purpose
``event_buffer``  an incomplete event, within limits
``sse``           the framing of server-sent events
``ndjson``        the framing of JSON lines
``scan``          watches a stream: content, errors, usage, end
``summary``       shortens a long event that is remembered
``merging``       merges the deltas of a stream
================  ==================================================================
"""
