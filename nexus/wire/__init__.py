"""Bytes and meaning: the protocols of clients and backends, without I/O."""
