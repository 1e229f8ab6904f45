"""The running proxy and its parts."""
