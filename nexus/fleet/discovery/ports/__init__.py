"""Servers at the usual ports of this machine (``local``), or at named hosts and subnets (``hosts``).

``open_port`` is one port of a host, and what listens there.
"""
