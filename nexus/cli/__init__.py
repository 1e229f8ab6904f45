"""The command line: ``main`` finds the command, ``options`` what they share, and each command has a module."""
