"""Logs, metrics and traces.

===========  ==================================================================
``logging``  structured log lines, written by a thread
``metrics``  counters of all exchanges, and their format for Prometheus
``tracing``  spans for an OpenTelemetry collector, exported by a thread
===========  ==================================================================
"""
