"""Finds the servers behind services of Kubernetes: a discoverer for Nexus."""

__version__ = "0.1.0"
