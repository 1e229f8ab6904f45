"""How candidates are ordered: ``strategies`` score and rank them, by load and latency (``scoring``) and ``shares``."""
