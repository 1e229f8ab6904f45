"""Figures: counted while exchanges run, written as text for Prometheus when it asks."""
