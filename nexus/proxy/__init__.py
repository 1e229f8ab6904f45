"""Carries bytes between clients and backends; :mod:`nexus.proxy.exchange.exchange` reads as the life of a request."""
