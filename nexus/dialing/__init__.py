"""How a backend is reached, by traffic and probes alike: its paths, credentials, certificates and connections."""
