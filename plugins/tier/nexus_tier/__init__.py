"""Keeps requests away from models that are too weak for them: a stage for Nexus."""

__version__ = "0.1.0"
