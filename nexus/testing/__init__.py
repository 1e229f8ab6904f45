"""Fixtures, builders and contract classes for the tests of plugins; the core never imports it."""
