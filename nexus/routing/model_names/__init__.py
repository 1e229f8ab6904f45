"""From the name in a request to models: ``resolution`` of aliases, ``globs`` as patterns, ``nameless`` requests."""
