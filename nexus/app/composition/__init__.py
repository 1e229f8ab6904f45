"""Builds everything from a configuration, and starts nothing.

===============  ==================================================================
``blueprint``    the result: plugins, router, fleet, access rules, store
``guards``       attributes failures of plugin code to the plugin
``own_address``  finds backends that are this proxy itself
``tracing``      checks and opens the export of traces
``loading``      loads configurations and backends with the secrets of this process
===============  ==================================================================
"""
