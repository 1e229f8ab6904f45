"""Servers at the ports of this machine, of hosts and of subnets."""
