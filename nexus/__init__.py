"""Nexus: one door in front of a fleet of LLM servers.

``fleet`` knows, ``routing`` decides, ``wire`` translates, ``proxy`` carries.

=================  ==================================================================
``api``            all that a plugin may import
``app``            the composition root: config, plugins, fleet, pipeline, servers
``domain``         nouns: frozen structs, no I/O
``config``         TOML and ``NEXUS_*`` into one checked value
``wire``           bytes and meaning, per protocol, without I/O
``routing``        which backend and why, without I/O
``fleet``          what is true about the backends
``proxy``          carries bytes between clients and backends
``simulator``      an inference server that isn't there
=================  ==================================================================
"""

__version__ = "0.1.0"
