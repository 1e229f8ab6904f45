"""The plugins that are installed, and the pages they add."""
