"""Counters of all exchanges, and their format for Prometheus.

=====================  ==================================================================
``exchanges``          counts every exchange
``counters``           the counters of backends and models
``times``              how long requests took, as histograms
``histogram``          buckets, sums and exemplars
``process``            metrics of the process and of Python
``plugin_series``      limits the series of plugins, and keeps their counts over reloads
``families``           a metric with its series
``merging``            merges the families of several workers
``totals``             the sums that /v1/stats and the dashboard show
``label_values``       replaces special characters in labels
``exposition``         writes families in Prometheus's formats
``timeline``           the last hour, for charts
``recent_rejections``  the refusals of the last five minutes
=====================  ==================================================================
"""
