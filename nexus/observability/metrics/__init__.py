"""Numbers: ``exchanges`` counts each finished exchange, ``exposition`` writes all counts as text for Prometheus.

``figures`` and ``timeline`` are for the statistics and the charts, ``plugin_series`` for the metrics of plugins.
"""
