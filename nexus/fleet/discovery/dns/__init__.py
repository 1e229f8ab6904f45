"""Servers that DNS names lead to."""
