"""The harness of the project's own tests; what authors of plugins use is in :mod:`nexus.testing`."""
