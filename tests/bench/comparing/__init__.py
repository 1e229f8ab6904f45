"""Nexus beside other proxies: the same fake upstream, the same load, the same core, in the same run."""
