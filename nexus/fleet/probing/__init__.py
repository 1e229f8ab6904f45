"""Probes: is a backend well, of which kind is it, and which models does it have."""
