"""Which servers that announced themselves may join the fleet."""
