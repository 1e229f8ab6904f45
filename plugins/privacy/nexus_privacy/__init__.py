"""Keeps restricted requests on backends of your own: a stage for Nexus."""

__version__ = "0.1.0"
