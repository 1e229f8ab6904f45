"""Servers that announce themselves by mDNS."""
