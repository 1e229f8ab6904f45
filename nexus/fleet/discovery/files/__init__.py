"""Backends in watched files: ``discoverer`` watches, ``watched_file`` reads one, ``declared`` resolves clashes."""
