"""Structured log lines, written by a thread.

=============  ==================================================================
``logs``       configures structlog, and levels per component
``rendering``  an entry as a line of JSON or text, without secrets
``writing``    the queue of lines and the thread that writes them
``repeats``    limits repeated events
=============  ==================================================================
"""
