"""Backends that watched files list."""
