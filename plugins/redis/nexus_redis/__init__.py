"""Lets several replicas share their state through Redis or Valkey: a store for Nexus."""

__version__ = "0.1.0"
