"""Explains decisions: the records of what was decided become sentences and JSON for people."""
