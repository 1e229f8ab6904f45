"""TOML, ``NEXUS_*`` variables and command-line options, turned into one checked value."""
