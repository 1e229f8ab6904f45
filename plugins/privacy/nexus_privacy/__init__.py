"""Keeps restricted requests on your own backends: a stage for Nexus."""

__version__ = "0.1.0"
