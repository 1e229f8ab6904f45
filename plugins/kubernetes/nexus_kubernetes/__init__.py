"""Finds the servers behind Kubernetes services: a discoverer for Nexus."""

__version__ = "0.1.0"
