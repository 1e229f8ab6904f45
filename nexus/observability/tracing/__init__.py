"""Traces: the spans of each exchange, exported to an OpenTelemetry collector."""
