"""The page for Prometheus, ``/metrics``, and what each part of Nexus contributes to it."""
