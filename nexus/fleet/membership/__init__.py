"""Which backends belong to the fleet: the registry, and what is configured for each member."""
