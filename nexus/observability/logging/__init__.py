"""Structured logs: a call is a level check, rendering and writing happen in a thread."""
