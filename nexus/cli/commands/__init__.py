"""One module per command of ``nexus-proxy``."""
