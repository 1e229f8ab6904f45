"""Finding backends that nobody configured."""
