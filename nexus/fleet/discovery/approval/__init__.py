"""Servers that announced themselves join the fleet only once they are trusted.

``applicants`` detects the kind of each, ``trust`` decides about it, and ``approvals`` stores administrators' decisions.
"""
