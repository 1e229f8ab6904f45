"""Servers in the records of DNS names: ``discoverer`` looks the names up, ``answers`` decides what follows."""
