"""How candidates are ordered: ``strategies`` rank them by the load, latency, shares and turns of ``scoring``."""
