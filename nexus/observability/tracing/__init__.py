"""Spans for an OpenTelemetry collector, exported by a thread.

===========  ==================================================================
``trace``    the trace context of a running exchange
``spans``    the spans of an ended exchange
``writing``  the queue of ended exchanges and the thread that exports their spans
===========  ==================================================================
"""
