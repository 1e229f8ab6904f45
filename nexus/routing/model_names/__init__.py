"""From the name in a request to backends: ``resolution`` of names and aliases, cached by ``resolver``; ``globs``."""
