"""Whether a backend can be trusted with a request: watches that probe it, and evidence from traffic."""
