"""TOML, ``NEXUS_*`` variables and command-line options, turned into one checked value.

``loading`` does all of it: ``env`` and ``texts`` read variables and options, ``decoding`` applies the types of
``schema``, ``checks`` the rules between keys, and ``secrets`` follows references to keys.
"""
