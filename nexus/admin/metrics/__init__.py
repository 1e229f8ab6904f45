"""``/metrics``, and the metrics that are read when it is scraped.

===================  ==================================================================
``page``             writes all metrics in the format that the client accepts
``format``           chooses between the text format and OpenMetrics
``fleet``            backends, models and probes
``proxy``            connections, the queue, the event loop, traces
``store``            failures of the store
``stages``           the routing pipeline, and what its stages measure
``plugin_measures``  keeps counters of plugins growing over reloads
``loop_lag``         measures the lag of the event loop
===================  ==================================================================
"""
